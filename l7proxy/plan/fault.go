package plan

import (
	"math"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/fault"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// noFault is the number of a filter that is behind all others.
const noFault = math.MaxInt

// way is what is decided of a request before its faults. For a delayed one it holds
// behind the delay: a second drawing would change the shares of routes and clusters.
type way struct {
	snap   *snapshot.Snapshot
	route  *snapshot.Route
	target snapshot.WeightedCluster
}

// Faulted is a request with a fault, as the planner goes on with it. Immutable.
type Faulted struct {
	fault.Injection

	way  way
	next int // the filter to go on with
}

// injector is what fault filters look at, made for the first one that may do
// something.
type injector struct {
	subject fault.Subject
	values  condition.Values
}

// Fault returns what is injected into the request of the last Edge or Resume; nil for
// nothing.
func (p *Planner) Fault() *Faulted { return p.fault }

// Resume is Edge for a request whose delay is over and that is not aborted. The way
// that it was on holds while the configuration is the same. Policies are not asked
// again; the next fault filter is.
func (p *Planner) Resume(h codec.Header, body []byte, held *Faulted) (*upstream.Edge, rpc.Why) {
	return p.resume(h, body, held, held.next)
}

// Pass is Resume for a request that is to be delayed and cannot be: no fault filter is
// asked any more.
func (p *Planner) Pass(h codec.Header, body []byte, held *Faulted) (*upstream.Edge, rpc.Why) {
	return p.resume(h, body, held, noFault)
}

func (p *Planner) resume(h codec.Header, body []byte, held *Faulted, next int) (*upstream.Edge, rpc.Why) {
	p.admitted, p.resumed, p.next = true, held, next
	if p.refresh(); p.snap != held.way.snap {
		p.next = noFault
	}
	e, why := p.find(h, body)
	p.resumed = nil
	return e, why
}

// inject decides which faults a request gets. Open opens its body.
func (p *Planner) inject(pl *plan, on way, open func()) {
	at := filter.Place{Listener: p.listener, Route: on.route}
	if !p.prepare(pl, at, open) {
		p.next = noFault
		return
	}
	if p.injector == nil {
		p.injector = new(injector)
	}
	s := &p.injector.subject
	p.injector.values = condition.ValuesOf(&p.request)
	*s = fault.Subject{
		Values: &p.injector.values, Cluster: on.target.Cluster, Workload: p.source.Workload.UID,
		Random: p.random.Uint64(), Abort: at.Abort(),
	}
	var in fault.Injection
	if in, p.next = p.env.Policies.Fault(at, s, p.next); in.Filter != nil {
		p.fault = &Faulted{in, on, p.next}
	}
}

// prepare makes what the filters of a place look at readable. False: none of them does
// anything.
func (p *Planner) prepare(pl *plan, at filter.Place, open func()) bool {
	idle, needs := true, snapshot.Needs(0)
	for f := range at.Faults() {
		if !f.Idle() {
			idle = false
			needs |= f.Needs
		}
	}
	if idle {
		return false
	}
	if p.describe(pl); needs&snapshot.NeedsBody != 0 && !pl.undecodable && p.request.Attachments == nil {
		open()
	}
	return true
}
