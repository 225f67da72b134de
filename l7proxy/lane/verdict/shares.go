package verdict

import (
	"math"
	"math/big"
	"net/netip"
	"slices"

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
	why := NoEndpoint
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
		case r.led() && len(a.Clusters) > 1 && !c.Own:
			found, why = []part{{share: Share{Remote: true}, weight: weight}}, r
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
		return nil, why
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
	why, local := NoEndpoint, false
	for i := range odds {
		o := &odds[i]
		if o.Part == 0 {
			continue
		}
		p := part{weight: big.NewRat(int64(o.Load), 100)}
		p.weight.Mul(p.weight, new(big.Rat).SetFrac(new(big.Int).SetUint64(o.Part), new(big.Int).SetUint64(o.Whole)))
		p.weight.Mul(p.weight, weight)
		p.share, r = c.share(set, o, len(odds) == 1)
		switch {
		case r == Lane:
			local = true
		case len(p.share.Elsewhere) < len(o.Endpoints):
			return nil, r
		default:
			why = r
		}
		list = append(list, p)
	}
	if !local {
		return nil, why
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

// share is that of some odds. Only says that there are no others in the cluster. Where all of
// the endpoints are elsewhere it is whole, and the reason is that of one, of this node if one is.
func (c *Case) share(set *cluster.Set, o *cluster.Odds, only bool) (s Share, r Reason) {
	if s.Policy, s.Draws, r = policy(o, only); r != Lane {
		return s, r
	}
	why := NoEndpoint
	for i, e := range o.Endpoints {
		end, r := c.end(set, e)
		for _, other := range s.Ends {
			if other.Address == end.Address {
				return s, Unsupported // one address twice in a cluster
			}
		}
		end.Weight = 1
		if len(o.Endpoints) > 1 {
			end.Weight = uint32(min(o.Weights[i], math.MaxUint32))
		}
		switch {
		case r == Lane:
			s.Ends = append(s.Ends, end)
		case r.elsewhere(), r == TooMany:
			if s.Elsewhere = append(s.Elsewhere, end); r != Remote || why == NoEndpoint {
				why = r // that of one which is here
			}
		default:
			return s, r
		}
	}
	c.grounds.among(o, &s)
	if len(s.Ends) == 0 {
		return s, why
	}
	if _, ok := s.Turns(); !ok && s.Policy != snapshot.LeastRequest {
		return s, TooMany
	}
	return s, limit(&s, set.Config())
}

// numbers tells whether the lane has a number for an address.
func (c *Case) numbers(at netip.AddrPort) bool {
	if !slices.Contains(c.numbered, at) {
		if len(c.numbered) == lane.Ends {
			return false
		}
		c.numbered = append(c.numbered, at)
	}
	return true
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

// most of a weight that the programs weigh by what is in flight.
const heaviest = 1 << 20

// policy is what a lane goes by for some odds, and how many endpoints least request draws. Only
// says that there are no others in the cluster.
func policy(o *cluster.Odds, only bool) (p snapshot.Policy, draws uint32, r Reason) {
	equal, n := true, len(o.Endpoints)
	for _, w := range o.Weights {
		equal = equal && w == o.Weights[0]
	}
	switch o.Policy {
	case snapshot.RoundRobin, snapshot.Random:
		return o.Policy, 0, Lane
	case snapshot.LeastRequest:
		switch {
		case n > lane.Candidates:
			return 0, 0, TooMany
		case equal && n > 1 && o.Choices > lane.Draws:
			return 0, 0, Weighted
		case equal:
			return o.Policy, o.Choices, Lane
		case o.Bias == 0:
			return snapshot.RoundRobin, 0, Lane // as cluster has it
		case o.Bias != 1, n > lane.Weighed, slices.Max(o.Weights) > heaviest:
			return 0, 0, Weighted
		}
		return o.Policy, 0, Lane
	case snapshot.RingHash, snapshot.Maglev:
		if only && n == 1 {
			return snapshot.RoundRobin, 0, Lane
		}
		return 0, 0, Hashed
	}
	return 0, 0, Unsupported
}

// end judges one endpoint.
func (c *Case) end(set *cluster.Set, e *cluster.Endpoint) (End, Reason) {
	end := End{Address: e.Address, Active: e.Gauge(), Avoided: e.Avoided()}
	if away(c.Workloads, e.Address) {
		return end, Remote
	}
	provider := c.Workloads.ByAddress(e.Address.Addr())
	key := c.Key
	key.Endpoint, key.TLS = e.Address, router.TLSOf(c.Snapshot, set.Name(), e.Info)
	g := ground{endpoint: e, provider: provider, key: key, edge: c.Edge(c.route, set, e)}
	if g.says = g.holds(c.Node); g.says == Lane || g.says.elsewhere() {
		c.grounds.ends = append(c.grounds.ends, g)
	}
	switch {
	case g.says != Lane:
		return end, g.says
	case g.edge.SameNode.Told.Asks():
		return end, Told
	case g.edge.Answers != nil:
		return end, Edits
	case !c.numbers(e.Address):
		return end, TooMany
	}
	end.Edge = g.edge
	return end, Lane
}

// whole makes whole weights of parts.
func (c *Case) whole(parts []part) ([]Share, Reason) {
	if len(parts) == 0 {
		return nil, NoEndpoint
	}
	addresses, candidates := make(map[string]*breaker.Breaker), 0
	common := big.NewInt(1) // of the denominators
	for _, p := range parts {
		d := p.weight.Denom()
		common.Mul(common, new(big.Int).Div(d, new(big.Int).GCD(nil, nil, common, d)))
		if p.share.Policy == snapshot.LeastRequest {
			candidates += len(p.share.Ends) + len(p.share.Elsewhere)
		}
		for _, e := range p.share.Ends {
			if other, ok := addresses[e.Address.String()]; ok && other != p.share.Breaker {
				return nil, Breaker // of two clusters: which of them a request counts for nobody knows
			}
			addresses[e.Address.String()] = p.share.Breaker
		}
	}
	if len(parts) > lane.Shares || candidates > lane.Candidates {
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
