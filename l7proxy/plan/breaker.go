package plan

import (
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/herald"
)

// which names the breaker of a cluster.
func (p *Planner) which(cluster string) breaker.Which {
	return breaker.Which{Workload: p.source.Workload.UID, Cluster: cluster}
}

// full tells whether no more request may go to a cluster now, and otherwise notes one.
func (p *Planner) full(set *cluster.Set) bool {
	c := set.Config()
	return c != nil && c.MaxRequests != nil && p.tab.Full(p.env.Breakers, p.which(set.Name()), c.MaxRequests)
}

// Sent says that the requests which were planned have been sent, and count by
// themselves from here on.
func (p *Planner) Sent() { p.tab.Sent() }

// guarded is an endpoint of a cluster, whose requests are counted where it has
// thresholds.
func (p *Planner) guarded(name string, e *cluster.Endpoint) herald.Endpoint {
	if c := p.snap.Clusters[name]; c != nil {
		return p.tab.Guard(p.env.Breakers, p.which(name), c.MaxRequests, e)
	}
	return e
}
