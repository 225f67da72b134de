package cluster

import (
	"math"

	"github.com/dubway/dubway/l7proxy/cluster/hashring"
	"github.com/dubway/dubway/l7proxy/cluster/wheel"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// pool is a group of endpoints among which only the policy decides.
type pool struct {
	endpoints []*Endpoint
	weights   []uint64 // nil: all are equal
	wheel     *wheel.Wheel
	hash      *hashring.Lazy // with a policy that hashes, which needs no wheel
}

func newPool(endpoints []*Endpoint, w weights) *pool {
	p := &pool{endpoints: endpoints, weights: make([]uint64, len(endpoints))}
	equal := true
	for i, e := range endpoints {
		p.weights[i] = w.of(e)
		equal = equal && p.weights[i] == p.weights[0]
	}
	p.wheel = wheel.New(len(endpoints), func(i int) uint64 { return p.weights[i] })
	if equal {
		p.weights = nil
	}
	return p
}

// balancer is a cluster's policy.
type balancer struct {
	policy  snapshot.Policy
	choices uint32
	bias    float64 // least request
}

// hashes tells whether the policy wants a request's hash.
func (b *balancer) hashes() bool { return b.policy == snapshot.RingHash || b.policy == snapshot.Maglev }

// pick chooses one endpoint, or none when the policy falls on endpoints that
// are avoided or excluded.
func (b *balancer) pick(p *pool, c *Choice, random uint64) *Endpoint {
	switch b.policy {
	case snapshot.LeastRequest:
		return b.leastRequest(p, c, random)
	case snapshot.Random:
		return usable(p.endpoints[p.wheel.At(random)], c)
	case snapshot.RoundRobin, snapshot.RingHash, snapshot.Maglev: // which byHash serves
	}
	return usable(p.endpoints[p.wheel.Next()], c)
}

func usable(e *Endpoint, c *Choice) *Endpoint {
	if e.Avoided() || !c.admits(e) {
		return nil
	}
	return e
}

// leastRequest takes, of a few endpoints that are drawn, the one with the fewest
// requests in flight, the first of equals. Where the weights differ it shares the
// requests, as Envoy does.
func (b *balancer) leastRequest(p *pool, c *Choice, random uint64) *Endpoint {
	if p.weights != nil {
		return b.byLoad(p, c, random)
	}
	var best *Endpoint
	var least int64
	for range b.choices {
		e := usable(p.endpoints[p.wheel.At(random)], c)
		random = mix(random)
		if e == nil {
			continue
		}
		if n := e.Active(); best == nil || n < least {
			best, least = e, n
		}
	}
	return best
}

// maxDrawn is the number of endpoints that byLoad compares.
const maxDrawn = 16

// byLoad shares requests by weight / (requests in flight + 1) ^ bias: what Envoy's
// schedule amounts to, without its lock. Among more than maxDrawn endpoints it draws
// so many by weight, and shares among them by what they have in flight.
func (b *balancer) byLoad(p *pool, c *Choice, random uint64) *Endpoint {
	if b.bias == 0 {
		return usable(p.endpoints[p.wheel.Next()], c)
	}
	var drawn [maxDrawn]*Endpoint
	var ends [maxDrawn]float64
	n, total := 0, 0.0
	all := len(p.endpoints) <= maxDrawn
	for i := range min(len(p.endpoints), maxDrawn) {
		weight := 1.0
		if all {
			weight = float64(p.weights[i])
		} else {
			i = p.wheel.At(random)
			random = mix(random)
		}
		e := usable(p.endpoints[i], c)
		if e == nil {
			continue
		}
		load := float64(max(e.Active(), 0) + 1)
		if b.bias != 1 {
			load = math.Pow(load, b.bias)
		}
		total += weight / load
		drawn[n], ends[n] = e, total
		n++
	}
	at := float64(random>>11) / (1 << 53) * total
	for i := range n {
		if at < ends[i] {
			return drawn[i]
		}
	}
	return drawn[max(n-1, 0)] // nil: none is usable
}
