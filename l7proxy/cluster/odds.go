package cluster

import "github.com/dubway/dubway/l7proxy/snapshot"

// Odds are those of a group of endpoints among which only the policy decides: Load percent
// of what a cluster gets, and of that the share Part of Whole. Their Weights are in the
// order of Endpoints. Where weights differ, least request shares by them and by Bias.
type Odds struct {
	Policy      snapshot.Policy
	Choices     uint32 // of least request
	Bias        float64
	Load        uint32
	Part, Whole uint64
	Endpoints   []*Endpoint // one that is avoided or that a request excludes has its turns given to others
	Weights     []uint64
}

// Moment is what a Set was when its odds were asked. The zero Moment is of no Set.
type Moment struct {
	set   *Set
	state *state
}

// Stands tells whether the odds are still the same, but for endpoints that are avoided.
func (m Moment) Stands() bool { return m.set != nil && m.state != nil && m.set.state.Load() == m.state }

// Starts tells whether an endpoint starts slowly, and weights change all the time.
func (m Moment) Starts() bool { return m.state != nil && m.state.starts }

// Odds lists among whom Pick chooses for a choice, whatever its Random and Hash. Nobody: it
// finds none, or goes by no odds.
func (s *Set) Odds(c *Choice) (list []Odds, now Moment) {
	now = Moment{s, s.state.Load()}
	if now.state == nil {
		return nil, now
	}
	config := now.state.config
	o := Odds{Policy: config.Policy, Choices: max(config.ChoiceCount, 2), Bias: config.Bias, Load: 100, Part: 1, Whole: 1}
	if now.state.dials(c) {
		if e := s.original(c); e != nil {
			o.Endpoints, o.Weights = []*Endpoint{e}, []uint64{1}
			list = append(list, o)
		}
		return list, now
	}
	t := now.state.choose(c.Subset)
	if t == nil {
		return nil, now
	}
	var below uint32
	for _, tier := range t.tiers {
		if o.Load = tier.until - below; o.Load == 0 {
			continue
		}
		below = tier.until
		list = append(list, tier.odds(o)...)
		if len(tier.pools) == 0 {
			return nil, now // all that comes here looks for anybody
		}
	}
	if below < 100 {
		return nil, now
	}
	return list, now
}

// odds are those of the tier's pools, each as o but for its part.
func (t *tier) odds(o Odds) (list []Odds) {
	parts := []uint64{1}
	if t.wheel != nil {
		parts = t.wheel.Weights()
	}
	o.Whole = 0
	for _, n := range parts {
		o.Whole += n
	}
	for i, p := range t.pools {
		o.Part, o.Endpoints, o.Weights = parts[i], p.endpoints, nil
		if p.wheel != nil {
			o.Weights = p.wheel.Weights()
		}
		list = append(list, o)
	}
	return list
}
