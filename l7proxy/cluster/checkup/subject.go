package checkup

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// Subject is one endpoint. Safe for concurrent use.
type Subject struct {
	checker *Checker
	addr    netip.AddrPort
	unfit   atomic.Bool
	failed  atomic.Pointer[string] // why the last check failed; nil: it did not

	// The checker's lock guards what follows.
	stop context.CancelFunc // nil: it is not checked yet
	out  bool               // counted in Stats.Out

	// The rest belongs to run.
	checked bool
	row     uint32 // results in a row that contradict the state
}

// Fit tells whether the endpoint may be chosen as far as checks tell.
func (s *Subject) Fit() bool { return !s.unfit.Load() }

// Failure is why the last check failed; "" if it was passed, or not made.
func (s *Subject) Failure() string {
	if text := s.failed.Load(); text != nil {
		return *text
	}
	return ""
}

// Use says that a workload uses the cluster.
func (s *Subject) Use(workload string) { s.checker.Use(workload) }

// run checks the subject until its end.
func (s *Subject) run(ctx context.Context) {
	c := s.checker
	wait := time.Duration(0)
	if n := c.p.Check.InitialJitter; n > 0 {
		wait = rand.N(n)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := c.probe(ctx, s.addr)
		changed := false
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrUnasked): // what was seen last holds
		case errors.Is(err, ErrNobody):
			changed = s.release()
		default:
			changed = s.take(err)
		}
		timer.Reset(c.jittered(s.interval(changed)))
	}
}

// take counts a result, and reports whether the endpoint's state is another.
func (s *Subject) take(err error) (changed bool) {
	c := s.checker
	c.p.Stats.Checks.Add(1)
	want := c.p.Check.Passes
	if err != nil {
		c.p.Stats.Failures.Add(1)
		text := err.Error()
		s.failed.Store(&text)
		want = c.p.Check.Fails
	} else {
		s.failed.Store(nil)
		defer c.p.Passed(s.addr)
	}
	first := !s.checked
	s.checked = true
	if (err == nil) == s.Fit() {
		s.row = 0
		if err != nil {
			s.count(true) // it waited for its first check
		}
		return false
	}
	s.row++
	// As in Envoy the first check decides alone for an endpoint that waits for it.
	if s.row < want && (!first || err != nil) {
		return false
	}
	s.row = 0
	s.set(err != nil)
	return true
}

// release lets the endpoint in because there is nobody left to check it. Whoever
// comes next must find something to use.
func (s *Subject) release() (changed bool) {
	s.checked, s.row = false, 0
	s.failed.Store(nil)
	if s.Fit() {
		return false
	}
	s.set(false)
	return true
}

func (s *Subject) set(unfit bool) {
	s.unfit.Store(unfit)
	if s.count(unfit) {
		s.checker.p.Changed()
	}
}

// count keeps Stats.Out, and reports whether the endpoint is still of the cluster.
func (s *Subject) count(out bool) bool {
	c := s.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subjects[s.addr] != s {
		return false
	}
	switch {
	case out && !s.out:
		c.p.Stats.Out.Add(1)
	case !out && s.out:
		c.p.Stats.Out.Add(-1)
	}
	s.out = out
	return true
}

// interval is the time to the next check.
func (s *Subject) interval(changed bool) time.Duration {
	check := s.checker.p.Check
	switch {
	case changed && s.Fit():
		return check.HealthyEdge
	case changed:
		return check.UnhealthyEdge
	case !s.Fit():
		return check.Unhealthy
	}
	return check.Interval
}
