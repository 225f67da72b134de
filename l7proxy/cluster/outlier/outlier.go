// Package outlier judges the endpoints of one cluster by how their requests fare,
// and tells which are to be left alone for a while, by the rules of Envoy's outlier
// detection: failures in a row at once, rates of success at every interval. It sends
// nothing and chooses nothing.
package outlier

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Kind is the reason of an ejection.
type Kind uint8

// The kinds. The last three look at what is seen from here; they need
// snapshot.Outlier.Split.
const (
	Errors Kind = iota
	Unavailable
	SuccessRate
	FailurePercentage
	Local
	SuccessRateLocal
	FailurePercentageLocal
	numKinds
)

// Kinds is the number of kinds, for tables.
const Kinds = int(numKinds)

// String returns Envoy's name of the kind, for metrics.
func (k Kind) String() string {
	switch k {
	case Errors:
		return "consecutive_5xx"
	case Unavailable:
		return "consecutive_gateway_failure"
	case SuccessRate:
		return "success_rate"
	case FailurePercentage:
		return "failure_percentage"
	case Local:
		return "consecutive_local_origin_failure"
	case SuccessRateLocal:
		return "local_origin_success_rate"
	case FailurePercentageLocal:
		return "local_origin_failure_percentage"
	case numKinds:
	}
	return "unknown"
}

// Stats are counters of all detectors that share them, for metrics.
type Stats struct {
	Ejections [Kinds]atomic.Uint64
	Active    atomic.Int64  // endpoints that are ejected now
	Overflows atomic.Uint64 // ejections that MaxEjected forbade
}

// Detector judges the endpoints of one cluster. Safe for concurrent use.
type Detector struct {
	config  atomic.Pointer[snapshot.Outlier]
	stats   *Stats
	changed func()

	mu      sync.Mutex
	hosts   map[netip.AddrPort]*Monitor
	ejected int
	timer   *time.Timer
	closed  bool
}

// New returns a Detector without endpoints. Changed is called, without a lock, after
// endpoints were ejected or let in again; it must not block. Close ends it.
func New(c *snapshot.Outlier, stats *Stats, changed func()) *Detector {
	d := &Detector{stats: stats, changed: changed, hosts: make(map[netip.AddrPort]*Monitor)}
	d.config.Store(c)
	d.timer = time.AfterFunc(c.Interval, d.sweep)
	return d
}

// Configure makes the detector follow c. What it knows of endpoints stays.
func (d *Detector) Configure(c *snapshot.Outlier) {
	if d.config.Swap(c) == c {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.timer.Reset(c.Interval)
	}
}

// Monitor returns what judges the endpoint at an address, making it if there is none.
func (d *Detector) Monitor(addr netip.AddrPort) *Monitor {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.hosts[addr]
	if m == nil {
		m = &Monitor{detector: d}
		d.hosts[addr] = m
	}
	return m
}

// Keep forgets the endpoints that are not wanted any more.
func (d *Detector) Keep(wanted func(netip.AddrPort) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for addr, m := range d.hosts {
		if !wanted(addr) {
			delete(d.hosts, addr)
			m.gone = true
			d.admit(m)
		}
	}
}

// Close forgets all endpoints and stops.
func (d *Detector) Close() {
	d.Keep(func(netip.AddrPort) bool { return false })
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.timer.Stop()
}

// consecutive ejects an endpoint that failed too often in a row.
func (d *Detector) consecutive(m *Monitor, k Kind) {
	d.mu.Lock()
	did := d.eject(m, k)
	m.row(k).Store(0) // or it would count on, past the threshold, without a success between
	d.mu.Unlock()
	if did {
		d.changed()
	}
}

// eject leaves an endpoint alone from now on, if the limits allow. The caller locks.
func (d *Detector) eject(m *Monitor, k Kind) bool {
	c := d.config.Load()
	if m.gone || m.ejected.Load() {
		return false
	}
	// As in Envoy the share is that before the ejection, so that any limit above 0
	// allows one.
	if 100*d.ejected >= int(min(c.MaxEjected, 100))*len(d.hosts) && (!c.AlwaysOne || d.ejected > 0) {
		d.stats.Overflows.Add(1)
		return false
	}
	if rand.Uint32N(100) >= enforced(c, k) {
		return false
	}
	d.ejected++
	d.stats.Active.Add(1)
	d.stats.Ejections[k].Add(1)
	m.since, m.jitter = time.Now(), 0
	if c.MaxJitter > 0 {
		m.jitter = rand.N(c.MaxJitter)
	}
	if time.Duration(m.times)*c.BaseEjection < c.MaxEjection+c.BaseEjection {
		m.times++
	}
	m.ejected.Store(true)
	return true
}

// admit ends an ejection, and reports whether there was one. The caller locks.
func (d *Detector) admit(m *Monitor) bool {
	if !m.ejected.Load() {
		return false
	}
	d.ejected--
	d.stats.Active.Add(-1)
	// The rows too: a counter that was close to its threshold would eject at once.
	m.external.row.Store(0)
	m.local.row.Store(0)
	m.unavailable.Store(0)
	m.ejected.Store(false)
	return true
}

// sweep lets endpoints in whose time is over and looks at the rates.
func (d *Detector) sweep() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	c, now := d.config.Load(), time.Now()
	did := false
	for _, m := range d.hosts {
		switch {
		case !m.ejected.Load():
			m.times = max(m.times-1, 0)
		case now.Sub(m.since) >= min(time.Duration(m.times)*c.BaseEjection, c.MaxEjection)+m.jitter:
			did = d.admit(m) || did
		}
	}
	for _, m := range d.hosts {
		m.external.take()
		m.local.take()
	}
	did = d.judge(c, false) || did
	if c.Split {
		did = d.judge(c, true) || did
	}
	d.timer.Reset(c.Interval)
	d.mu.Unlock()
	if did {
		d.changed()
	}
}

func enforced(c *snapshot.Outlier, k Kind) uint32 {
	switch k {
	case Errors:
		return c.Errors.Enforced
	case Unavailable:
		return c.Unavailable.Enforced
	case SuccessRate:
		return c.SuccessRate.Enforced
	case FailurePercentage:
		return c.FailurePercentage.Enforced
	case Local:
		return c.Local.Enforced
	case SuccessRateLocal:
		return c.SuccessRate.EnforcedLocal
	case FailurePercentageLocal:
		return c.FailurePercentage.EnforcedLocal
	case numKinds:
	}
	return 0
}
