package plan

import (
	"cmp"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/telling"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// chosen is the way to an endpoint that may not export the interface yet.
func (p *Planner) chosen(pl *plan, route *snapshot.Route, set *cluster.Set, endpoint *cluster.Endpoint) *upstream.Edge {
	k := edgeKey{
		route: route, share: p.share, cluster: set.Name(), endpoint: endpoint, observed: p.observed, would: p.would,
	}
	if e := pl.edges[k]; e != nil {
		return e
	}
	e := p.edge(pl, k)
	if set.Others(endpoint.Address) {
		e.Export = p.exports.Of(pl.iface, pl.version, endpoint.Address)
	}
	return e
}

// edge remembers the way to an endpoint.
func (p *Planner) edge(pl *plan, k edgeKey) *upstream.Edge {
	if e := pl.edges[k]; e != nil {
		return e
	}
	e := p.newEdge(p.call(pl, k), p.guarded(k.cluster, k.endpoint), router.TLSOf(p.snap, k.cluster, k.endpoint.Info))
	if !k.observed {
		e.Retry = k.route.Action.Retry
	}
	e.Answers = p.answersOf(pl, e)
	e.Group.Watch(k.endpoint)
	k.endpoint.UsedBy(p.source.Workload.UID)
	p.watched = append(p.watched, watch{e.Group, k.endpoint})
	pl.edges[k] = e
	return e
}

// newEdge makes what is remembered of one way through the mesh.
func (p *Planner) newEdge(call *rpc.Call, endpoint herald.Endpoint, tls mutual.TLS) *upstream.Edge {
	key := p.source.Key(p.protocol, call.Endpoint)
	key.TLS = tls
	e := &upstream.Edge{Group: p.group(key)}
	e.Protocol, e.Endpoint, e.Remote, e.Downstream = p.protocol, endpoint, call, p.source.Remote
	e.Remote.Reporter = rpc.ReporterSource
	same := *e.Remote
	book, account := p.env.Book(), p.source.Workload.Account()
	book.Planned(e.Remote, account, tls)
	book.Planned(&same, account, mutual.TLS{})
	same.SameNode, same.Reporter = true, rpc.ReporterSource|rpc.ReporterDestination
	e.SameNode = &same
	e.Remote.Observer = p.env.Recorder.Prepare(e.Remote)
	e.SameNode.Observer = p.env.Recorder.Prepare(e.SameNode)
	return e
}

// refuse returns an edge that leads nowhere, for the refusal's record.
func (p *Planner) refuse(pl *plan, route *snapshot.Route, why rpc.Why) (*upstream.Edge, rpc.Why) {
	if known := pl.refusal[why]; known.edge != nil && known.route == route {
		return known.edge, why
	}
	k := edgeKey{route: route}
	if route != nil && route.Action.Direct == nil {
		k.cluster = route.Action.Clusters[0].Cluster
	}
	call := p.call(pl, k)
	call.Reporter = rpc.ReporterSource
	call.Observer = p.env.Recorder.Prepare(call)
	made := &upstream.Edge{Edge: p.nowhere(call)}
	if route != nil {
		made.Direct = route.Action.Direct
	}
	pl.refusal[why] = refusal{route, made}
	return made, why
}

// nowhere is an edge to no endpoint that anybody balances.
func (p *Planner) nowhere(call *rpc.Call) exchange.Edge {
	return exchange.Edge{Protocol: p.protocol, Endpoint: herald.Nobody{}, Remote: call, SameNode: call, Downstream: p.source.Remote}
}

// call describes a way for telemetry.
func (p *Planner) call(pl *plan, k edgeKey) *rpc.Call {
	c := &rpc.Call{
		Protocol: p.protocol.Name, Source: p.source.Workload.Peer, Interface: pl.iface, Method: pl.method,
		Version: pl.version, Generic: pl.generic, Application: pl.application,
		Original: p.source.Original, Cluster: k.cluster,
	}
	k.would.tell(c)
	if p.listener != nil {
		c.Listener = p.listener.Name
	}
	if k.route != nil {
		c.Route = cmp.Or(k.route.Name, k.route.Origin)
	}
	if cl := p.snap.Clusters[k.cluster]; cl != nil {
		c.Service = rpc.Service(cl.Service)
	}
	at := p.source.Original
	if k.endpoint != nil {
		c.Endpoint = k.endpoint.Address
		c.Destination = p.env.Workloads.Peer(k.endpoint.Address.Addr(), k.endpoint.Info)
		at = c.Endpoint
	}
	provider := p.teller.Provider(telling.Views{Of: p.env.View, Workloads: p.env.Workloads}, at)
	c.Told = report.Tell(telling.Rules(p.listener), provider)
	return c
}

// told is the edge of a request of which telemetry asks more than its names.
func (p *Planner) told(e *upstream.Edge, h codec.Header, body []byte) *upstream.Edge {
	prefix, state := p.protocol.Requests.Prefix(h, body)
	p.described = p.described && !p.source.Inbound // where that may be of another request
	p.describe(p.of(prefix, body, state == codec.Complete))
	if state == codec.Complete && p.request.Attachments == nil {
		p.open(h, body, prefix)
	}
	return p.teller.Edge(e, &p.request, p.env.Recorder)
}

// group references a group once per connection.
func (p *Planner) group(k upstream.Key) *upstream.Group {
	g := p.env.Pool.Group(k, p.source.Remote)
	if p.groups[g] {
		g.Release()
	}
	p.groups[g] = true
	return g
}
