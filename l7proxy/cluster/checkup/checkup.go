// Package checkup checks the endpoints of one cluster again and again, and tells which
// pass: the clock and the counting of Envoy's active health checks. What is asked, and
// how, is a Prober's. It chooses no endpoint.
//
// A check is made as one of the pods that use the cluster, from its network namespace:
// the node itself may not reach what its pods do. So a cluster that no pod of this node
// uses is not checked, and all of its endpoints count as fit. From the first use on its
// endpoints are checked; those that join later count as unfit until they pass once.
package checkup

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The errors of a Prober that say nothing about the endpoint.
var (
	// ErrNobody says that the workload is gone.
	ErrNobody = errors.New("probe endpoint: no such workload")
	// ErrUnasked says that at present nobody can ask.
	ErrUnasked = errors.New("probe endpoint: cannot ask")
)

// Prober asks an endpoint once, as a workload. It returns nil if the endpoint passes,
// an error that is ErrNobody or ErrUnasked, or why the endpoint fails. Safe for
// concurrent use.
type Prober interface {
	Probe(ctx context.Context, workload string, addr netip.AddrPort, p *snapshot.Probe) error
}

// Stats are counters of all checkers that share them, for metrics.
type Stats struct {
	Checks, Failures atomic.Uint64
	Out              atomic.Int64 // endpoints that failed their checks
}

// maxWorkloads is the number of pods that a cluster's checks are made as.
const maxWorkloads = 8

// Params are what a Checker needs.
type Params struct {
	Check  *snapshot.Check
	Prober Prober
	Stats  *Stats
	// Changed is called without a lock when an endpoint is fit or unfit that was not;
	// it must not block.
	Changed func()
	// Passed is called, without a lock, after each check that was passed.
	Passed func(netip.AddrPort)
}

// Checker checks the endpoints of one cluster. Safe for concurrent use.
type Checker struct {
	p      Params
	ctx    context.Context //nolint:containedctx // the life of the checks, ended by Close
	cancel context.CancelFunc

	mu        sync.Mutex
	subjects  map[netip.AddrPort]*Subject
	workloads []string // the one that is asked as first
}

// New returns a Checker without endpoints. Close ends it.
func New(p *Params) *Checker {
	c := &Checker{p: *p, subjects: make(map[netip.AddrPort]*Subject)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Config is the check that is made.
func (c *Checker) Config() *snapshot.Check { return c.p.Check }

// Close ends the checks. It does not wait for those that are being made.
func (c *Checker) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
	for addr, s := range c.subjects {
		delete(c.subjects, addr)
		c.drop(s)
	}
}

// Subject returns the state of the endpoint at an address, making it if there is none.
func (c *Checker) Subject(addr netip.AddrPort) *Subject {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subjects[addr]
	if s == nil {
		s = &Subject{checker: c, addr: addr}
		s.unfit.Store(len(c.workloads) > 0)
		c.subjects[addr] = s
		if len(c.workloads) > 0 {
			c.start(s)
		}
	}
	return s
}

// Keep forgets the endpoints that are not wanted any more.
func (c *Checker) Keep(wanted func(netip.AddrPort) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, s := range c.subjects {
		if !wanted(addr) {
			delete(c.subjects, addr)
			c.drop(s)
		}
	}
}

// drop ends a subject. The caller locks.
func (c *Checker) drop(s *Subject) {
	if s.stop != nil {
		s.stop()
	}
	if s.out {
		c.p.Stats.Out.Add(-1)
		s.out = false
	}
}

// Use says that a workload uses the cluster: checks may be made as it.
func (c *Checker) Use(workload string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil || slices.Contains(c.workloads, workload) {
		return
	}
	if len(c.workloads) == maxWorkloads {
		c.workloads = c.workloads[1:]
	}
	c.workloads = append(slices.Clone(c.workloads), workload)
	if len(c.workloads) > 1 {
		return
	}
	for _, s := range c.subjects {
		if s.stop == nil {
			c.start(s)
		}
	}
}

// start begins to check a subject. The caller locks.
func (c *Checker) start(s *Subject) {
	ctx, stop := context.WithCancel(c.ctx)
	s.stop = stop
	go s.run(ctx)
}

// asker returns whom the next check is made as, "" for nobody.
func (c *Checker) asker() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.workloads) == 0 {
		return ""
	}
	return c.workloads[0]
}

// next makes another workload the asker: the one at hand cannot ask, or is perhaps the
// only one that may not reach the endpoint.
func (c *Checker) next(workload string, forget bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.workloads) == 0 || c.workloads[0] != workload {
		return // somebody was faster
	}
	rest := slices.Clone(c.workloads[1:])
	if !forget {
		rest = append(rest, workload)
	}
	c.workloads = rest
}

// probe makes one check. Its errors are a Prober's.
func (c *Checker) probe(ctx context.Context, addr netip.AddrPort) error {
	for {
		workload := c.asker()
		if workload == "" {
			return ErrNobody
		}
		limit, cancel := context.WithTimeout(ctx, c.p.Check.Timeout)
		err := c.p.Prober.Probe(limit, workload, addr, &c.p.Check.Probe)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ErrUnasked
		case err == nil:
			return nil
		case !errors.Is(err, ErrNobody):
			c.next(workload, false)
			return err
		}
		c.next(workload, true)
	}
}

// jittered returns an interval with the configured jitter.
func (c *Checker) jittered(d time.Duration) time.Duration {
	if n := c.p.Check.Jitter; n > 0 {
		d += rand.N(n)
	}
	if n := d / 100 * time.Duration(c.p.Check.JitterPercent); n > 0 {
		d += rand.N(n)
	}
	return d
}
