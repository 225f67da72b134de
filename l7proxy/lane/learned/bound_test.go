package learned

import (
	"testing"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestBounds: the ends of a cluster with a limit have one bound, also those of other names,
// and it is the cluster's until nobody counts in it.
func TestBounds(t *testing.T) {
	b, s := newBook(100)
	var breakers [4]breaker.Breaker
	limited := func(of ...int) *verdict.Verdict {
		v := among([][]uint32{{1, 2}, {1}}[:len(of)]...)
		for i, n := range of {
			if n >= 0 {
				v.Shares[i].Limit, v.Shares[i].Breaker = uint32(10+n), &breakers[n]
			}
		}
		return v
	}
	one, why := b.put(asked("one", time.Now()), limited(0, -1))
	two, _ := b.put(asked("two", time.Now()), limited(0, 1))
	if why != verdict.Lane || !one.Placed || !two.Placed {
		t.Fatalf("%q, %q", why, two.Verdict.Reason)
	}
	r, other := &b.Memory.Routes[one.place], &b.Memory.Routes[two.place]
	if r.Flags&lane.Limited == 0 || r.Shares[0].Limit != 10 || r.Shares[1].Limit != 0 || other.Shares[1].Limit != 11 {
		t.Errorf("flags %d, limits %d, %d, %d", r.Flags, r.Shares[0].Limit, r.Shares[1].Limit, other.Shares[1].Limit)
	}
	n := r.Bounds[0]
	if n == 0 || r.Bounds[1] != n || r.Bounds[2] != 0 || other.Bounds[0] != n || other.Bounds[2] == 0 || other.Bounds[2] == n {
		t.Errorf("bounds %v and %v", r.Bounds, other.Bounds)
	}
	b.Memory.Active[n] += 2 // the programs
	one.Left(b.Memory.Active, 0)
	one.Left(b.Memory.Active, 2) // which has none
	if limit := uint32(1); b.Memory.Active[n] != 1 || !breakers[0].Full(&limit, 0) || b.Memory.Active[0] != 0 {
		t.Errorf("counts %v", b.Memory.Active)
	}
	if _, why := b.put(asked("three", time.Now()), limited(2, 3)); why != verdict.TooMany || s.used != 6 {
		t.Errorf("four numbers, and more: %q; %d series are used", why, s.used)
	}
	b.remove(b.Of(key), one)
	b.Rested(b.Rest(), func(uint32) bool { return false })
	if limit := uint32(1); !breakers[0].Full(&limit, 0) {
		t.Error("a name has gone, and the other's calls are not counted")
	}
	b.remove(b.Of(key), two)
	b.Rested(b.Rest(), func(uint32) bool { return false })
	if limit := uint32(1); breakers[0].Full(&limit, 0) || b.Memory.Active[n] != 0 {
		t.Errorf("nobody counts, and %v", b.Memory.Active)
	}
	if v := limited(2, 3); true {
		if three, why := b.put(asked("three", time.Now()), v); why != verdict.Lane {
			t.Errorf("numbers were not given back: %q", why)
		} else if n := three.bounds[0]; n != 0 {
			b.Close()
			b.Memory.Active[n] = 5
			if limit := uint32(1); breakers[2].Full(&limit, 0) {
				t.Error("the memory is another's, and counts")
			}
		}
	}
}

// TestTraced: a share of millionths as one of words of 32 bits.
func TestTraced(t *testing.T) {
	for _, tt := range []struct {
		traced        bool
		sampled, want uint32
	}{{false, 0, 0}, {true, 0, 0}, {true, 1, 4294}, {true, 500_000, 1 << 31}, {true, snapshot.Million - 1, 4294963001}} {
		b, _ := newBook(100)
		v := among([]uint32{1})
		v.Traced, v.Sampled = tt.traced, tt.sampled
		n, _ := b.put(asked("echo", time.Now()), v)
		if r := &b.Memory.Routes[n.place]; r.Flags&lane.Traced != 0 != tt.traced || r.Sampled != tt.want {
			t.Errorf("%v, %d: flags %d, %d", tt.traced, tt.sampled, r.Flags, r.Sampled)
		}
	}
}

// TestListed: names are listed with how many calls went which way, as whoever counts them says
// of all that the verdict knows.
func TestListed(t *testing.T) {
	b, _ := newBook(100)
	v := among([]uint32{1})
	v.Calls = make([]*rpc.Call, 2)
	if _, why := b.put(asked("echo", time.Now()), v); why != verdict.Lane {
		t.Fatal(why)
	}
	ways := func(calls ...*rpc.Call) (uint64, uint64) { return uint64(len(calls)), 1 }
	if list := b.List(ways); list[0].Way != "lane" || list[0].InLane != 2 || list[0].ByProxy != 1 {
		t.Errorf("listed as %+v", list)
	}
}

// nobody has called.
func nobody(...*rpc.Call) (inLane, byProxy uint64) { return 0, 0 }
