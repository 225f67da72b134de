package cluster

import (
	"encoding/json"

	"github.com/dubway/dubway/l7proxy/cluster/hashring"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// hashAttempts bounds the endpoints that are tried for one hash. Of n endpoints the
// next one is the same in one of n cases.
const hashAttempts = 16

// newHashPool makes the pool of a tier for a policy that hashes. With weighted each
// portion has its locality's share of the hashes, otherwise all endpoints are equal
// but for their own weights.
func newHashPool(c *snapshot.Cluster, portions []portion, weighted bool) *pool {
	p, members := &pool{}, []hashring.Member(nil)
	var all float64
	sums, shares := make([]float64, len(portions)), make([]float64, len(portions))
	for i, at := range portions {
		for _, e := range at.endpoints {
			sums[i] += float64(e.weight())
		}
		shares[i] = sums[i]
		if weighted {
			shares[i] = float64(at.Weight)
		}
		all += shares[i]
	}
	for i, at := range portions {
		for _, e := range at.endpoints {
			weight := shares[i] / all * float64(e.weight()) / sums[i]
			members = append(members, hashring.Member{Key: hashKey(c, e), Weight: weight})
			p.endpoints = append(p.endpoints, e)
		}
	}
	p.hash = hashring.NewLazy(c.Policy == snapshot.Maglev, c.Hashing, members)
	return p
}

// hashKey is what Envoy hashes of an endpoint: its metadata hash_key, a text, or its
// address, or its name if the cluster says so.
func hashKey(c *snapshot.Cluster, e *Endpoint) string {
	var key string
	if json.Unmarshal([]byte(e.Info.Metadata["hash_key"]), &key) == nil && key != "" {
		return key
	}
	if c.Hashing.ByHostname && e.Info.Hostname != "" {
		return e.Info.Hostname
	}
	return e.Address.String()
}

// byHash chooses the endpoint of a hash; a request without one has a random one, as
// in Envoy. If the endpoint cannot be used the same other one is chosen each time.
func (t *table) byHash(c *Choice, random uint64) *Endpoint {
	hash := c.Hash
	if hash == 0 {
		hash = random
	}
	if tier := t.tier(uint32(hash % 100)); tier != nil {
		p := tier.pools[0]
		for attempt := range hashAttempts {
			if e := usable(p.endpoints[p.hash.At(hash, attempt)], c); e != nil {
				return e
			}
		}
	}
	return t.scan(c, hash)
}
