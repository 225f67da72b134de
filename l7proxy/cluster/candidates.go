package cluster

import "github.com/dubway/dubway/l7proxy/snapshot"

// Candidate is an endpoint that Pick may choose.
type Candidate struct {
	Endpoint *snapshot.Endpoint // a DNS name is not resolved
	Priority uint32
	Load     uint32 // percent of the load that the whole priority gets
}

// Candidates lists what a Set of c chooses from for a route's metadata, by
// priority. It is for explaining, and asks the code that decides.
func Candidates(c *snapshot.Cluster, subset snapshot.Metadata) []Candidate {
	places := make([]place, 0, len(c.Localities))
	for _, l := range c.Localities {
		p := place{Locality: l}
		for _, info := range l.Endpoints {
			p.endpoints = append(p.endpoints, newEndpoint(info.Address, info, &health{}))
		}
		places = append(places, p)
	}
	t := (&state{config: c, places: places}).prepare(weights{}, nil).choose(subset)
	if t == nil {
		return nil
	}
	var list []Candidate
	var below uint32
	for _, tier := range t.tiers {
		for _, e := range tier.endpoints {
			list = append(list, Candidate{Endpoint: e.Info, Priority: tier.priority, Load: tier.until - below})
		}
		below = tier.until
	}
	return list
}
