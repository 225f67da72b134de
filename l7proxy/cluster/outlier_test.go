package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// judged is a cluster whose endpoints are ejected after two errors in a row.
func judged(n int) *snapshot.Cluster {
	c := plain(endpoints(0, n))
	c.Outlier = &snapshot.Outlier{
		Interval: time.Second, BaseEjection: 10 * time.Second, MaxEjection: time.Minute, MaxEjected: 60,
		Errors: snapshot.Consecutive{Threshold: 2, Enforced: 100},
	}
	return c
}

// spoil ends two requests in errors.
func spoil(e *Endpoint) {
	for range 2 {
		e.Begin()
		e.End(rpc.OutcomeError)
	}
	synctest.Wait()
}

func TestEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		update(m, judged(5))
		s := m.Set("c")
		spoil(find(t, s, 1))
		fits(t, counted(sample(t, s, 4000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 0, 1, 1, 1})
		if e := find(t, s, 1); e.Fit() || !e.Ejected() || s.At(e.Address, nil) != nil || !e.State().Ejected {
			t.Errorf("the ejected endpoint: fit %v, state %+v", e.Fit(), e.State())
		}

		// An ejection outlives a snapshot that changes the endpoint.
		again := judged(6)
		again.Localities[0].Endpoints[1].Weight = 9
		update(m, again)
		fits(t, counted(sample(t, s, 5000, Choice{}), 0, 1, 2, 3, 4, 5), []uint64{1, 0, 1, 1, 1, 1})

		time.Sleep(11 * time.Second)
		synctest.Wait()
		if find(t, s, 1).Ejected() || sample(t, s, 1000, Choice{})[1] == 0 {
			t.Error("the endpoint does not come back when its time is over")
		}
		if n := m.Outliers().Active.Load(); n != 0 {
			t.Errorf("%d are counted as ejected", n)
		}

		// Without the configuration nothing is ejected any more.
		spoil(find(t, s, 2))
		update(m, plain(endpoints(0, 5)))
		spoil(find(t, s, 2))
		if e := find(t, s, 2); e.Ejected() || e.monitor != nil || sample(t, s, 1000, Choice{})[2] != 200 {
			t.Error("the endpoint is ejected although nothing is configured")
		}
	})
}

// Ejected endpoints count for panic: three of five leave 40 %.
func TestEjectedPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		update(m, judged(5))
		s := m.Set("c")
		for i := range 3 {
			spoil(find(t, s, i))
		}
		fits(t, counted(sample(t, s, 5000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 1, 1, 1, 1})
		if m.Outliers().Active.Load() != 3 {
			t.Error("not three are ejected")
		}
	})
}

// A priority whose endpoints are ejected leaves its load to the next.
func TestEjectedPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		c := judged(2)
		c.Localities = append(c.Localities, &snapshot.Locality{Priority: 1, Endpoints: endpoints(10, 3)})
		update(m, c)
		s := m.Set("c")
		spoil(find(t, s, 0))
		fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1), []uint64{0, 1})
		if n := sample(t, s, 10_000, Choice{})[1]; n < 6800 || n > 7200 {
			t.Errorf("the half of the first priority gets %d of 10,000, want about 7,000", n)
		}
	})
}

// What is in flight when a cluster goes, or the manager ends, ejects nobody.
func TestEjectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		update(m, judged(2))
		e := find(t, m.Set("c"), 0)
		update(m)
		spoil(e)
		update(m, judged(2))
		other := find(t, m.Set("c"), 0)
		m.Close()
		spoil(other)
		if n := m.Outliers().Active.Load(); n != 0 || e.Ejected() || other.Ejected() {
			t.Errorf("%d are ejected", n)
		}
	})
}

// Original destinations are taken whatever becomes of them.
func TestOriginalsAreNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		c := judged(0)
		c.Kind, c.Localities = snapshot.ClusterOriginalDst, nil
		update(m, c)
		e := pick(t, m.Set("c"), Choice{Original: address(1)})
		spoil(e)
		if e.Ejected() || pick(t, m.Set("c"), Choice{Original: address(1)}) != e {
			t.Error("an original destination was ejected")
		}
	})
}

// The pick and the end of a request allocate nothing, judged or not.
func TestPickAllocatesNothing(t *testing.T) {
	for policy := snapshot.RoundRobin; policy <= snapshot.Maglev; policy++ {
		c := hashing(judged(5), policy)
		weighted(c.Localities[0].Endpoints, 1, 2, 3, 4, 5)
		c.ChoiceCount, c.Bias = 2, 1.5
		s := setOf(t, c)
		random := uint64(1)
		n := testing.AllocsPerRun(1000, func() {
			random = mix(random)
			e, err := s.Pick(Choice{Random: random, Hash: random >> 1})
			if err != nil {
				t.Error(err)
				return
			}
			e.Begin()
			e.End(rpc.OutcomeOK)
		})
		if n != 0 {
			t.Errorf("policy %d: %v allocations", policy, n)
		}
	}
}
