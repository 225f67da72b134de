package cluster

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/cluster/wheel"
	"github.com/dubway/dubway/l7proxy/cluster/zone"
)

// zones makes a tier prefer the proxy's own zone. It reports whether it applies.
func (r *recipe) zones(t *tier, portions []portion) bool {
	config := r.config.ZoneAware
	if config == nil || len(r.zone) == 0 || len(t.endpoints) < int(config.MinSize) {
		return false
	}
	var names []string
	var groups [][]*Endpoint
	for _, p := range portions {
		name := r.zone.Of(p.Locality)
		i := slices.Index(names, name)
		if i < 0 {
			i = len(names)
			names, groups = append(names, name), append(groups, nil)
		}
		groups[i] = append(groups[i], p.endpoints...)
	}
	own := slices.Index(names, r.zone.Name())
	if len(names) < 2 || own < 0 {
		return false
	}
	sizes := make([]int, len(groups))
	for i := range groups {
		sizes[i] = len(groups[i])
	}
	const unit = 10_000
	var weights []uint64
	add := func(endpoints []*Endpoint, part float64) {
		if weight := uint64(part*unit + 0.5); weight > 0 {
			weights = append(weights, weight)
			t.pools = append(t.pools, newPool(endpoints, r.weights))
		}
	}
	add(t.endpoints, 1-config.Enabled)
	for i, part := range zone.Share(sizes, own) {
		add(groups[i], config.Enabled*part)
	}
	if len(weights) > 1 {
		t.wheel = wheel.New(len(weights), func(i int) uint64 { return weights[i] })
	}
	return true
}
