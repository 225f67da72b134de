package checkup

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// world is a Prober of endpoints and workloads that a test changes.
type world struct {
	mu      sync.Mutex
	sick    map[netip.AddrPort]bool
	hang    map[netip.AddrPort]bool
	deaf    map[string]bool // workloads that reach nobody
	gone    map[string]bool
	away    bool // nobody can ask
	asked   []string
	moments []time.Duration
	began   time.Time
}

func (w *world) Probe(ctx context.Context, workload string, addr netip.AddrPort, _ *snapshot.Probe) error {
	w.mu.Lock()
	hang := w.hang[addr]
	defer w.mu.Unlock()
	switch {
	case w.gone[workload]:
		return fmt.Errorf("dial: %w", ErrNobody)
	case w.away:
		return fmt.Errorf("dial: %w", ErrUnasked)
	}
	w.asked = append(w.asked, workload)
	w.moments = append(w.moments, time.Since(w.began))
	if hang {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return ctx.Err()
	}
	if w.sick[addr] || w.deaf[workload] {
		return errors.New("connect: refused")
	}
	return nil
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// rig is a checker with the world that it checks.
type rig struct {
	*Checker

	world   *world
	stats   Stats
	changes atomic.Int32
	passed  atomic.Int32
}

func check() *snapshot.Check {
	return &snapshot.Check{
		Timeout: time.Second, Interval: 10 * time.Second, HealthyEdge: 10 * time.Second,
		UnhealthyEdge: 10 * time.Second, Unhealthy: 10 * time.Second, Fails: 3, Passes: 2,
	}
}

func newRig(t *testing.T, c *snapshot.Check) *rig {
	t.Helper()
	r := &rig{world: &world{
		sick: map[netip.AddrPort]bool{}, hang: map[netip.AddrPort]bool{},
		deaf: map[string]bool{}, gone: map[string]bool{}, began: time.Now(),
	}}
	r.Checker = New(&Params{
		Check: c, Prober: r.world, Stats: &r.stats,
		Changed: func() { r.changes.Add(1) }, Passed: func(netip.AddrPort) { r.passed.Add(1) },
	})
	t.Cleanup(r.Close)
	return r
}

func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 20880)
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Three failures in a row put an endpoint out, two passes in again; a single result
// of the other kind begins the row anew.
func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, check())
		s := r.Subject(address(1))
		r.Use("a")
		after(time.Second) // between two checks
		results := func(passes ...bool) {
			for _, pass := range passes {
				r.world.set(func() { r.world.sick[address(1)] = !pass })
				after(10 * time.Second)
			}
		}
		for _, tt := range []struct {
			passes []bool
			fit    bool
		}{
			{[]bool{false, false, true, false, false}, true},
			{[]bool{false}, false},
			{[]bool{true, false, true}, false},
			{[]bool{true}, true},
		} {
			if results(tt.passes...); s.Fit() != tt.fit {
				t.Fatalf("after %v: fit is %v", tt.passes, s.Fit())
			}
			if out := r.stats.Out.Load(); out != map[bool]int64{true: 0, false: 1}[tt.fit] {
				t.Errorf("after %v: %d are out", tt.passes, out)
			}
			if last := tt.passes[len(tt.passes)-1]; (s.Failure() == "") != last {
				t.Errorf("after %v the failure is %q", tt.passes, s.Failure())
			}
		}
		if r.changes.Load() != 2 || r.stats.Checks.Load() != 11 || r.stats.Failures.Load() != 6 || r.passed.Load() != 5 {
			t.Errorf("%d changes, %d checks, %d failures, %d passes", r.changes.Load(), r.stats.Checks.Load(), r.stats.Failures.Load(), r.passed.Load())
		}
	})
}

// Nobody checks before the first use; then what is there stays fit until it fails, and
// what comes later waits for its first check, which decides alone.
func TestFirstChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, check())
		r.world.set(func() { r.world.sick[address(1)], r.world.sick[address(3)] = true, true })
		first := r.Subject(address(1))
		after(time.Hour)
		if n := r.stats.Checks.Load(); n != 0 || !first.Fit() {
			t.Errorf("%d checks before the first use, fit %v", n, first.Fit())
		}
		r.Use("a")
		r.Use("a")
		after(15 * time.Second)
		if !first.Fit() {
			t.Error("an endpoint is out after two failures of three")
		}
		var second, third *Subject
		r.world.set(func() { // which no check passes meanwhile
			second, third = r.Subject(address(2)), r.Subject(address(3))
			if second.Fit() || third.Fit() {
				t.Error("an endpoint that joins is fit before its first check")
			}
		})
		after(time.Second)
		if !second.Fit() || third.Fit() {
			t.Errorf("after the first check: fit %v, %v", second.Fit(), third.Fit())
		}
		r.world.set(func() { clear(r.world.sick) })
		after(10 * time.Second)
		if third.Fit() {
			t.Error("an endpoint whose first check failed is in after one pass of two")
		}
		after(10 * time.Second)
		if !third.Fit() || r.stats.Out.Load() != 0 {
			t.Errorf("after two passes: fit %v, %d out", third.Fit(), r.stats.Out.Load())
		}
	})
}

// A check that is not answered in time has failed.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check()
		c.Fails = 1
		r := newRig(t, c)
		s := r.Subject(address(1))
		r.world.set(func() { r.world.hang[address(1)] = true })
		r.Use("a")
		after(999 * time.Millisecond)
		if !s.Fit() {
			t.Error("out before the time-out")
		}
		after(2 * time.Millisecond)
		if s.Fit() {
			t.Error("fit after the time-out")
		}
	})
}

// The intervals after a change, and while an endpoint is out.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check()
		c.Fails, c.Passes = 2, 2
		c.UnhealthyEdge, c.Unhealthy, c.HealthyEdge = 5*time.Second, 20*time.Second, time.Second
		r := newRig(t, c)
		r.Subject(address(1))
		r.world.set(func() { r.world.sick[address(1)] = true })
		r.Use("a")
		after(16 * time.Second) // 0, 10: out, 15
		r.world.set(func() { clear(r.world.sick) })
		after(60 * time.Second) // 35, 55: in, 56, 66, 76
		var want []time.Duration
		for _, second := range []int{0, 10, 15, 35, 55, 56, 66, 76} {
			want = append(want, time.Duration(second)*time.Second)
		}
		r.world.set(func() {
			if !slices.Equal(r.world.moments, want) {
				t.Errorf("checked at %v, want %v", r.world.moments, want)
			}
		})
	})
}

func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check()
		c.InitialJitter, c.Jitter, c.JitterPercent = 4*time.Second, 2*time.Second, 20
		r := newRig(t, c)
		for i := range 100 {
			r.Subject(address(i))
		}
		r.Use("a")
		after(4 * time.Second)
		after(100 * time.Second)
		r.world.set(func() {
			first := r.world.moments[:100]
			if first[0] > time.Second || first[99] < 3*time.Second || first[99] > 4*time.Second {
				t.Errorf("the first checks are from %v to %v", first[0], first[99])
			}
			// An interval is 12 s on the average: 8.5 checks of each in about 102 s.
			if n := len(r.world.moments); n < 880 || n > 1000 {
				t.Errorf("%d checks of 100 endpoints in 104 s", n)
			}
		})
	})
}

// Checks are made as a pod that uses the cluster. One that is gone is not asked again,
// one that fails lets another try: what one pod may not reach is not down.
func TestWorkloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, check())
		s := r.Subject(address(1))
		r.world.set(func() { r.world.deaf["a"] = true })
		for _, w := range []string{"a", "b", "c"} {
			r.Use(w)
		}
		after(30 * time.Second)
		r.world.set(func() {
			if want := []string{"a", "b", "b", "b"}; !slices.Equal(r.world.asked, want) || !s.Fit() {
				t.Errorf("asked as %v, want %v; fit %v", r.world.asked, want, s.Fit())
			}
			r.world.gone["b"], r.world.asked = true, nil
		})
		after(20 * time.Second)
		r.world.set(func() {
			if want := []string{"c", "c"}; !slices.Equal(r.world.asked, want) {
				t.Errorf("asked as %v, want %v", r.world.asked, want)
			}
		})
	})
}

// While nobody can ask, what was seen holds; when nobody is left, all are in: whoever
// comes next must find something to use.
func TestNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, check())
		s := r.Subject(address(1))
		r.world.set(func() { r.world.sick[address(1)] = true })
		r.Use("a")
		after(25 * time.Second)
		if s.Fit() {
			t.Fatal("fit after three failures")
		}
		r.world.set(func() { r.world.away = true })
		after(time.Minute)
		if s.Fit() {
			t.Error("let in while nobody can ask")
		}
		r.world.set(func() { r.world.gone["a"] = true })
		after(11 * time.Second)
		if !s.Fit() || s.Failure() != "" || r.stats.Out.Load() != 0 {
			t.Errorf("with nobody left: fit %v, failure %q, %d out", s.Fit(), s.Failure(), r.stats.Out.Load())
		}
		r.world.set(func() { r.world.away = false })
		r.Use("b")
		after(41 * time.Second)
		if s.Fit() {
			t.Error("not checked again when somebody came")
		}
	})
}

func TestKeepAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := check()
		c.Fails = 1
		r := newRig(t, c)
		for i := range 3 {
			r.Subject(address(i))
			r.world.set(func() { r.world.sick[address(i)] = true })
		}
		r.Use("a")
		after(time.Second)
		if r.stats.Out.Load() != 3 {
			t.Fatalf("%d are out, want 3", r.stats.Out.Load())
		}
		r.Keep(func(a netip.AddrPort) bool { return a == address(1) })
		if r.stats.Out.Load() != 1 {
			t.Errorf("%d are out when two have gone, want 1", r.stats.Out.Load())
		}
		n := r.stats.Checks.Load()
		after(10 * time.Second)
		if got := r.stats.Checks.Load() - n; got != 1 {
			t.Errorf("%d checks in an interval, want the one that is left", got)
		}
		r.Close()
		r.Use("b")
		n = r.stats.Checks.Load()
		after(time.Minute)
		if r.stats.Checks.Load() != n || r.stats.Out.Load() != 0 {
			t.Error("a closed checker checks")
		}
	})
}
