package learned

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/gauge"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// elsewhere adds endpoints to a share that are the proxy's.
func elsewhere(s *verdict.Share, first int, weights ...uint32) {
	for i, w := range weights {
		s.Elsewhere = append(s.Elsewhere, verdict.End{Address: address(first + i), Weight: w, Active: new(gauge.Gauge)})
	}
}

const led = 0x300

func there(number int) lane.Drawn { return lane.Drawn(led | 0x800 | number<<16) }
func end(number int) lane.Drawn   { return lane.Drawn(led | 0x1000 | number<<16) }

// TestTarget: a share of the proxy's has no choices, and what is drawn for it leads to its
// target.
func TestTarget(t *testing.T) {
	b, _ := newBook(100)
	v := among([]uint32{1}, nil)
	v.Shares[0].Target, v.Shares[1].Target, v.Shares[1].Remote = 1, 2, true
	a := asked("echo", time.Now())
	n, why := b.put(a, v)
	if why != verdict.Lane {
		t.Fatal(why)
	}
	r := &b.Memory.Routes[n.place]
	if r.Flags&lane.Mixed == 0 || r.Count != 2 || r.Shares[0].Count != 1 || r.Shares[1].Count != 0 || r.Shares[0].UpTo != 1431655764 {
		t.Errorf("flags %d, shares %+v", r.Flags, r.Shares)
	}
	for d, want := range map[lane.Drawn]int{0: 0, 0x500: 0, led: 1, led | 1: 2, led | 2: 0, led | 0x400: 1} {
		if got := b.Drawn(key, a, d); got != (router.Lead{Target: want, Span: d&0x400 != 0}) {
			t.Errorf("%x leads to %v, want %d", d, got, want)
		}
	}
	if got := b.Drawn(key, asked("other", time.Now()), led|1); got != (router.Lead{}) {
		t.Errorf("names that nobody knows lead to %v", got)
	}
	if b.List(nobody)[0].Way != "lane" {
		t.Errorf("listed as %+v", b.List(nobody))
	}
	if got := b.Drawn(key, a, end(0)); got != (router.Lead{Target: 1, Endpoint: address(1)}) {
		t.Errorf("an end that was drawn leads to %v", got)
	}
	if got := b.Drawn(key, a, end(5)); got != (router.Lead{Target: 1}) {
		t.Errorf("an end that the name has not leads to %v", got)
	}
}

// TestElsewhere: in turn and at random a part of a share is for endpoints elsewhere, and among them
// each has its weight.
func TestElsewhere(t *testing.T) {
	for _, policy := range []snapshot.Policy{snapshot.RoundRobin, snapshot.Random} {
		b, _ := newBook(100)
		v := among([]uint32{2, 4})
		v.Shares[0].Policy = policy
		elsewhere(&v.Shares[0], 10, 3, 1, 6)
		a := asked("echo", time.Now())
		n, why := b.put(a, v)
		if why != verdict.Lane {
			t.Fatal(why)
		}
		r := &b.Memory.Routes[n.place]
		s := &r.Shares[0]
		if got := float64(s.Beyond) / (1 << 32); math.Abs(got-10.0/16) > 1e-9 || s.Count != 3 || r.Flags&lane.Mixed == 0 || r.Flags&lane.CountsActive != 0 {
			t.Errorf("%d: %f elsewhere, %+v, flags %d", policy, got, s, r.Flags)
		}
		if here := b.Here(key, a); math.Abs(here-6.0/16) > 1e-9 {
			t.Errorf("%f are for ends", here)
		}
		const rounds = 20_000
		got := make(map[netip.AddrPort]float64)
		for range rounds {
			got[b.Drawn(key, a, there(lane.Anybody)).Endpoint]++
		}
		for i, weight := range []float64{3, 1, 6} {
			// Six standard deviations.
			part := weight / 10
			if bound := 6 * math.Sqrt(part*(1-part)/rounds); math.Abs(got[address(10+i)]/rounds-part) > bound {
				t.Errorf("%d: %v of %d, want %v", policy, got[address(10+i)], rounds, part)
			}
		}
		if allocs := testing.AllocsPerRun(100, func() { b.Drawn(key, a, there(lane.Anybody)) }); allocs != 0 {
			t.Errorf("%v allocations for each request", allocs)
		}
	}
}

// TestCandidates: by least request the candidates are ends and then the others, all counted, and
// what is drawn for one of the others leads there.
func TestCandidates(t *testing.T) {
	b, _ := newBook(100)
	b.Memory.Active = make([]uint64, 100)
	b.actives = newActives(b.Memory)
	v := among([]uint32{1, 1}, []uint32{5, 1})
	for i := range v.Shares {
		v.Shares[i].Policy, v.Shares[i].Target = snapshot.LeastRequest, i+1
		for e := range v.Shares[i].Ends {
			v.Shares[i].Ends[e].Active = new(gauge.Gauge)
		}
	}
	v.Shares[0].Draws = 2
	elsewhere(&v.Shares[0], 10, 1, 1)
	elsewhere(&v.Shares[1], 20, 3)
	v.Shares[0].Elsewhere[1].Avoided = true
	v.Shares[0].Elsewhere[0].Active.Add(7)
	a := asked("echo", time.Now())
	n, why := b.put(a, v)
	if why != verdict.Lane {
		t.Fatal(why)
	}
	r := &b.Memory.Routes[n.place]
	one, two := r.Shares[0], r.Shares[1]
	if one.Policy != lane.LeastRequest || one.First != 0 || one.Count != 4 || one.Draws != 2 || two.Policy != lane.ByLoad || two.First != 4 || two.Count != 3 {
		t.Errorf("%+v, %+v", one, two)
	}
	for i, want := range []lane.Candidate{
		{Weight: 1, End: 0}, {Weight: 1, End: 1}, {Weight: 1, End: lane.Ends}, {End: lane.Ends},
		{Weight: 5, End: 2}, {Weight: 1, End: 3}, {Weight: 3, End: lane.Ends},
	} {
		got := r.Candidates[i]
		if counted := got.Active != 0; counted != (want.Weight > 0) || got.End != want.End || got.Weight != want.Weight ||
			got.End < lane.Ends && got.Active != r.Actives[got.End] {
			t.Errorf("candidate %d: %+v, want %+v", i, got, want)
		}
	}
	if word := b.Memory.Active[r.Candidates[2].Active]; word != 7<<32 {
		t.Errorf("%x in flight, want 7 of the proxy", word)
	}
	for d, want := range map[lane.Drawn]router.Lead{
		there(2): {Target: 1, Endpoint: address(10)}, there(3): {Target: 1, Endpoint: address(11)}, there(4): {Target: 1}, there(0): {Target: 1},
		there(2) | 1: {Target: 2, Endpoint: address(20)},
	} {
		if got := b.Drawn(key, a, d); got != want {
			t.Errorf("%x leads to %v, want %v", d, got, want)
		}
	}
	b.Memory.Active[r.Actives[1]]++ // a program
	if n := v.Shares[0].Ends[1].Active.Load(); n != 1 {
		t.Errorf("%d in flight to an end", n)
	}
	n.Left(b.Memory.Active, 1)
	if n := v.Shares[0].Ends[1].Active.Load(); n != 0 {
		t.Errorf("%d in flight to an end, want none", n)
	}
	b.remove(b.Of(key), n)
	b.Rested(b.Rest(), func(uint32) bool { return false })
	for number, word := range b.Memory.Active {
		if word != 0 || b.actives.users[number] != 0 {
			t.Errorf("number %d is used still: %x", number, word)
		}
	}
}

// TestSpare: an end that lanes cannot have at present is elsewhere, until it is tried again; with
// no other there is no lane.
func TestSpare(t *testing.T) {
	b, _ := newBook(100)
	now := time.Now()
	b.Of(key).refused[address(1)] = now.Add(5 * time.Second)
	a, v := asked("echo", now), among([]uint32{1, 2})
	n, why := b.put(a, v)
	if why != verdict.Lane || n.ends != 1 || b.Of(key).Ends[0] != address(2) {
		t.Fatalf("%q, ends %b", why, n.ends)
	}
	if s := b.Memory.Routes[n.place].Shares[0]; s.Beyond != 1<<32/3 || s.Count != 1 {
		t.Errorf("%+v", s)
	}
	if got := b.Drawn(key, a, there(lane.Anybody)).Endpoint; got != address(1) {
		t.Errorf("leads to %s", got)
	}
	if len(v.Shares[0].Ends) != 2 {
		t.Error("the verdict was changed")
	}
	b.Stands = func(*verdict.Verdict) bool { return true }
	for after, placed := range map[time.Duration]bool{time.Second: true} {
		if b.Look(now.Add(after), false); n.Placed != placed {
			t.Errorf("after %v: placed %t", after, n.Placed)
		}
	}
	if b.Look(now.Add(5*time.Second), false); n.Placed {
		t.Error("it is not tried again")
	}
	b.Of(key).refused[address(2)] = now.Add(time.Second)
	if _, why := b.put(asked("echo", now), among([]uint32{1, 2})); why != verdict.Remote {
		t.Errorf("no end is left: %q", why)
	}
}

// adopting has every series that is asked for.
type adopting struct{}

func (*adopting) Put(*rpc.Call, uint8, func(uint64)) (uint32, bool) { return 1, true }
func (*adopting) Drop(uint32)                                       {}
func (*adopting) Adopt(uint32, *rpc.Call, uint8, func(uint64)) bool { return true }

// TestOwn: what a proxy before this one has left of a name with limits, spans and candidates stays,
// with what is in flight by it, and its numbers are nobody else's until all is settled.
func TestOwn(t *testing.T) {
	var limited breaker.Breaker
	verdicts := func() *verdict.Verdict {
		v := among([]uint32{1, 1})
		s := &v.Shares[0]
		s.Policy, s.Draws, s.Limit, s.Breaker = snapshot.LeastRequest, 2, 9, &limited
		elsewhere(s, 10, 1)
		v.Traced, v.Sampled = true, 1000
		for i := range s.Ends {
			s.Ends[i].Active = new(gauge.Gauge)
		}
		return v
	}
	first, _ := newBook(100)
	first.Memory.Active = make([]uint64, 100)
	first.actives = newActives(first.Memory)
	for range 3 { // other numbers than a new one would give
		first.actives.take(new(gauge.Gauge))
	}
	n, why := first.put(asked("echo", time.Now()), verdicts())
	if why != verdict.Lane {
		t.Fatal(why)
	}
	old := first.Memory.Routes[n.place]
	bound, active := old.Bounds[0], old.Actives[0]
	first.Memory.Active[bound] += 2
	first.Memory.Active[active] += 2
	first.actives.close()

	b := New(first.Memory, &adopting{})
	b.Stands = func(*verdict.Verdict) bool { return true }
	if number := b.actives.take(new(gauge.Gauge)); number == uint32(bound) || number == uint32(active) {
		t.Errorf("number %d counts what is in flight, and is given away", number)
	}
	w := b.Left(key, old.Class)
	w.Ends = first.Of(key).Ends
	v := verdicts()
	b.Own(w, &Found{Place: n.place, Asked: *asked("echo", time.Now()), Verdict: *v}, false)
	if b.Name(n.place) == nil || !b.Name(n.place).Placed {
		t.Fatal("it is learned anew")
	}
	if got := v.Shares[0].Ends[0].Active.Load(); got != 2 {
		t.Errorf("%d in flight, want 2", got)
	}
	b.Gone(lane.Flight{Route: n.place, End: 0})
	b.Name(n.place).Left(b.Memory.Active, 0)
	if b.Memory.Active[bound] != 0 || b.Memory.Active[active] != 0 {
		t.Errorf("%x and %x in flight, want none", b.Memory.Active[bound], b.Memory.Active[active])
	}
	b.Settle()
	b.Settled()
	if len(b.Rest()) != 0 {
		t.Error("a route that is somebody's was removed")
	}
}
