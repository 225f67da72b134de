package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// starting is a cluster whose endpoints start slowly, a minute long.
func starting(n int, policy snapshot.Policy, aggression float64) *snapshot.Cluster {
	c := plain(endpoints(0, n))
	c.Policy, c.Bias = policy, 1
	c.SlowStart = &snapshot.SlowStart{Window: time.Minute, Aggression: aggression, Least: 0.1}
	return c
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSlowStart(t *testing.T) {
	for _, tt := range []struct {
		policy     snapshot.Policy
		aggression float64
		shares     [4]uint64 // per cent of a whole share, after 0, 15, 30 and 60 s
	}{
		{snapshot.RoundRobin, 1, [4]uint64{10, 25, 50, 100}},
		{snapshot.RoundRobin, 2, [4]uint64{10, 50, 71, 100}}, // the square root
		{snapshot.LeastRequest, 1, [4]uint64{10, 25, 50, 100}},
		{snapshot.Random, 1, [4]uint64{100, 100, 100, 100}}, // Envoy has none for it
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newTestManager(t, Options{})
			update(m, starting(3, tt.policy, tt.aggression))
			s := m.Set("c")
			fits(t, counted(sample(t, s, 3000, Choice{}), 0, 1, 2), []uint64{1, 1, 1})
			after(2 * time.Minute) // all have started
			update(m, starting(4, tt.policy, tt.aggression))
			for i, wait := range []int{0, 15, 15, 30} {
				after(time.Duration(wait) * time.Second)
				share := tt.shares[i]
				fits(t, counted(sample(t, s, 20_000, Choice{}), 0, 1, 2, 3), []uint64{100, 100, 100, share})
			}
			if st := s.state.Load(); st.table.tiers[0].pools[0].weights != nil {
				t.Error("the weights still differ when all have started")
			}
		})
	}
}

// The start counts from when an endpoint became ready, not from when it was first
// heard of; and anew when it was not ready in between.
func TestSlowStartFromReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		with := func(ready bool) {
			c := starting(3, snapshot.RoundRobin, 1)
			c.Localities[0].Endpoints[2].Healthy = ready
			update(m, c)
		}
		with(false)
		s := m.Set("c")
		after(2 * time.Minute)
		with(true)
		fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1, 2), []uint64{100, 100, 10})
		after(2 * time.Minute)
		fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1, 2), []uint64{1, 1, 1})
		with(false)
		fits(t, counted(sample(t, s, 10_000, Choice{}), 0, 1, 2), []uint64{1, 1, 0})
		with(true)
		after(30 * time.Second)
		fits(t, counted(sample(t, s, 20_000, Choice{}), 0, 1, 2), []uint64{100, 100, 50})
	})
}

// Weights and localities hold while endpoints start.
func TestSlowStartWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTestManager(t, Options{})
		old := starting(2, snapshot.RoundRobin, 1)
		weighted(old.Localities[0].Endpoints, 3, 1)
		update(m, old)
		after(time.Hour)
		c := starting(3, snapshot.RoundRobin, 1)
		weighted(c.Localities[0].Endpoints, 3, 1, 4)
		update(m, c)
		after(30 * time.Second)
		fits(t, counted(sample(t, m.Set("c"), 20_000, Choice{}), 0, 1, 2), []uint64{3, 1, 2})
	})
}
