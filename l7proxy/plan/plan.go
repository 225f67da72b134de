package plan

import (
	"net/netip"
	"strings"
	"time"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/deadline"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/retry"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// maxPlans bounds what one connection remembers; beyond it, it starts afresh.
const maxPlans = 256

// plan is what a connection remembers of the requests that look alike.
type plan struct {
	route       *snapshot.Route // of a static table; nil: look again
	iface       string          // copies, not aliases of a buffer
	method      string
	version     string
	generic     bool
	application string // of the first request of the kind, if it was asked for
	asked       bool
	edges       map[edgeKey]*upstream.Edge
	refusal     [rpc.Whys]refusal // for requests that reach no endpoint, and for delayed ones
	undecodable bool
	attached    bool // their consumer reads answers with attachments
	dialled     dialled
	inverted    inverted.Last
	verdict     *filter.Verdict // of policies, that holds for all of the plan; nil: judge
	judged      *snapshot.Route // that verdict is of
	seen        bool            // that verdict is of a workload that is only observed
}

// refusal is an edge that leads nowhere, of the requests that took one route.
type refusal struct {
	route *snapshot.Route
	edge  *upstream.Edge
}

type edgeKey struct {
	mirror   bool
	observed bool
	would    *would
	route    *snapshot.Route
	share    *snapshot.Edits // of the route
	cluster  string
	endpoint *cluster.Endpoint
}

// of returns the plan of a request whose prefix ends at p.End: of a generic call
// behind the method that it names.
func (p *Planner) of(prefix codec.Prefix, body []byte, decoded bool) *plan {
	var look []byte
	if decoded {
		look = body[:prefix.End]
	}
	if found := p.plans[string(look)]; found != nil {
		return found
	}
	made := &plan{
		iface: strings.Clone(prefix.Path), method: strings.Clone(prefix.Method), version: strings.Clone(prefix.Version),
		generic: prefix.Generic, edges: make(map[edgeKey]*upstream.Edge), undecodable: !decoded,
		attached: decoded && p.protocol.Attached != nil && p.protocol.Attached.Reads(prefix),
	}
	made.dialled.pinned = decoded && router.Pinned(made.iface, made.method)
	p.remember(look, made)
	return made
}

// readApplication reads the consumer's own name in the first request of a kind: a
// connection is one process, which has one name. Open opens its body.
func (p *Planner) readApplication(pl *plan, open func()) {
	pl.asked = true
	open()
	// An error is a body that cannot be read, or the beginning of a large one.
	if name, _, err := p.body.Lookup("remote.application"); err == nil {
		pl.application = strings.Clone(name)
	}
}

// Edge decides where a request goes: the one function through which every
// request of the connection passes. The edge is the request's record's even where
// why says that it reaches no endpoint. Limit and Held tell of the same request:
// where Held says that it waits, the edge leads nowhere yet, and Resume finds
// the way.
func (p *Planner) Edge(h codec.Header, body []byte) (*upstream.Edge, rpc.Why) {
	p.admitted, p.questions, p.next = false, nil, 0
	return p.find(h, body)
}

// find is Edge for a request that policies may have let pass already.
func (p *Planner) find(h codec.Header, body []byte) (*upstream.Edge, rpc.Why) {
	p.refresh()
	e, why := p.decide(h, body)
	if why == rpc.WhyNoCluster && p.snap != p.current() {
		// The snapshot went while the request was looked at, and its cluster too.
		p.doomed = false
		p.refresh()
		e, why = p.decide(h, body)
	}
	if e.SameNode.Told.Asks() {
		e = p.told(e, h, body)
	}
	if why == rpc.WhyNone && p.line.Parted() {
		return e, rpc.WhyUpstreamClosed // the consumer's connection ends too
	}
	return e, why
}

// Lead says what a lane has drawn for the next Edge's request.
func (p *Planner) Lead(l router.Lead) { p.lead = l }

// Elsewhere is Edge for a request that Edge has found a way for already, and that some
// endpoints could not serve. Policies are not asked again.
func (p *Planner) Elsewhere(h codec.Header, body []byte, except ...netip.AddrPort) (*upstream.Edge, rpc.Why) {
	p.except, p.admitted, p.questions, p.next, p.lead = except, true, nil, noFault, p.lead.Again()
	e, why := p.find(h, body)
	p.except = nil
	return e, why
}

// Limit returns how long the request of the last Edge may take; 0: there is no limit.
func (p *Planner) Limit() time.Duration { return p.limit }

func (p *Planner) decide(h codec.Header, body []byte) (*upstream.Edge, rpc.Why) {
	p.shapeless()
	prefix, state := p.protocol.Requests.Prefix(h, body)
	pl := p.of(prefix, body, state == codec.Complete)
	open := func() { p.open(h, body, prefix) }
	if p.env.Applications && !pl.asked && !pl.undecodable {
		p.readApplication(pl, open)
	}
	switch shed := p.source.Quota.Shedding(); {
	case shed && p.source.Inbound:
		return p.turnAway(pl, rpc.WhyOverload)
	case shed:
		return p.refuse(pl, nil, rpc.WhyOverload)
	case p.source.Inbound:
		return p.enter(pl, open)
	}
	p.described = false
	pinned := pl.dialled.pinned && p.dialled.Own
	route, resumed := pl.route, p.resumed != nil && p.resumed.way.snap == p.snap
	switch {
	case resumed:
		route = p.resumed.way.route
	case route != nil, pinned:
	case p.listener == nil, p.listener.Route == nil:
		p.doomed = p.dialled.Gone() // looks dead
		return p.refuse(pl, nil, rpc.WhyNoRoute)
	default:
		route = p.match(pl, open)
	}
	if guarded(p.listener) && !p.admitted {
		if why := p.admit(pl, route, open); why != rpc.WhyNone {
			return p.refuse(pl, route, why)
		}
		p.admitted = true
	}
	switch {
	case pinned:
		return p.pinnedEdge(pl), rpc.WhyNone
	case route == nil:
		return p.refuse(pl, nil, rpc.WhyNoRoute)
	}
	p.shape(pl, route, open)
	var target snapshot.WeightedCluster
	switch {
	case resumed:
		target = p.resumed.way.target
	case route.Action.Direct == nil:
		target = p.target(pl, route)
	}
	if e, why := p.hold(pl, way{p.snap, route, target}, open); e != nil {
		return e, why
	}
	if route.Action.Direct != nil {
		return p.refuse(pl, route, rpc.WhyDirect)
	}
	return p.choose(pl, route, target)
}

// shapeless forgets what was planned for the request before.
func (p *Planner) shapeless() {
	p.limit, p.mirrors, p.waits = 0, p.mirrors[:0], nil
	p.edits, p.answers, p.share = nil, nil, nil
	p.observed, p.would = p.mode.Mode() != mode.Enforce, nil
}

// match finds the route of a request that its plan has none of. Open opens its body.
func (p *Planner) match(pl *plan, open func()) *snapshot.Route {
	p.describe(pl)
	if !p.listener.Route.Static && !pl.undecodable {
		open()
	}
	route := router.Match(p.listener.Route, &p.request, p.random.Uint64())
	if p.listener.Route.Static {
		pl.route = route
	}
	return route
}

// shape notes what else the route says of the request: how long it may take, where
// copies go, and what it is hashed by. Open opens the request's body.
func (p *Planner) shape(pl *plan, route *snapshot.Route, open func()) {
	a := &route.Action
	p.hash = 0
	if !p.observed {
		p.limit = a.Timeout
	}
	if p.limit > 0 || len(a.Hash) > 0 {
		if p.describe(pl); !pl.undecodable && p.request.Attachments == nil && (p.limit > 0 || a.HashBody) {
			open()
		}
	}
	if p.limit > 0 && !pl.undecodable && p.resumed == nil { // which has its limit already
		if waits := deadline.OfCaller(p.body); waits < p.limit {
			p.invert(pl, route, waits)
			p.limit = waits
		}
	}
	if len(a.Hash) > 0 {
		p.hash = router.Hash(a.Hash, &p.request, p.source.Remote.Addr())
	}
	if len(a.Mirrors) > 0 && !p.observed {
		p.mirror(pl, route)
	}
}

// open lets the rules read the body of the request that is being decided.
func (p *Planner) open(h codec.Header, body []byte, prefix codec.Prefix) {
	if p.body == nil {
		p.body = p.protocol.Requests.NewBody()
	}
	p.body.Reset(h, body, prefix)
	p.request.Attachments, p.request.Arguments = p.body, p.body
}

// Work returns how many values of bodies rules have read since it was called last.
func (p *Planner) Work() int {
	if p.body == nil {
		return 0
	}
	return p.body.Work()
}

// target picks the cluster of a route.
func (p *Planner) target(pl *plan, route *snapshot.Route) snapshot.WeightedCluster {
	if pair, ok := p.line.Leads(&route.Action); ok {
		return route.Action.To(pair.Cluster)
	}
	target := router.Led(&route.Action, p.lead.Target, p.random)
	if p.dialled.Own {
		target = p.rightful(pl, route, target)
	}
	return target
}

// set finds the endpoints of a cluster by its name; nil if there is no such cluster.
func (p *Planner) set(name string) *cluster.Set { return p.env.Clusters.Of(p.snap.Clusters[name]) }

// Retry begins a retry of a request that is sent to a cluster; nil if there are as many in
// flight as may be.
func (p *Planner) Retry(name string) *retry.Token {
	if set := p.set(name); set != nil {
		return set.Retry()
	}
	return nil
}

// choose picks the endpoint in a cluster of a route.
func (p *Planner) choose(pl *plan, route *snapshot.Route, target snapshot.WeightedCluster) (*upstream.Edge, rpc.Why) {
	if !p.observed {
		p.share = target.Edits
		p.edits, p.answers = route.Action.EditsOf(&target)
	}
	if pair, ok := p.line.Leads(&route.Action); ok {
		k := edgeKey{
			route: route, share: p.share, cluster: pair.Cluster, endpoint: pair.Endpoint, observed: p.observed, would: p.would,
		}
		return p.edge(pl, k), rpc.WhyNone
	}
	set := p.set(target.Cluster)
	if set == nil {
		p.dead(pl, target.Cluster)
		return p.refuse(pl, route, rpc.WhyNoCluster)
	}
	if p.full(set) {
		return p.refuse(pl, route, rpc.WhyOverflow)
	}
	endpoint, err := p.pick(set, route, target)
	if err != nil {
		p.dead(pl, target.Cluster)
		return p.refuse(pl, route, rpc.WhyNoEndpoint)
	}
	e := p.chosen(pl, route, set, endpoint)
	if e.Export != nil && e.Export.Deaf() && len(p.except) == 0 {
		p.except = append(p.except, endpoint.Address)
		if other, err := p.pick(set, route, target); err == nil && !other.Avoided() {
			endpoint, e = other, p.chosen(pl, route, set, other)
		}
		p.except = nil
	}
	if p.dialled.Own && endpoint.Address != p.source.Original {
		p.stale(pl, target.Cluster).Add()
	}
	return e, rpc.WhyNone
}
