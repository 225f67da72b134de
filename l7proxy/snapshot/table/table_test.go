package table

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
)

// TestMap edits Maps at random and compares them with Go maps: what they hold, what is
// different between two, and that whatever holds the same is the same.
func TestMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pool := new(Pool[string, int])
	var last Map[string, int]
	want := make(map[string]int)
	for round := range 400 {
		before := maps.Clone(want)
		e := pool.Edit(last)
		for range 1 + random.IntN(100) {
			k := fmt.Sprint(random.IntN(2000))
			if random.IntN(400) < round {
				e.Delete(k)
				delete(want, k)
			} else {
				v := random.IntN(3)
				e.Set(k, v)
				want[k] = v
			}
			if v, ok := e.Get(k); ok != (want[k] != 0) && v != want[k] {
				t.Fatalf("%s is %d while edited, want %d", k, v, want[k])
			}
		}
		now := e.Map()
		if !maps.Equal(maps.Collect(now.All()), want) || !maps.Equal(now.Flat(last), want) || now.Len() != len(want) {
			t.Fatalf("round %d: %d entries, want %d", round, now.Len(), len(want))
		}
		if !maps.Equal(maps.Collect(last.All()), before) {
			t.Fatalf("round %d: the Map before has changed", round)
		}
		compared(t, last, now)
		compared(t, now, Map[string, int]{})
		// The same, made in another order.
		other := pool.Edit(last)
		keys := slices.Sorted(maps.Keys(before))
		for _, k := range keys {
			if _, ok := want[k]; !ok {
				other.Delete(k)
			}
		}
		for k, v := range want {
			other.Set(k, v)
		}
		if same := other.Map(); len(same.root.shards) == len(now.root.shards) && same != now {
			t.Fatalf("round %d: equal Maps are not the same", round)
		}
		last = now
	}
	e := pool.Edit(last)
	for k := range want {
		e.Delete(k)
	}
	if last = e.Map(); last != (Map[string, int]{}) {
		t.Errorf("%d entries are left", last.Len())
	}
}

// compared checks Diff.
func compared(t *testing.T, old, now Map[string, int]) {
	t.Helper()
	patched := maps.Collect(old.All())
	for k, c := range Diff(old, now) {
		if c.Old == c.New && c.Old != 0 || old.Value(k) != c.Old || now.Value(k) != c.New {
			t.Fatalf("%s: %+v", k, c)
		}
		if patched[k] = c.New; c.New == 0 {
			if _, ok := now.Get(k); !ok {
				delete(patched, k)
			}
		}
	}
	if !maps.Equal(patched, maps.Collect(now.All())) {
		t.Fatal("the differences do not lead from one to the other")
	}
}

// TestShared: a Map that is a change of another one has nearly all of its parts.
func TestShared(t *testing.T) {
	pool := new(Pool[string, int])
	e := pool.Edit(Map[string, int]{})
	for i := range 10_000 {
		e.Set(fmt.Sprint(i), i)
	}
	m := e.Map()
	parts := pool.Len()
	e = pool.Edit(m)
	e.Set("5", -1)
	n := e.Map()
	if more := pool.Len() - parts; more != 2 {
		t.Errorf("one change makes %d parts, want a shard and a root", more)
	}
	back := pool.Edit(n)
	back.Set("5", 5)
	if back.Map() != m {
		t.Error("changed back it is another Map")
	}
	runtime.KeepAlive(m)
}

// TestForgotten: what nobody holds goes.
func TestForgotten(t *testing.T) {
	pool, lists := new(Pool[string, int]), new(Lists[int])
	e := pool.Edit(Map[string, int]{})
	for i := range 1000 {
		e.Set(fmt.Sprint(i), i)
	}
	m, one := e.Map(), lists.Of(1, 2)
	if lists.Of(1, 2) != one || lists.Of(2, 1) == one || lists.Of() != nil {
		t.Error("lists are not told apart by what they hold")
	}
	if runtime.GC(); pool.Len() < 2 || lists.Len() == 0 {
		t.Errorf("%d parts, %d lists while they are held", pool.Len(), lists.Len())
	}
	runtime.KeepAlive(m)
	runtime.KeepAlive(one)
	for deadline := time.Now().Add(20 * time.Second); pool.Len()+lists.Len() > 0; {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("%d parts, %d lists are left", pool.Len(), lists.Len())
		}
	}
}

// TestGetAllocatesNothing: requests look for addresses and names.
func TestGetAllocatesNothing(t *testing.T) {
	a, b := new(Pool[netip.AddrPort, int]).Edit(Map[netip.AddrPort, int]{}), new(Pool[string, int]).Edit(Map[string, int]{})
	at := netip.MustParseAddrPort("10.0.0.1:80")
	a.Set(at, 1)
	b.Set("a", 1)
	addresses, names := a.Map(), b.Map()
	if n := testing.AllocsPerRun(100, func() {
		addresses.Get(at)
		names.Get("a")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
