package plan

import (
	"maps"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Lane tells whether the lane may take the requests that have the names of the last Edge's,
// which this is. It changes nothing of what was planned for that one. It allocates: it is
// for names that the lane does not know.
func (p *Planner) Lane(h codec.Header, body []byte) verdict.Verdict {
	prefix, state := p.protocol.Requests.Prefix(h, body)
	if state != codec.Complete {
		return verdict.Unread(h)
	}
	pl := p.plans[string(body[:prefix.End])]
	if pl == nil { // there was no room for it
		return verdict.Verdict{Reason: verdict.Overload}
	}
	c := verdict.Case{
		Node: &p.env.Lane, Workloads: p.env.Workloads, Protocol: p.protocol, Header: h, Body: body, Prefix: prefix,
		Key: p.source.Key(p.protocol, p.source.Original), Original: p.source.Original, Own: p.dialled.Own, Set: p.set,
		Pinned: pl.dialled.pinned && p.dialled.Own, Ending: p.doomed, Line: p.line, Mode: p.mode, Shed: p.source.Quota.Shedding,
		Listener: p.listener, Access: pl.verdict, Judged: pl.judged, Edges: maps.Values(pl.edges), Now: p.current, Snapshot: p.snap,
		Changes: p.env.Changes, Domain: p.env.Identities.TrustDomain, Stale: func(name string) bool { return p.stale(pl, name) != nil },
		Rightful: func(r *snapshot.Route, t snapshot.WeightedCluster) snapshot.WeightedCluster {
			return p.rightful(pl, r, t)
		},
		Edge: func(r *snapshot.Route, s *cluster.Set, e *cluster.Endpoint) *upstream.Edge {
			return p.chosen(pl, r, s, e)
		},
	}
	if g := p.guard; g != nil && p.listener != nil && g.gate == p.listener.Gate {
		c.Let, c.Policy, c.Shadow = &g.gated, g.policy, g.shadow
	}
	return c.Judge()
}
