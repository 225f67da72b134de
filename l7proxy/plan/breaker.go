package plan

import (
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/herald"
)

// held is what a planner remembers of a cluster's breaker.
type held struct {
	*breaker.Breaker

	planned int // requests that have a way and are not sent yet
}

// full tells whether no more request may go to a cluster now, and otherwise notes one.
func (p *Planner) full(set *cluster.Set) bool {
	c := set.Config()
	if c == nil || c.MaxRequests == nil {
		return false
	}
	h := p.breaker(set.Name())
	if h.Full(c.MaxRequests, h.planned) {
		return true
	}
	h.planned++
	return false
}

// breaker finds the one of a cluster.
func (p *Planner) breaker(name string) *held {
	h := p.breakers[name]
	if h == nil {
		if p.breakers == nil {
			p.breakers = make(map[string]*held)
		}
		h = &held{Breaker: p.env.Breakers.Of(p.source.Workload.UID, name)}
		p.breakers[name] = h
	}
	return h
}

// Sent says that the requests which were planned have been sent, and count by
// themselves from here on.
func (p *Planner) Sent() {
	for _, h := range p.breakers {
		h.planned = 0
	}
}

// guarded is an endpoint of a cluster, whose requests are counted where it has
// thresholds.
func (p *Planner) guarded(name string, e *cluster.Endpoint) herald.Endpoint {
	if c := p.snap.Clusters[name]; c != nil && c.MaxRequests != nil {
		return &breaker.Guarded{Endpoint: e, Breaker: p.breaker(name).Breaker}
	}
	return e
}
