package cluster

import (
	"net/netip"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/backoff"
	"github.com/dubway/dubway/l7proxy/cluster/checkup"
	"github.com/dubway/dubway/l7proxy/cluster/outlier"
	"github.com/dubway/dubway/l7proxy/gauge"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Endpoint is one provider address of one cluster. Its fields do not change; a
// new snapshot makes a new Endpoint that shares the old one's counters. Safe
// for concurrent use.
type Endpoint struct {
	Address netip.AddrPort
	// Info is what the snapshot says of the endpoint. Never nil.
	Info *snapshot.Endpoint

	health  *health
	monitor *outlier.Monitor // nil: how its requests fare is nobody's business
	check   *checkup.Subject // nil: nobody checks it
}

func newEndpoint(addr netip.AddrPort, info *snapshot.Endpoint, h *health) *Endpoint {
	return &Endpoint{Address: addr, Info: info, health: h}
}

// Begin counts a request that is sent to the endpoint; every Begin needs an End.
func (e *Endpoint) Begin() { e.health.active.Add(1) }

// End counts a request of Begin as done, and what it says of the endpoint.
func (e *Endpoint) End(o rpc.Outcome) {
	e.health.active.Add(-1)
	if e.monitor != nil {
		e.monitor.Put(o)
	}
}

// Succeeded tells of n requests that ended well and were not begun here.
func (e *Endpoint) Succeeded(n uint64) { e.monitor.Succeeded(n) }

// Active is the number of requests in flight, those of lanes that share the Gauge too.
func (e *Endpoint) Active() int64 { return e.health.active.Load() }

// Gauge counts the requests in flight.
func (e *Endpoint) Gauge() *gauge.Gauge { return &e.health.active }

// Failed tells that a connect to the endpoint failed: it is avoided for a
// second, and twice as long after each further failure, up to 30 seconds.
// Failures while it is avoided already count for nothing: they are of connects
// that began before.
func (e *Endpoint) Failed() {
	e.health.backoff.Failed()
	if e.monitor != nil {
		e.monitor.Put(rpc.OutcomeUnreachable)
	}
}

// Connected tells that a connect succeeded: past failed connects are forgotten.
func (e *Endpoint) Connected() {
	e.health.backoff.Connected()
	if e.monitor != nil {
		e.monitor.Put(rpc.OutcomeConnected)
	}
}

// Ejected tells whether outlier detection leaves the endpoint alone at present.
func (e *Endpoint) Ejected() bool { return e.monitor != nil && e.monitor.Ejected() }

// Fit tells whether the endpoint counts as healthy: what the control plane says,
// and what was seen here.
func (e *Endpoint) Fit() bool { return e.isReady() && !e.Ejected() }

// Draining tells that the provider is about to stop: the endpoint is avoided for
// as long as a Java provider needs to end. After that it refuses, and Failed
// keeps it away, or it is there anew. A connect that succeeds meanwhile changes
// nothing: a provider that is about to stop still listens.
func (e *Endpoint) Draining() { e.health.backoff.Drain() }

// Avoided tells whether the endpoint is chosen only where no other is left.
func (e *Endpoint) Avoided() bool { return e.health.backoff.Avoided() }

// Failures is the number of failed connects since the last success.
func (e *Endpoint) Failures() int { return e.health.backoff.Failures() }

// isReady tells whether the control plane, and whoever checks it, say that the
// endpoint serves. One that is ejected or avoided is ready: it has had its start.
func (e *Endpoint) isReady() bool { return e.Info.Healthy && (e.check == nil || e.check.Fit()) }

// UsedBy tells that a workload of this node sends to the endpoint: it may be checked
// as that workload.
func (e *Endpoint) UsedBy(workload string) {
	if e.check != nil {
		e.check.Use(workload)
	}
}

// weight is at least 1.
func (e *Endpoint) weight() uint64 { return uint64(max(e.Info.Weight, 1)) }

// health is what is known of an address of a cluster beyond its configuration.
type health struct {
	active  gauge.Gauge
	backoff backoff.Backoff
	// ready is since when the endpoint counts as ready, zero while it does not; the
	// Manager's lock guards it.
	ready time.Time
}
