package plan

import (
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telling"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Consumer returns whose connection it is, as policies know him, and whether anybody
// vouches for him.
func (s *Source) Consumer(env *Env) (c *subject.Consumer, known bool) {
	if s.Inbound {
		return env.Book().Visitor(s.Remote.Addr(), s.Principal)
	}
	return env.Book().Own(s.Workload.Peer, s.Remote.Addr()), true
}

// Entrance returns what is held against a connection at its provider; nil: nothing.
// Sealed says that its bytes are TLS: inside the mesh's own that makes no difference.
func (s *Source) Entrance(env *Env, snap *snapshot.Snapshot, sealed bool) *snapshot.Listener {
	in := snap.Inbound(s.Original, s.Workload.Whole())
	if in == nil {
		return nil
	}
	known := s.Principal != "" || env.Workloads.ByAddress(s.Remote.Addr()) != nil
	return in.Listener(known, sealed && s.Principal == "")
}

// enter holds a request against the policies of its provider, and leads to the
// provider's application. Open opens the request's body.
func (p *Planner) enter(pl *plan, open func()) (*upstream.Edge, rpc.Why) {
	if !guarded(p.listener) || p.admitted {
		return p.inboundEdge(pl), rpc.WhyNone
	}
	p.described = false
	route := pl.route
	if route == nil && p.listener.Route != nil {
		route = p.match(pl, open)
	}
	if why := p.admit(pl, route, open); why != rpc.WhyNone {
		return p.turnAway(pl, why)
	}
	p.admitted = true
	if p.ask(way{snap: p.snap, route: route}) {
		e, _ := p.turnAway(pl, rpc.WhyLimited)
		return e, rpc.WhyNone
	}
	return p.inboundEdge(pl), rpc.WhyNone
}

// turnAway is refuse for a request to the pod's own application.
func (p *Planner) turnAway(pl *plan, why rpc.Why) (*upstream.Edge, rpc.Why) {
	if pl.refusal[why].edge == nil {
		pl.refusal[why].edge = &upstream.Edge{Edge: p.nowhere(p.inboundCall(pl))}
	}
	return pl.refusal[why].edge, why
}

// inboundEdge leads to the pod's own application.
func (p *Planner) inboundEdge(pl *plan) *upstream.Edge {
	k := edgeKey{observed: p.observed, would: p.would}
	if e := pl.edges[k]; e != nil {
		return e
	}
	e := &upstream.Edge{Group: p.group(p.source.Key(p.protocol, p.source.Original)), Edge: p.nowhere(p.inboundCall(pl))}
	if len(p.watched) == 0 {
		w := &entrance{host: p.host}
		e.Group.Watch(w)
		p.watched = append(p.watched, watch{e.Group, w})
	}
	pl.edges[k] = e
	return e
}

// inboundCall describes the way to the pod's own application for telemetry.
func (p *Planner) inboundCall(pl *plan) *rpc.Call {
	call := &rpc.Call{
		Protocol: p.protocol.Name, Reporter: rpc.ReporterDestination,
		Source: p.env.Workloads.Peer(p.source.Remote.Addr(), nil), Destination: p.source.Workload.Peer,
		Interface: pl.iface, Method: pl.method, Version: pl.version, Generic: pl.generic,
		Application: pl.application, Service: rpc.Service(p.snap.Served(p.source.Original.Port())),
		Endpoint: p.source.Original, Original: p.source.Original,
	}
	if p.listener != nil {
		call.Listener = p.listener.Name
	}
	p.env.Book().Accepted(call, p.source.Remote.Addr(), p.source.Principal, p.source.Own)
	p.would.tell(call)
	call.Told = report.Tell(nil, telling.Rules(p.listener))
	call.Observer = p.env.Recorder.Prepare(call)
	return call
}

// entrance hears of the pod's own application for a consumer of it: what it says of
// itself its consumers are told, as without a mesh.
type entrance struct {
	herald.Nobody

	host Host
}

// Draining passes READONLY on. Part of herald.Endpoint.
func (e *entrance) Draining() { e.host.ReadOnly() }
