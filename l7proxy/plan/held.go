package plan

import (
	"math"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/fault"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// noFault is the number of a filter that is behind all others.
const noFault = math.MaxInt

// way is what is decided of a request before it is held. It holds behind that: a second
// drawing would change the shares of routes and clusters.
type way struct {
	snap   *snapshot.Snapshot
	route  *snapshot.Route
	target snapshot.WeightedCluster
}

// Held is a request with a fault, or one that services are asked about, as the planner
// goes on with it. Immutable.
type Held struct {
	fault.Injection
	Questions []global.Question // in their order; none: it has a fault

	way  way
	next int // the fault filter to go on with
}

// Waits tells whether the request is to be held: until its delay is over, or until its
// questions are answered.
func (h *Held) Waits() bool {
	return h != nil && (h.Delay > 0 || len(h.Questions) > 0 && !h.Questions[0].Observed)
}

// injector is what fault filters look at, made for the first one that may do
// something.
type injector struct {
	subject fault.Subject
	values  condition.Values
}

// Held returns what is to be done about the request of the last Edge or Resume before it
// goes anywhere; nil for nothing.
func (p *Planner) Held() *Held { return p.waits }

// Resume is Edge for a request whose delay is over and that is not aborted, or whose
// questions are answered. The way that it was on holds while the configuration is the
// same. Policies are not asked again; the next fault filter is.
func (p *Planner) Resume(h codec.Header, body []byte, held *Held) (*upstream.Edge, rpc.Why) {
	return p.resume(h, body, held, held.next)
}

// Pass is Resume for a request that is to be held and cannot be: if it is a fault's
// delay, no fault filter is asked any more.
func (p *Planner) Pass(h codec.Header, body []byte, held *Held) (*upstream.Edge, rpc.Why) {
	if held.Filter == nil {
		return p.resume(h, body, held, held.next)
	}
	return p.resume(h, body, held, noFault)
}

func (p *Planner) resume(h codec.Header, body []byte, held *Held, next int) (*upstream.Edge, rpc.Why) {
	p.admitted, p.questions, p.resumed, p.next = true, nil, held, next
	if p.refresh(); p.snap != held.way.snap && held.Filter != nil {
		p.next = noFault
	}
	e, why := p.find(h, body)
	p.resumed = nil
	return e, why
}

// hold decides what is done about a request on its way before its endpoint is chosen: an
// edge for its record, if anything is. Open opens its body.
func (p *Planner) hold(pl *plan, on way, open func()) (*upstream.Edge, rpc.Why) {
	if p.ask(on) {
		e, _ := p.refuse(pl, on.route, rpc.WhyLimited)
		return e, rpc.WhyNone // e is for its record if it ends meanwhile
	}
	if len(p.listener.Faults) == 0 || p.next == noFault || p.observed {
		return nil, rpc.WhyNone
	}
	if p.inject(pl, on, open); p.waits == nil {
		return nil, rpc.WhyNone
	}
	e, why := p.refuse(pl, on.route, rpc.WhyFault)
	if p.waits.Delay > 0 {
		why = rpc.WhyNone // the same
	}
	return e, why
}

// ask notes that services are to be asked about a request, if there are questions. True:
// it is to wait for the answers.
func (p *Planner) ask(on way) bool {
	if len(p.questions) == 0 {
		return false
	}
	p.waits = &Held{Questions: p.questions, way: on}
	return p.waits.Waits()
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
		p.waits = &Held{Injection: in, way: on, next: p.next}
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
