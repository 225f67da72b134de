package breaker

import "github.com/dubway/dubway/l7proxy/herald"

// Tab is what one connection of a workload has planned for clusters with thresholds: until
// its requests are sent they count for nobody else. Its zero value knows none. Not safe for
// concurrent use.
type Tab struct{ held map[string]*held }

// held is what a Tab remembers of a cluster's breaker.
type held struct {
	*Breaker

	planned int // requests that have a way and are not sent yet
}

// Which names a workload's breaker of a cluster.
type Which struct{ Workload, Cluster string }

// Full tells whether no more request may go to a cluster now, and otherwise notes one. A
// nil limit is none, and nothing is noted.
func (t *Tab) Full(all *Breakers, which Which, limit *uint32) bool {
	if limit == nil {
		return false
	}
	h := t.of(all, which)
	if h.Full(limit, h.planned) {
		return true
	}
	h.planned++
	return false
}

// Guard is an endpoint of a cluster, whose requests are counted where there is a limit.
func (t *Tab) Guard(all *Breakers, which Which, limit *uint32, e herald.Endpoint) herald.Endpoint {
	if limit == nil {
		return e
	}
	return &Guarded{Endpoint: e, Breaker: t.of(all, which).Breaker}
}

// of finds the breaker of a cluster.
func (t *Tab) of(all *Breakers, which Which) *held {
	h := t.held[which.Cluster]
	if h == nil {
		if t.held == nil {
			t.held = make(map[string]*held)
		}
		h = &held{Breaker: all.Of(which.Workload, which.Cluster)}
		t.held[which.Cluster] = h
	}
	return h
}

// Sent says that the requests which were planned have been sent, and count by
// themselves from here on.
func (t *Tab) Sent() {
	for _, h := range t.held {
		h.planned = 0
	}
}
