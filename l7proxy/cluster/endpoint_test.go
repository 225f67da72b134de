package cluster

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/backoff"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestFailedIsAvoided(t *testing.T) {
	for _, policy := range []snapshot.Policy{snapshot.RoundRobin, snapshot.Random, snapshot.LeastRequest} {
		inBubble(func(t *testing.T, policy snapshot.Policy) {
			c := plain(endpoints(0, 5))
			c.Policy = policy
			s := setOf(t, c)
			find(t, s, 2).Failed()
			fits(t, counted(sample(t, s, 5000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 1, 0, 1, 1})
			find(t, s, 2).Connected()
			fits(t, counted(sample(t, s, 5000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 1, 1, 1, 1})
		})(t, policy)
	}
}

// What falls on avoided endpoints alone is drawn anew, among all and not again by the same
// numbers.
func TestDrawnAnew(t *testing.T) {
	inBubble(func(t *testing.T, policy snapshot.Policy) {
		c := clusterOf(
			&snapshot.Locality{Zone: "x", Weight: 1, Endpoints: endpoints(0, 2)},
			&snapshot.Locality{Zone: "y", Weight: 1, Endpoints: endpoints(10, 2)},
		)
		c.Policy, c.ChoiceCount, c.LocalityWeighted = policy, 2, true
		s := setOf(t, c)
		find(t, s, 10).Failed()
		// Of y a quarter of the draws are in vain, of which half fall on x then, and so on.
		fits(t, counted(sample(t, s, 70_000, Choice{}), 0, 1, 10, 11), []uint64{2, 2, 0, 3})
	})(t, snapshot.LeastRequest)
}

// Where every endpoint is avoided one is chosen anyway, but not one that the
// caller has tried already.
func TestAllFailed(t *testing.T) {
	s := setOf(t, plain(endpoints(0, 3)))
	for i := range 3 {
		find(t, s, i).Failed()
	}
	fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2), []uint64{1, 1, 1})
	tried := find(t, s, 1).Address
	exclude := Choice{}
	exclude.Exclude = func(a netip.AddrPort) bool { return a == tried }
	if n := sample(t, s, 100, exclude)[1]; n != 0 {
		t.Errorf("an excluded endpoint was picked %d times", n)
	}
}

// When all of a priority is avoided the next one serves.
func TestFailedPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setOf(t, clusterOf(
			&snapshot.Locality{Endpoints: endpoints(0, 2)},
			&snapshot.Locality{Priority: 1, Endpoints: endpoints(10, 1)},
		))
		find(t, s, 0).Failed()
		fits(t, counted(sample(t, s, 1000, Choice{}), 0, 1, 10), []uint64{0, 1, 0})
		find(t, s, 1).Failed()
		fits(t, counted(sample(t, s, 1000, Choice{}), 0, 1, 10), []uint64{0, 0, 1})
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setOf(t, plain(endpoints(0, 2)))
		e := find(t, s, 0)
		for i, want := range []int{1, 2, 4, 8, 16, 30, 30} {
			e.Failed()
			time.Sleep(time.Duration(want)*time.Second - time.Millisecond)
			e.Failed() // of a connect that began before: counts for nothing
			if !e.Avoided() || e.Failures() != i+1 {
				t.Fatalf("after failure %d: avoided %v, failures %d", i+1, e.Avoided(), e.Failures())
			}
			time.Sleep(2 * time.Millisecond)
			if e.Avoided() {
				t.Fatalf("after failure %d: avoided for longer than %v s", i+1, want)
			}
		}
		e.Failed()
		e.Connected()
		if e.Avoided() || e.Failures() != 0 {
			t.Error("a success does not end the back-off")
		}
		// The timer of the back-off that a success ended leaves the next alone.
		time.Sleep(29500 * time.Millisecond)
		e.Failed()
		time.Sleep(600 * time.Millisecond)
		if !e.Avoided() {
			t.Error("an old timer ended a new back-off")
		}
		time.Sleep(500 * time.Millisecond)
		if e.Avoided() {
			t.Error("the back-off after a success is longer than a second")
		}
	})
}

// TestDraining: a provider that is about to stop is avoided for a while, though
// it still takes connections; a failure outlives that, a success does not end it.
func TestDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setOf(t, plain(endpoints(0, 2)))
		e := find(t, s, 0)
		e.Draining()
		fits(t, counted(sample(t, s, 1000, Choice{}), 0, 1), []uint64{0, 1})
		find(t, s, 1).Failed()
		if _, err := s.Pick(Choice{}); err != nil {
			t.Errorf("all endpoints are avoided: %v, want one of them", err)
		}
		e.Connected()
		time.Sleep(backoff.DrainTime - time.Second)
		e.Draining() // Java says it twice
		time.Sleep(backoff.DrainTime - 500*time.Millisecond)
		if !e.Avoided() {
			t.Error("the first timer ended the second drain")
		}
		e.Failed()
		e.Failed()
		time.Sleep(700 * time.Millisecond)
		if !e.Avoided() || e.Failures() != 1 {
			t.Errorf("avoided %v after %d failures, want a back-off beyond the drain", e.Avoided(), e.Failures())
		}
		time.Sleep(400 * time.Millisecond)
		if e.Avoided() {
			t.Error("still avoided when both are over")
		}
		e.Draining()
		e.Failed()
		e.Connected()
		if !e.Avoided() || e.Failures() != 0 {
			t.Error("a success ended the drain: its listener stays open to the end")
		}
		time.Sleep(backoff.DrainTime + time.Millisecond)
		if e.Avoided() {
			t.Error("the drain does not end")
		}
	})
}

func TestEndpointsKeepTheirState(t *testing.T) {
	m := newTestManager(t, Options{})
	update(m, plain(endpoints(0, 2)))
	s := m.Set("c")
	old := find(t, s, 0)
	old.Begin()
	old.Failed()

	update(m, plain(weighted(endpoints(0, 3), 9, 1, 1)))
	if m.Set("c") != s {
		t.Fatal("an update made another set")
	}
	e := find(t, s, 0)
	if e.Active() != 1 || !e.Avoided() || e.Info.Weight != 9 {
		t.Errorf("after an update: active %d, avoided %v, weight %d", e.Active(), e.Avoided(), e.Info.Weight)
	}
	old.End(rpc.OutcomeOK) // the request began with the old endpoint
	if e.Active() != 0 {
		t.Errorf("active is %d after End on the old endpoint", e.Active())
	}
	update(m, plain(endpoints(1, 1)))
	update(m, plain(endpoints(0, 2)))
	if find(t, s, 0).Avoided() {
		t.Error("an endpoint that was gone is still avoided")
	}
}

// What an update does not change keeps its identity, so that callers may cache.
func TestUnchangedClusterIsKept(t *testing.T) {
	m := newTestManager(t, Options{})
	c := plain(endpoints(0, 2))
	update(m, c)
	s := m.Set("c")
	e, st := find(t, s, 0), s.state.Load()
	update(m, c)
	if s.state.Load() != st || find(t, s, 0) != e {
		t.Error("an update without a change rebuilt the set")
	}
}
