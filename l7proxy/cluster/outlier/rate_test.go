package outlier

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// traffic gives endpoint i so many requests, of which so many fail, never five in a
// row.
func (b *bench) traffic(i, total, failed int) {
	for n := range total {
		o := rpc.OutcomeOK
		if (n+1)*failed/total > n*failed/total {
			o = rpc.OutcomeError
		}
		b.list[i].Put(o)
	}
}

// sweepOnce lets one interval pass.
func sweepOnce() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

// rates is a configuration without rows.
func rates() *snapshot.Outlier {
	c := defaults()
	c.Errors.Threshold, c.Unavailable.Threshold, c.Local.Threshold = 0, 0, 0
	return c
}

// Five endpoints at 100 % and one at 70 %: mean 95, deviation 11.2, threshold 73.8.
// One at 80 %: mean 96.7, deviation 7.5, threshold 82.5. Two at 80 %: mean 93.3,
// deviation 9.4, threshold 75.4, so that they hide each other.
func TestSuccessRate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		failed [6]int // of a hundred
		hosts  uint32
		factor uint32
		want   []int
	}{
		{"all well", [6]int{}, 5, 1900, nil},
		{"one at 70", [6]int{0, 0, 30, 0, 0, 0}, 5, 1900, []int{2}},
		{"one at 80", [6]int{0, 0, 20, 0, 0, 0}, 5, 1900, []int{2}},
		{"two at 80", [6]int{0, 20, 20, 0, 0, 0}, 5, 1900, nil},
		{"two at 80, a small factor", [6]int{0, 20, 20, 0, 0, 0}, 5, 1000, []int{1, 2}},
		{"all alike", [6]int{30, 30, 30, 30, 30, 30}, 5, 1900, nil},
		{"too few", [6]int{0, 0, 30, 0, 0, 0}, 7, 1900, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := rates()
				c.FailurePercentage.Enforced = 0
				c.SuccessRate.Hosts, c.SuccessRate.Factor = tt.hosts, tt.factor
				b := newBench(t, c, 6)
				for i, n := range tt.failed {
					b.traffic(i, 100, n)
				}
				b.want(t, "before the sweep")
				sweepOnce()
				b.want(t, "after it", tt.want...)
			})
		})
	}
}

// Endpoints with too few requests are not looked at, nor do they count as hosts; and
// an interval begins with nothing.
func TestVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rates()
		c.FailurePercentage.Enforced = 0
		b := newBench(t, c, 6)
		for i := range 6 {
			b.traffic(i, 99, 0)
		}
		b.traffic(2, 100, 90)
		sweepOnce()
		b.want(t, "one with volume")
		for i := range 5 {
			b.traffic(i, 100, 0)
		}
		b.traffic(5, 99, 99)
		sweepOnce()
		b.want(t, "the bad one is without volume")
		for i := range 6 {
			b.traffic(i, 100, 0)
		}
		b.traffic(2, 100, 100)
		sweepOnce()
		b.want(t, "200 requests, half of them failed", 2)
	})
}

func TestFailurePercentage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rates()
		c.SuccessRate.Enforced = 0
		b := newBench(t, c, 6)
		for i, failed := range []int{0, 84, 85, 100, 0, 0} {
			b.traffic(i, 100, failed)
		}
		sweepOnce()
		b.want(t, "84, 85 and 100 %", 2, 3)
		if n := b.stats.Ejections[FailurePercentage].Load(); n != 2 {
			t.Errorf("%d ejections are counted, want 2", n)
		}
		// Of those left five need volume.
		for i := range 4 {
			b.traffic(i, 100, 100)
		}
		sweepOnce()
		b.want(t, "two more, but only four are looked at", 2, 3)
	})
}

// With Split each origin has its own rates and its own enforcement.
func TestLocalRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := rates()
		c.Split = true
		c.SuccessRate.Enforced, c.FailurePercentage.Enforced, c.FailurePercentage.EnforcedLocal = 0, 0, 0
		b := newBench(t, c, 6)
		for i := range 6 {
			b.traffic(i, 100, 0)
		}
		b.put(3, 60, rpc.OutcomeReset)
		b.traffic(4, 100, 100) // external
		sweepOnce()
		b.want(t, "60 resets to 100 answers", 3)
		if n := b.stats.Ejections[SuccessRateLocal].Load(); n != 1 {
			t.Errorf("%d ejections are counted, want 1", n)
		}
	})
}

func TestKeepAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := defaults()
		b := newBench(t, c, 4)
		b.put(0, 5, rpc.OutcomeError)
		b.put(1, 5, rpc.OutcomeError)
		b.Keep(func(a netip.AddrPort) bool { return a != address(0) })
		if n := b.stats.Active.Load(); n != 1 {
			t.Errorf("%d are ejected after one of two has gone", n)
		}
		b.put(0, 50, rpc.OutcomeError) // requests that were in flight
		if b.list[0].Ejected() {
			t.Error("an endpoint that has gone was ejected")
		}
		if b.Monitor(address(1)) != b.list[1] || b.Monitor(address(0)) == b.list[0] {
			t.Error("an address keeps its monitor only while it is wanted")
		}
		// Another configuration holds from the next request on.
		next := *c
		next.Errors.Threshold = 2
		b.Configure(&next)
		b.put(2, 2, rpc.OutcomeError)
		if !b.list[2].Ejected() {
			t.Error("the new threshold does not hold")
		}
		b.Close()
		if n := b.stats.Active.Load(); n != 0 || b.list[1].Ejected() {
			t.Errorf("%d are ejected after Close", n)
		}
	})
}

func TestChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, defaults(), 2)
		b.put(0, 5, rpc.OutcomeError)
		b.list[0].Checked()
		b.want(t, "checked")
		b.put(0, 4, rpc.OutcomeError)
		b.want(t, "four more: the row began anew")
		keep := defaults()
		keep.KeepOnCheck = true
		b.Configure(keep)
		b.put(0, 1, rpc.OutcomeError)
		b.list[0].Checked()
		b.want(t, "checked, but kept", 0)
	})
}

func TestPutAllocatesNothing(t *testing.T) {
	c := defaults()
	c.Split = true
	b := newBench(t, c, 2)
	n := testing.AllocsPerRun(1000, func() {
		for o := range rpc.Outcome(rpc.Outcomes) {
			b.list[0].Put(o)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for one of each outcome", n)
	}
}

func TestKindsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for k := range numKinds {
		if seen[k.String()] || k.String() == "unknown" {
			t.Errorf("kind %d is called %q", k, k)
		}
		seen[k.String()] = true
	}
}
