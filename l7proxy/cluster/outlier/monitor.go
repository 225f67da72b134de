package outlier

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Monitor judges one endpoint. Safe for concurrent use.
type Monitor struct {
	detector        *Detector
	external, local origin
	unavailable     atomic.Uint32 // a gateway's failures in a row
	ejected         atomic.Bool

	// What follows is guarded by the detector's lock.
	since  time.Time // of the ejection
	jitter time.Duration
	times  int // recent ejections, which make the next one longer
	gone   bool
}

// origin counts what one side of the connection saw.
type origin struct {
	row           atomic.Uint32 // failures in a row
	total, failed atomic.Uint64

	// The last interval's; guarded by the detector's lock.
	seenTotal, seenFailed uint64
	volume, failures      uint64
}

// Put counts how a request, or an attempt to connect, ended. It is on the path of
// every request: it takes no lock unless the endpoint is to be ejected.
func (m *Monitor) Put(o rpc.Outcome) {
	c := m.detector.config.Load()
	switch o {
	case rpc.OutcomeOK:
		m.external.succeed()
		if m.unavailable.Load() != 0 {
			m.unavailable.Store(0)
		}
	case rpc.OutcomeError:
		m.unavailable.Store(0)
		m.fail(c)
	case rpc.OutcomeUnavailable:
		m.failUnavailable(c)
	case rpc.OutcomeUnreachable, rpc.OutcomeReset, rpc.OutcomeTimeout:
		if !c.Split {
			m.failUnavailable(c)
			return
		}
		m.local.total.Add(1)
		m.local.failed.Add(1)
		if m.local.row.Add(1) == c.Local.Threshold {
			m.detector.consecutive(m, Local)
		}
		return
	case rpc.OutcomeConnected:
		// Without Split a connection is no success yet: the provider has done nothing.
	default:
		return
	}
	if c.Split { // an answer, whatever it says, came by a way that works
		m.local.succeed()
	}
}

// Succeeded is Put for n requests that ended well; a nil Monitor judges nobody.
func (m *Monitor) Succeeded(n uint64) {
	if m == nil || n == 0 {
		return
	}
	m.Put(rpc.OutcomeOK)
	m.external.total.Add(n - 1)
	if m.detector.config.Load().Split {
		m.local.total.Add(n - 1)
	}
}

func (m *Monitor) failUnavailable(c *snapshot.Outlier) {
	if m.unavailable.Add(1) == c.Unavailable.Threshold {
		m.detector.consecutive(m, Unavailable)
	}
	m.fail(c)
}

func (m *Monitor) fail(c *snapshot.Outlier) {
	m.external.total.Add(1)
	m.external.failed.Add(1)
	if m.external.row.Add(1) == c.Errors.Threshold {
		m.detector.consecutive(m, Errors)
	}
}

// Ejected tells whether the endpoint is to be left alone.
func (m *Monitor) Ejected() bool { return m.ejected.Load() }

// Checked tells that the endpoint passed an active health check, which ends its
// ejection unless the configuration says otherwise.
func (m *Monitor) Checked() {
	d := m.detector
	if !m.ejected.Load() || d.config.Load().KeepOnCheck {
		return
	}
	d.mu.Lock()
	did := d.admit(m)
	d.mu.Unlock()
	if did {
		d.changed()
	}
}

func (m *Monitor) row(k Kind) *atomic.Uint32 {
	switch k {
	case Local:
		return &m.local.row
	case Unavailable:
		return &m.unavailable
	default:
		return &m.external.row
	}
}

func (m *Monitor) origin(local bool) *origin {
	if local {
		return &m.local
	}
	return &m.external
}

func (o *origin) succeed() {
	o.total.Add(1)
	if o.row.Load() != 0 { // read first: endpoints that work share the line
		o.row.Store(0)
	}
}

// take closes an interval.
func (o *origin) take() {
	failed := o.failed.Load() // before total, so that it is not larger
	total := o.total.Load()
	o.volume, o.failures = total-o.seenTotal, min(failed-o.seenFailed, total-o.seenTotal)
	o.seenTotal, o.seenFailed = total, failed
}

// rate is the share of requests that succeeded, in percent.
func (o *origin) rate() float64 {
	return 100 * float64(o.volume-o.failures) / float64(o.volume)
}

// judge ejects by the rates of one origin in the last interval, and reports whether
// it did. The caller locks.
func (d *Detector) judge(c *snapshot.Outlier, local bool) (did bool) {
	rated := d.withVolume(c.SuccessRate.Volume, local)
	if len(rated) > 0 && len(rated) >= int(c.SuccessRate.Hosts) {
		least := threshold(rated, local, float64(c.SuccessRate.Factor)/1000)
		for _, m := range rated {
			if m.origin(local).rate() < least {
				did = d.eject(m, kind(SuccessRate, local)) || did
			}
		}
	}
	counted := d.withVolume(c.FailurePercentage.Volume, local)
	if len(counted) > 0 && len(counted) >= int(c.FailurePercentage.Hosts) {
		for _, m := range counted {
			if 100-m.origin(local).rate() >= float64(c.FailurePercentage.Threshold) {
				did = d.eject(m, kind(FailurePercentage, local)) || did
			}
		}
	}
	return did
}

// withVolume lists the endpoints that had so many requests and are not ejected.
func (d *Detector) withVolume(volume uint32, local bool) []*Monitor {
	var list []*Monitor
	for _, m := range d.hosts {
		if n := m.origin(local).volume; n > 0 && n >= uint64(volume) && !m.ejected.Load() {
			list = append(list, m)
		}
	}
	return list
}

// threshold is the mean rate less so many standard deviations.
func threshold(list []*Monitor, local bool, factor float64) float64 {
	var mean, variance float64
	for _, m := range list {
		mean += m.origin(local).rate()
	}
	mean /= float64(len(list))
	for _, m := range list {
		d := m.origin(local).rate() - mean
		variance += d * d
	}
	return mean - factor*math.Sqrt(variance/float64(len(list)))
}

func kind(k Kind, local bool) Kind {
	switch {
	case local && k == SuccessRate:
		return SuccessRateLocal
	case local && k == FailurePercentage:
		return FailurePercentageLocal
	}
	return k
}
