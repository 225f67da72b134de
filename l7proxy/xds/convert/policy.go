package convert

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// typed reads load_balancing_policy, beside which nothing else may say how to choose.
func (b *balancer) typed(m *clusterv3.Cluster) {
	const path = "load_balancing_policy"
	common := m.GetCommonLbConfig()
	switch {
	case m.GetLbConfig() != nil:
		b.problems.Addf(path, "not beside a configuration of lb_policy")
	case common.GetLocalityConfigSpecifier() != nil || common.GetConsistentHashingLbConfig() != nil:
		b.problems.Addf(path, "not beside common_lb_config's locality and hashing configurations")
	case m.GetLbSubsetConfig() != nil:
		b.problems.Addf(path, "not beside lb_subset_config")
	case m.GetType() == clusterv3.Cluster_ORIGINAL_DST:
		b.problems.Addf(path, "not with type ORIGINAL_DST, which has no endpoints to choose from")
	}
	b.first(path, m.GetLoadBalancingPolicy())
}

// first reads the first of some policies: package fields has seen that all are
// implemented, and Envoy takes the first that it knows.
func (b *balancer) first(path string, m *clusterv3.LoadBalancingPolicy) {
	if len(m.GetPolicies()) == 0 {
		b.problems.Addf(path+".policies", "required")
		return
	}
	path += ".policies[0].typed_extension_config.typed_config"
	config := m.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig()
	switch typ, _, _ := typed.TypeOf(config); typ {
	case typed.TypeRoundRobin:
		if p := new(roundv3.RoundRobin); b.unpack(path, config, p) {
			b.cluster.Policy = snapshot.RoundRobin
			b.slowStart(path+".slow_start_config", p.GetSlowStartConfig())
			b.localities(p.GetLocalityLbConfig())
		}
	case typed.TypeRandom:
		if p := new(randomv3.Random); b.unpack(path, config, p) {
			b.cluster.Policy = snapshot.Random
			b.localities(p.GetLocalityLbConfig())
		}
	case typed.TypeLeastRequest:
		if p := new(leastv3.LeastRequest); b.unpack(path, config, p) {
			b.cluster.Policy = snapshot.LeastRequest
			b.leastRequest(path, p)
			b.slowStart(path+".slow_start_config", p.GetSlowStartConfig())
			b.localities(p.GetLocalityLbConfig())
		}
	case typed.TypeRingHash:
		if p := new(ringv3.RingHash); b.unpack(path, config, p) {
			b.cluster.Policy = snapshot.RingHash
			b.ring(path, p)
			b.hashing(p)
			b.cluster.Hashing.ByHostname = b.cluster.Hashing.ByHostname || p.GetUseHostnameForHashing()
		}
	case typed.TypeMaglev:
		if p := new(maglevv3.Maglev); b.unpack(path, config, p) {
			b.cluster.Policy = snapshot.Maglev
			b.maglev(path, p.GetTableSize())
			b.hashing(p)
		}
	case typed.TypeWrrLocality:
		if p := new(wrrv3.WrrLocality); b.unpack(path, config, p) {
			b.first(path+".endpoint_picking_policy", p.GetEndpointPickingPolicy())
			b.cluster.LocalityWeighted = true
		}
	}
}

func (b *balancer) localities(m *commonv3.LocalityLbConfig) {
	b.cluster.LocalityWeighted = m.GetLocalityWeightedLbConfig() != nil
	if z := m.GetZoneAwareLbConfig(); z != nil {
		b.zones(z)
	}
}

// hashing is what the two policies that hash have in common.
func (b *balancer) hashing(m interface {
	GetConsistentHashingLbConfig() *commonv3.ConsistentHashingLbConfig
	GetLocalityWeightedLbConfig() *commonv3.LocalityLbConfig_LocalityWeightedLbConfig
}) {
	b.cluster.Hashing.ByHostname = m.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
	b.cluster.LocalityWeighted = m.GetLocalityWeightedLbConfig() != nil
}

// unpack reads an extension and lets Envoy's rules check it.
func (b *balancer) unpack(path string, config *anypb.Any, m problems.Validated) bool {
	if err := config.UnmarshalTo(m); err != nil {
		b.problems.Addf(path, "%v", err)
		return false
	}
	before := len(*b.problems)
	b.problems.Validate(path, m)
	return len(*b.problems) == before
}
