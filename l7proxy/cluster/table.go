package cluster

import (
	"cmp"
	"slices"

	"github.com/dubway/dubway/l7proxy/cluster/priority"
	"github.com/dubway/dubway/l7proxy/cluster/wheel"
	"github.com/dubway/dubway/l7proxy/cluster/zone"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// place is a locality with its endpoints of the moment (DNS names resolved).
type place struct {
	*snapshot.Locality

	endpoints []*Endpoint
}

// healthy returns the endpoints that are fit at the moment.
func (p place) healthy() []*Endpoint {
	return slices.DeleteFunc(slices.Clone(p.endpoints), func(e *Endpoint) bool { return !e.Fit() })
}

// staying returns the endpoints that are not about to leave.
func (p place) staying() []*Endpoint {
	return slices.DeleteFunc(slices.Clone(p.endpoints), func(e *Endpoint) bool { return e.Info.Draining })
}

// table is the choice among a set of endpoints, prepared: what priorities and
// localities get is computed when endpoints change, not when one is chosen.
type table struct {
	balancer balancer
	tiers    []*tier // one per priority
}

// tier is one priority.
type tier struct {
	priority uint32
	// until is the upper end of the tier's share of the load in percent; the
	// tier before it ends where this one's begins.
	until uint32
	// endpoints are all that may be chosen here: the healthy ones, or in panic
	// all of them.
	endpoints []*Endpoint
	pools     []*pool      // one, or one per locality
	wheel     *wheel.Wheel // deals turns to pools; nil when there is one
}

// newTable prepares the choice among places.
func newTable(r recipe, places []place) *table {
	places = slices.Clone(places)
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.Priority, b.Priority) })
	var groups [][]place
	var levels []priority.Level
	for len(places) > 0 {
		end := slices.IndexFunc(places, func(p place) bool { return p.Priority != places[0].Priority })
		if end < 0 {
			end = len(places)
		}
		groups = append(groups, places[:end])
		levels = append(levels, levelOf(places[:end]))
		places = places[end:]
	}
	c := r.config
	if len(groups) > 0 {
		r.first = groups[0][0].Priority // only there zones count, as in Envoy
	}
	priority.Share(levels, r.factor, uint64(c.PanicThreshold))

	t := &table{balancer: balancer{policy: c.Policy, choices: max(c.ChoiceCount, 2), bias: c.Bias}}
	var until uint32
	for i, l := range levels {
		until += uint32(l.Load)
		t.tiers = append(t.tiers, r.tier(groups[i], l.Panic, until))
	}
	return t
}

func levelOf(places []place) priority.Level {
	var l priority.Level
	for _, p := range places {
		l.Total += uint64(len(p.endpoints))
		l.Fit += uint64(len(p.healthy()))
	}
	return l
}

// recipe is what all tiers of a table are made by.
type recipe struct {
	config   *snapshot.Cluster
	weights  weights
	factor   uint64
	weighted bool      // by localities
	zone     zone.Zone // the proxy's own, if it counts
	first    uint32
}

func newRecipe(c *snapshot.Cluster, w weights) recipe {
	r := recipe{config: c, weights: w, factor: uint64(c.Overprovision)}
	if r.factor == 0 {
		r.factor = 140
	}
	return r
}

// portion is a place with the endpoints of it that may be chosen.
type portion struct {
	place

	of int // endpoints that it has, chosen or not
}

func (r *recipe) tier(places []place, alarm bool, until uint32) *tier {
	t := &tier{priority: places[0].Priority, until: until}
	weighted := r.weighted && !alarm
	portions := portionsOf(places, alarm, weighted)
	if z := r.config.ZoneAware; alarm && z != nil && z.FailOnPanic {
		return t
	}
	switch {
	case len(portions) > 0:
	case alarm: // all are draining
		for _, at := range places {
			portions = append(portions, portion{at, len(at.endpoints)})
		}
	case weighted:
		weighted, portions = false, portionsOf(places, false, false)
	}
	for _, p := range portions {
		t.endpoints = append(t.endpoints, p.endpoints...)
	}
	switch {
	case len(t.endpoints) == 0:
	case r.config.Policy == snapshot.RingHash || r.config.Policy == snapshot.Maglev:
		t.pools = []*pool{newHashPool(r.config, portions, weighted)}
	case weighted:
		r.localities(t, portions)
	case !alarm && t.priority == r.first && r.zones(t, portions):
	default:
		t.pools = []*pool{newPool(t.endpoints, r.weights)}
	}
	return t
}

// portionsOf returns the places that have endpoints to choose, in panic all of them,
// and with weighted a weight.
func portionsOf(places []place, alarm, weighted bool) []portion {
	var list []portion
	for _, at := range places {
		p := portion{place: at, of: len(at.endpoints)}
		if alarm {
			p.endpoints = at.staying()
		} else {
			p.endpoints = at.healthy()
		}
		if len(p.endpoints) > 0 && (!weighted || p.Weight > 0) {
			list = append(list, p)
		}
	}
	return list
}

// localities gives each locality its weight, less what it lacks in healthy
// endpoints beyond the overprovisioning factor.
func (r *recipe) localities(t *tier, portions []portion) {
	const unit = 10_000
	var weights []uint64
	for _, p := range portions {
		available := min(unit, unit/100*r.factor*uint64(len(p.endpoints))/uint64(p.of))
		weights = append(weights, uint64(p.Weight)*available)
		t.pools = append(t.pools, newPool(p.endpoints, r.weights))
	}
	if len(t.pools) > 1 {
		t.wheel = wheel.New(len(weights), func(i int) uint64 { return weights[i] })
	}
}

// pick chooses an endpoint, nil if there is none.
func (t *table) pick(c *Choice) *Endpoint {
	// The policy is asked again when it falls on an endpoint that is avoided or
	// excluded: that spreads the missing endpoint's share over all others, which
	// taking its neighbour would not.
	const attempts = 4
	random := mix(c.Random)
	if t.balancer.hashes() {
		return t.byHash(c, random)
	}
	for range attempts {
		tier := t.tier(uint32(random % 100))
		random = mix(random)
		if tier == nil {
			break
		}
		if e := t.balancer.pick(tier.pool(), c, random); e != nil {
			return e
		}
		random = mix(^random) // not again what the policy has made of it
	}
	return t.scan(c, random)
}

// tier returns the priority that serves a percentage of the load, nil if it
// has no endpoints.
func (t *table) tier(percent uint32) *tier {
	for _, tier := range t.tiers {
		if percent < tier.until {
			if len(tier.pools) == 0 {
				return nil
			}
			return tier
		}
	}
	return nil
}

func (t *tier) pool() *pool {
	if t.wheel == nil {
		return t.pools[0]
	}
	return t.pools[t.wheel.Next()]
}

// scan looks at every endpoint from the first priority on, and takes one that
// is avoided only when there is no other.
func (t *table) scan(c *Choice, random uint64) *Endpoint {
	var avoided *Endpoint
	for _, tier := range t.tiers {
		n := uint64(len(tier.endpoints))
		for i := range n {
			e := tier.endpoints[(random%n+i)%n]
			switch {
			case !c.admits(e):
			case !e.Avoided():
				return e
			case avoided == nil:
				avoided = e
			}
		}
	}
	return avoided
}
