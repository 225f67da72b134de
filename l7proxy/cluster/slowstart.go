package cluster

import (
	"math"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The weights of endpoints that start slowly are computed anew so often in a window,
// but not more often than every slowStartLeast.
const (
	slowStartSteps = 50
	slowStartLeast = 100 * time.Millisecond
)

// slowStartUnit is the weight of 1 while an endpoint of the cluster starts slowly, so
// that there are fractions of it.
const slowStartUnit = 1000

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

// of returns an endpoint's weight, in slowStartUnit if somebody starts slowly.
func (w weights) of(e *Endpoint) uint64 {
	if w.config == nil {
		return e.weight()
	}
	full := e.weight() * slowStartUnit
	since := w.now.Sub(e.health.ready)
	if since >= w.config.Window || e.health.ready.IsZero() {
		return full
	}
	factor := max(float64(since)/float64(w.config.Window), 0)
	if w.config.Aggression != 1 {
		factor = math.Pow(factor, 1/w.config.Aggression)
	}
	return max(uint64(float64(full)*max(factor, w.config.Least)), 1)
}

// next is the time after which weights are computed anew.
func (w weights) next() time.Duration { return max(w.config.Window/slowStartSteps, slowStartLeast) }
