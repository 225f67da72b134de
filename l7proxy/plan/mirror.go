package plan

import (
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Mirrors returns the edges to which copies of the request of the last Edge go. They
// are valid until the next.
func (p *Planner) Mirrors() []*upstream.Edge { return p.mirrors }

// mirror chooses them. A shadow that is not there gets no copy.
func (p *Planner) mirror(pl *plan, route *snapshot.Route) {
	for _, m := range route.Action.Mirrors {
		if !snapshot.Hit(m.Fraction, p.random.Uint64()) {
			continue
		}
		set := p.set(m.Cluster)
		if set == nil {
			continue
		}
		endpoint, err := set.Pick(cluster.Choice{Random: p.random.Uint64()})
		if err != nil {
			continue
		}
		k := edgeKey{mirror: true, route: route, cluster: m.Cluster, endpoint: endpoint}
		e := pl.edges[k]
		if e == nil {
			e = p.edge(pl, k)
			e.Retry = nil
			for _, call := range []*rpc.Call{e.Remote, e.SameNode} {
				call.Observer = unobserved{} // the call is the real one, and counted as that
			}
		}
		p.mirrors = append(p.mirrors, e)
	}
}

// unobserved takes the records of copies.
type unobserved struct{}

// Observe does nothing. Part of rpc.Observer.
func (unobserved) Observe(*rpc.Record) {}
