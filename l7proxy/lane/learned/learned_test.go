package learned

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// series counts who has one.
type series struct {
	next, used uint32
	most       uint32
}

func (s *series) Put(*rpc.Call, uint8, func(uint64)) (uint32, bool) {
	if s.used == s.most {
		return 0, false
	}
	s.used++
	s.next++
	return s.next, true
}

func (s *series) Drop(uint32) { s.used-- }

func (s *series) Adopt(uint32, *rpc.Call, uint8, func(uint64)) bool { return false }

func newBook(most uint32) (*Book, *series) {
	s := &series{most: most}
	return New(&lane.Memory{Sizes: lane.Sizes{Routes: 64}, Routes: make([]lane.Route, 64), Active: make([]uint64, 4)}, s), s
}

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 20880)
}

var key = Key{Workload: "consumer", Original: address(200)}

// asked is a request for a method in hessian2.
func asked(method string, now time.Time) *Asked {
	names := "\x052.0.2\x04Echo\x050.0.0" + string(rune(len(method))) + method
	return &Asked{
		Header: codec.Header{Flags: lane.Hessian2}, Body: []byte(names + "arguments"), Now: now,
		Prefix: codec.Prefix{Path: "Echo", Version: "0.0.0", Method: method, End: len(names)},
	}
}

// among is a verdict for the lane that does not stand without grounds: it is put by place.
func among(weights ...[]uint32) *verdict.Verdict {
	v := &verdict.Verdict{Reason: verdict.Lane}
	n := 0
	for i, ends := range weights {
		s := verdict.Share{Weight: uint32(i + 1), Policy: snapshot.RoundRobin}
		for _, w := range ends {
			n++
			e := &upstream.Edge{Edge: exchange.Edge{SameNode: &rpc.Call{}}}
			s.Ends = append(s.Ends, verdict.End{Edge: e, Address: address(n), Weight: w})
		}
		v.Shares = append(v.Shares, s)
	}
	return v
}

// put places a name, whatever its verdict's grounds.
func (b *Book) put(a *Asked, v *verdict.Verdict) (*Name, verdict.Reason) {
	w, n := b.Of(key), newName(a, v)
	w.in(a.Header)[string(a.names())] = n
	n.Verdict.Reason = b.place(w, n, a)
	return n, n.Verdict.Reason
}

// TestShares: each endpoint gets what the verdict gives it, over random verdicts: no
// endpoint has the number of another.
func TestShares(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		b, _ := newBook(100)
		weights := make([][]uint32, 1+random.IntN(3))
		for i := range weights {
			for range 1 + random.IntN(2) {
				weights[i] = append(weights[i], uint32(1+random.IntN(5)))
			}
		}
		v := among(weights...)
		n, why := b.put(asked("echo", time.Now()), v)
		if why != verdict.Lane {
			t.Fatalf("round %d: %v: %s", round, weights, why)
		}
		r, w := &b.Memory.Routes[n.place], b.Of(key)
		sum, below := 0.0, 0.0
		for i := range v.Shares {
			sum += float64(v.Shares[i].Weight)
		}
		for i := range v.Shares {
			below += float64(v.Shares[i].Weight) / sum
			if got := float64(r.Shares[i].UpTo) / (1 << 32); got < below-1e-6 || got > below+1e-6 {
				t.Errorf("round %d: share %d ends at %f, want %f", round, i, got, below)
			}
			got := make(map[netip.AddrPort]uint32)
			for _, k := range r.Shares[i].Choices[:r.Shares[i].Count] {
				got[w.Ends[k]]++
			}
			var all uint32
			for _, e := range v.Shares[i].Ends {
				all += e.Weight
			}
			for _, e := range v.Shares[i].Ends {
				if got[e.Address]*all != e.Weight*uint32(r.Shares[i].Count) {
					t.Errorf("round %d: %s has %d of %d choices, want %d of %d", round, e.Address, got[e.Address], r.Shares[i].Count, e.Weight, all)
				}
			}
			if len(got) != len(v.Shares[i].Ends) {
				t.Errorf("round %d: choices %v of share %d", round, got, i)
			}
		}
	}
}

// TestApart: a round of choices goes from one endpoint to the other as soon as it may.
func TestApart(t *testing.T) {
	b, _ := newBook(100)
	n, _ := b.put(asked("echo", time.Now()), among([]uint32{2, 1}))
	s := &b.Memory.Routes[n.place].Shares[0]
	if got := s.Choices[:s.Count]; !slices.Equal(got, []uint8{0, 1, 0}) {
		t.Errorf("choices %v, want one between the two", got)
	}
}

// TestRoom: what there is no room for stays with the proxy, and takes nothing.
func TestRoom(t *testing.T) {
	long := make([]byte, 31)
	for i := range long {
		long[i] = 'x'
	}
	nine := make([]uint32, 9)
	for i := range nine {
		nine[i] = 1
	}
	for _, tt := range []struct {
		name   string
		method string
		series uint32
		v      *verdict.Verdict
		want   verdict.Reason
	}{
		{"more providers than ends", "echo", 100, among(nine), verdict.TooMany},
		{"more weight than choices", "echo", 100, among([]uint32{20, 7}), verdict.TooMany},
		{"no series", "echo", 1, among([]uint32{1, 1}), verdict.TooMany},
		{"names that the programs do not walk", "\u00e9cho", 100, among([]uint32{1}), verdict.Undecodable},
		{"a long method", string(long), 100, among([]uint32{1}), verdict.Lane},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, s := newBook(tt.series)
			a := asked(tt.method, time.Now())
			if tt.want == verdict.Undecodable { // its length counts characters
				a.Body[17] = byte(len([]rune(tt.method)))
			}
			n, why := b.put(a, tt.v)
			if why != tt.want || n.Placed != (why == verdict.Lane) {
				t.Errorf("%s, placed %t; want %s", why, n.Placed, tt.want)
			}
			if !n.Placed && s.used > 0 {
				t.Errorf("%d series are kept", s.used)
			}
		})
	}
}

// rider is a lane with some connections.
type rider struct {
	nudges int
	ends   uint32
}

func (r *rider) Nudge()         { r.nudges++ }
func (r *rider) Has(k int) bool { return r.ends&(1<<k) != 0 }

// TestRemoved: a name whose provider is refused has no route; its place is another's when
// nothing in flight names it, and its end when no lane has it.
func TestRemoved(t *testing.T) {
	b, s := newBook(100)
	now := time.Now()
	w, l := b.Of(key), &rider{ends: 1}
	w.Lanes[l] = true
	n, _ := b.put(asked("echo", now), among([]uint32{1}))
	b.Refuse(w, address(1), now.Add(time.Minute))
	if b.Memory.Routes[n.place].Hash != 0 || n.Placed || w.Wanted != 0 || l.nudges != 1 {
		t.Errorf("placed %t, wanted %b, %d nudges", n.Placed, w.Wanted, l.nudges)
	}
	if b.Name(n.place) != n || s.used != 1 {
		t.Error("what is in flight has no name any more")
	}
	if _, why := b.put(asked("echo", now), among([]uint32{1})); why != verdict.Remote {
		t.Errorf("a refused provider: %s", why)
	}
	b.Rested(b.Rest(), func(uint32) bool { return true })
	if b.Name(n.place) != n {
		t.Error("a place that is used was given away")
	}
	b.Rested(b.Rest(), func(uint32) bool { return false })
	if b.Name(n.place) != nil || s.used != 0 {
		t.Errorf("the place is kept, %d series", s.used)
	}
	if _, why := b.put(asked("echo", now.Add(time.Hour)), among([]uint32{1})); why != verdict.Lane || w.Wanted != 1 {
		t.Errorf("an hour later: %s", why)
	}
}

// TestAsked: a name that is left to the proxy is asked again after a while, one that has a
// route is not.
func TestAsked(t *testing.T) {
	b, _ := newBook(100)
	now := time.Now()
	if b.Learn(key, asked("echo", now), &verdict.Verdict{Reason: verdict.Remote}, false) {
		t.Error("a name for the proxy has a route")
	}
	for _, tt := range []struct {
		after  time.Duration
		placed bool
		known  bool
	}{{0, false, true}, {askAgain / 2, false, true}, {askAgain, false, false}} {
		if placed, known := b.Known(key, asked("echo", now.Add(tt.after))); placed != tt.placed || known != tt.known {
			t.Errorf("after %v: placed %t, known %t", tt.after, placed, known)
		}
	}
	_, _ = b.put(asked("other", now), among([]uint32{1}))
	if placed, known := b.Known(key, asked("other", now.Add(time.Hour))); !placed || !known {
		t.Errorf("with a route: placed %t, known %t", placed, known)
	}
	b.Tidy(now)
	b.Tidy(now.Add(forgetAfter + 1))
	if len(b.Ways()) > 0 {
		t.Error("a way without lanes is remembered")
	}
}
