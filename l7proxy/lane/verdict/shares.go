package verdict

import (
	"math/big"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// part is a share whose weight is a part of all requests.
type part struct {
	share  Share
	weight *big.Rat
}

// shares finds among whom requests are shared, and in which parts.
func (c *Case) shares() ([]Share, Reason) {
	a := &c.route.Action
	var parts []part
	corrected, local := false, false
	for i := range a.Clusters {
		target, weight := a.Clusters[i], big.NewRat(1, 1)
		if c.Own {
			better := c.Rightful(c.route, target)
			corrected = better.Cluster != target.Cluster
			target = better
		}
		switch {
		case corrected: // all of the route's requests have one target
		case len(a.Clusters) > 1 && target.Weight == 0:
			continue
		case len(a.Clusters) > 1:
			weight.SetFrac(new(big.Int).SetUint64(uint64(target.Weight)), new(big.Int).SetUint64(a.Total))
		}
		found, r := c.target(target, weight)
		switch {
		case r == Remote && len(a.Clusters) > 1 && !c.Own:
			found = []part{{share: Share{Remote: true}, weight: weight}}
		case r != Lane:
			return nil, r
		default:
			local = true
		}
		if len(a.Clusters) > 1 && !corrected {
			for k := range found {
				found[k].share.Target = i + 1
			}
		}
		if parts = append(parts, found...); corrected {
			break
		}
	}
	if !local && len(parts) > 0 {
		return nil, Remote
	}
	return c.whole(parts)
}

// target finds the parts of one cluster of the route, which all together get weight.
func (c *Case) target(t snapshot.WeightedCluster, weight *big.Rat) ([]part, Reason) {
	known := c.Snapshot.Clusters[t.Cluster]
	if r := clusterOf(known); r != Lane {
		return nil, r
	}
	set := c.Set(t.Cluster)
	if set == nil || set.Config() != known {
		return nil, Changing
	}
	odds, moment, r := c.odds(set, t)
	if r != Lane {
		return nil, r
	}
	c.grounds.moments = append(c.grounds.moments, moment)
	var list []part
	for i := range odds {
		o := &odds[i]
		if o.Part == 0 {
			continue
		}
		p := part{weight: big.NewRat(int64(o.Load), 100)}
		p.weight.Mul(p.weight, new(big.Rat).SetFrac(new(big.Int).SetUint64(o.Part), new(big.Int).SetUint64(o.Whole)))
		p.weight.Mul(p.weight, weight)
		if p.share, r = c.share(set, o, len(odds) == 1); r != Lane {
			return nil, r
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, NoEndpoint
	}
	return list, Lane
}

// odds are those of a cluster, or the consumer's own choice where it counts.
func (c *Case) odds(set *cluster.Set, t snapshot.WeightedCluster) ([]cluster.Odds, cluster.Moment, Reason) {
	odds, moment := set.Odds(&cluster.Choice{Subset: t.Subset, Original: c.Original, Own: c.Own})
	if moment.Starts() {
		return nil, moment, SlowStart
	}
	if c.Own && router.ByCaller(c.Snapshot, c.route, set.Config()) {
		if e := set.At(c.Original, t.Subset); e != nil {
			return []cluster.Odds{{Load: 100, Part: 1, Whole: 1, Endpoints: []*cluster.Endpoint{e}, Weights: []uint64{1}}}, moment, Lane
		}
	}
	if len(odds) == 0 {
		return nil, moment, NoEndpoint
	}
	if c.Own && c.Stale(t.Cluster) {
		return nil, moment, Stale
	}
	return odds, moment, Lane
}

// share is that of some odds. Only says that there are no others in the cluster.
func (c *Case) share(set *cluster.Set, o *cluster.Odds, only bool) (s Share, r Reason) {
	n := len(o.Endpoints)
	if s.Policy, r = policy(o, only); r != Lane {
		return s, r
	}
	if n > lane.Ends {
		return s, c.tooMany(o)
	}
	var sum uint64
	for i, e := range o.Endpoints {
		end, r := c.end(set, e)
		if r != Lane {
			return s, r
		}
		for _, other := range s.Ends {
			if other.Address == end.Address {
				return s, Unsupported // one address twice in a cluster
			}
		}
		weight := uint64(1)
		if n > 1 {
			weight = min(o.Weights[i], lane.Choices+1)
		}
		end.Weight = uint32(weight)
		sum += weight
		s.Ends = append(s.Ends, end)
	}
	if sum > lane.Choices {
		return s, TooMany
	}
	return s, limit(&s, set.Config())
}

// limit is a share's, and who counts.
func limit(s *Share, of *snapshot.Cluster) Reason {
	if of.MaxRequests == nil {
		return Lane
	}
	g, ok := s.Ends[0].Edge.Endpoint.(*breaker.Guarded)
	if !ok {
		return Changing
	}
	s.Limit, s.Breaker = *of.MaxRequests, g.Breaker
	return Lane
}

// policy is what a lane goes by for some odds. Only says that there are no others in the
// cluster.
func policy(o *cluster.Odds, only bool) (snapshot.Policy, Reason) {
	equal := true
	for _, w := range o.Weights {
		equal = equal && w == o.Weights[0]
	}
	switch o.Policy {
	case snapshot.RoundRobin, snapshot.Random:
		return o.Policy, Lane
	case snapshot.LeastRequest:
		switch {
		case !equal && o.Bias == 0:
			return snapshot.RoundRobin, Lane // as cluster has it
		case !equal, o.Choices > 2 && len(o.Endpoints) > 2:
			return 0, Weighted
		}
		return o.Policy, Lane
	case snapshot.RingHash, snapshot.Maglev:
		if only && len(o.Endpoints) == 1 {
			return snapshot.RoundRobin, Lane
		}
		return 0, Hashed
	}
	return 0, Unsupported
}

// tooMany is why many endpoints have no lane: most of all because some are elsewhere.
func (c *Case) tooMany(o *cluster.Odds) Reason {
	for _, e := range o.Endpoints {
		if away(c.Workloads, e.Address) {
			return c.remote(e)
		}
	}
	return TooMany
}

// remote notes an endpoint that is elsewhere.
func (c *Case) remote(e *cluster.Endpoint) Reason {
	c.grounds.away = append(c.grounds.away, e.Address)
	return Remote
}

// end judges one endpoint.
func (c *Case) end(set *cluster.Set, e *cluster.Endpoint) (End, Reason) {
	if away(c.Workloads, e.Address) {
		return End{}, c.remote(e)
	}
	provider := c.Workloads.ByAddress(e.Address.Addr())
	key := c.Key
	key.Endpoint, key.TLS = e.Address, router.TLSOf(c.Snapshot, set.Name(), e.Info)
	g := ground{endpoint: e, provider: provider, key: key, edge: c.Edge(c.route, set, e)}
	if r := g.holds(c.Node); r != Lane {
		return End{}, r
	}
	if told := g.edge.SameNode.Told; told.Asks() {
		return End{}, Told
	}
	if g.edge.Answers != nil {
		return End{}, Edits
	}
	c.grounds.ends = append(c.grounds.ends, g)
	return End{Edge: g.edge, Address: e.Address}, Lane
}

// whole makes whole weights of parts.
func (c *Case) whole(parts []part) ([]Share, Reason) {
	if len(parts) == 0 {
		return nil, NoEndpoint
	}
	addresses := make(map[string]*breaker.Breaker)
	common := big.NewInt(1) // of the denominators
	for _, p := range parts {
		d := p.weight.Denom()
		common.Mul(common, new(big.Int).Div(d, new(big.Int).GCD(nil, nil, common, d)))
		for _, e := range p.share.Ends {
			if other, ok := addresses[e.Address.String()]; ok && other != p.share.Breaker {
				return nil, Breaker // of two clusters: which of them a request counts for nobody knows
			}
			addresses[e.Address.String()] = p.share.Breaker
		}
	}
	if len(parts) > lane.Shares || len(addresses) > lane.Ends {
		return nil, TooMany
	}
	shares, divisor, sum := make([]Share, 0, len(parts)), new(big.Int), new(big.Int)
	weights := make([]*big.Int, 0, len(parts))
	for _, p := range parts {
		w := new(big.Rat).Mul(p.weight, new(big.Rat).SetInt(common)).Num()
		weights = append(weights, w)
		divisor.GCD(nil, nil, divisor, w)
		sum.Add(sum, w)
	}
	if !sum.Div(sum, divisor).IsUint64() || sum.Uint64() > most {
		return nil, TooMany
	}
	for i, p := range parts {
		p.share.Weight = uint32(new(big.Int).Div(weights[i], divisor).Uint64())
		shares = append(shares, p.share)
	}
	return shares, Lane
}
