package cluster

import (
	"time"

	"github.com/dubway/dubway/l7proxy/cluster/slowstart"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// weights tells the weights of endpoints at a moment.
type weights struct {
	config *snapshot.SlowStart // nil: nobody starts slowly, and they stay as they are
	now    time.Time
}

// newWeights notes which endpoints have become ready, or are not any more, and tells
// the weights. The Manager locks.
func newWeights(c *snapshot.Cluster, places []place, now time.Time) weights {
	s, moving := c.SlowStart, false
	if s == nil || c.Policy != snapshot.RoundRobin && c.Policy != snapshot.LeastRequest {
		return weights{}
	}
	for _, p := range places {
		for _, e := range p.endpoints {
			switch {
			case !e.isReady():
				e.health.ready = time.Time{}
			case e.health.ready.IsZero():
				e.health.ready = now
			}
			moving = moving || e.isReady() && now.Sub(e.health.ready) < s.Window
		}
	}
	if !moving {
		return weights{}
	}
	return weights{s, now}
}

// of returns an endpoint's weight, in slowstart.Unit if somebody starts slowly.
func (w weights) of(e *Endpoint) uint64 {
	switch {
	case w.config == nil:
		return e.weight()
	case e.health.ready.IsZero():
		return e.weight() * slowstart.Unit
	}
	return slowstart.Weight(w.config, e.weight(), w.now.Sub(e.health.ready))
}
