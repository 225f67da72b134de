package cluster

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// sick is a Prober that finds one endpoint down.
type sick struct {
	number atomic.Int64
	gate   sync.Mutex // held: no check ends
}

func (s *sick) Probe(_ context.Context, _ string, addr netip.AddrPort, _ *snapshot.Probe) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if int64(number(addr)) == s.number.Load() {
		return errors.New("connect: refused")
	}
	return nil
}

func checked(n int) *snapshot.Cluster {
	c := judged(n)
	every := 10 * time.Second
	c.Check = &snapshot.Check{
		Timeout: time.Second, Interval: every, HealthyEdge: every, UnhealthyEdge: every, Unhealthy: every, Fails: 2, Passes: 1,
	}
	return c
}

func TestChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &sick{}
		prober.number.Store(1)
		m := newTestManager(t, Options{Prober: prober})
		c := checked(4)
		update(m, c)
		s := m.Set("c")
		after(time.Minute)
		fits(t, counted(sample(t, s, 4000, Choice{}), 0, 1, 2, 3), []uint64{1, 1, 1, 1})
		find(t, s, 0).UsedBy("shop/consumer")
		after(11 * time.Second)
		fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2, 3), []uint64{1, 0, 1, 1})
		if st := find(t, s, 1).State(); !st.Healthy || !st.Unfit || st.Failure != "connect: refused" {
			t.Errorf("the state of the one that is out is %+v", st)
		}

		// A snapshot with the same check changes nothing; a new endpoint waits.
		next := *checked(5)
		prober.gate.Lock()
		update(m, &next)
		if find(t, s, 1).Fit() || find(t, s, 4).Fit() {
			t.Error("a snapshot forgets who is out, or lets somebody in unchecked")
		}
		prober.gate.Unlock()
		after(time.Second)
		fits(t, counted(sample(t, s, 4000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 0, 1, 1, 1})

		// What is well again comes back, and a check that is passed ends an ejection.
		prober.number.Store(99)
		spoil(find(t, s, 2))
		if find(t, s, 2).Fit() {
			t.Error("two errors do not eject")
		}
		after(9 * time.Second) // less than the ejection takes
		fits(t, counted(sample(t, s, 5000, Choice{}), 0, 1, 2, 3, 4), []uint64{1, 1, 1, 1, 1})

		// Without the check nobody is out any more.
		prober.number.Store(3)
		after(21 * time.Second)
		if find(t, s, 3).Fit() {
			t.Error("two failures do not put an endpoint out")
		}
		update(m, plain(endpoints(0, 4)))
		if !find(t, s, 3).Fit() || m.Checks().Out.Load() != 0 {
			t.Error("an endpoint is out although nothing is checked")
		}
		m.Close()
	})
}

// Slow start begins when an endpoint passes, not when it is first heard of.
func TestSlowStartFromTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &sick{}
		prober.number.Store(2)
		m := newTestManager(t, Options{Prober: prober})
		with := func(n int) *snapshot.Cluster {
			c := starting(n, snapshot.RoundRobin, 1)
			c.Check = checked(1).Check
			return c
		}
		first := with(2)
		update(m, first)
		s := m.Set("c")
		find(t, s, 0).UsedBy("a")
		after(2 * time.Minute)
		next := with(3)
		next.Check = first.Check
		update(m, next)
		after(2 * time.Minute)
		fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2), []uint64{1, 1, 0})
		prober.number.Store(99)
		after(10 * time.Second)
		at := sample(t, s, 20_000, Choice{})[2]
		if at < 600 || at > 1900 { // of a tenth to a sixth of a share, 950 to 1550
			t.Errorf("just in, the endpoint gets %d of 20,000", at)
		}
		after(time.Minute)
		fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2), []uint64{1, 1, 1})
		m.Close()
	})
}
