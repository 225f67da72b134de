package convert

import (
	"math/big"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// The sizes of rings and tables that hold unless others are given.
const (
	defaultMinRing = 1024
	defaultMaxRing = 8 << 20
	defaultTable   = 65537
)

// balancer converts what says how a cluster chooses, in either form.
type balancer struct {
	problems *problems.List
	cluster  *snapshot.Cluster
}

// policy reads a cluster's own fields, or load_balancing_policy, which goes before.
func (b *balancer) policy(m *clusterv3.Cluster) {
	common := m.GetCommonLbConfig()
	b.cluster.LocalityWeighted = common.GetLocalityWeightedLbConfig() != nil
	b.cluster.Hashing.ByHostname = common.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
	if z := common.GetZoneAwareLbConfig(); z != nil {
		b.zones(z)
	}
	if m.GetLoadBalancingPolicy() != nil {
		b.typed(m)
		return
	}
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		b.cluster.Policy = snapshot.RoundRobin
		b.slowStart("round_robin_lb_config.slow_start_config", m.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_RANDOM:
		b.cluster.Policy = snapshot.Random
	case clusterv3.Cluster_LEAST_REQUEST:
		b.cluster.Policy = snapshot.LeastRequest
		b.leastRequest("least_request_lb_config", m.GetLeastRequestLbConfig())
		b.slowStart("least_request_lb_config.slow_start_config", m.GetLeastRequestLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_RING_HASH:
		b.cluster.Policy = snapshot.RingHash
		b.ring("ring_hash_lb_config", m.GetRingHashLbConfig())
	case clusterv3.Cluster_MAGLEV:
		b.cluster.Policy = snapshot.Maglev
		b.maglev("maglev_lb_config", m.GetMaglevLbConfig().GetTableSize())
	case clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
		b.problems.Addf("load_balancing_policy", "required with lb_policy LOAD_BALANCING_POLICY_CONFIG")
	default: // package fields lets nothing else in, but CLUSTER_PROVIDED
	}
}

// least is least_request in its two forms.
type least interface {
	GetChoiceCount() *wrapperspb.UInt32Value
	GetActiveRequestBias() *corev3.RuntimeDouble
}

func (b *balancer) leastRequest(path string, m least) {
	b.cluster.ChoiceCount = number(m.GetChoiceCount(), defaultChoiceCount)
	b.cluster.Bias = defaultBias
	if bias := m.GetActiveRequestBias(); bias != nil {
		b.cluster.Bias = bias.GetDefaultValue()
	}
	if !(b.cluster.Bias >= 0) { // not a number neither
		b.problems.Addf(path+".active_request_bias.default_value", "%v is less than 0", b.cluster.Bias)
	}
}

// slow is slow_start_config in its two forms.
type slow interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

// slowStart converts a slow start; without a window there is none.
func (b *balancer) slowStart(path string, m slow) {
	window := duration(m.GetSlowStartWindow(), 0)
	if window == 0 {
		return
	}
	s := &snapshot.SlowStart{Window: window, Aggression: 1, Least: 0.1}
	if a := m.GetAggression(); a != nil {
		s.Aggression = a.GetDefaultValue()
	}
	if !(s.Aggression > 0) {
		b.problems.Addf(path+".aggression.default_value", "%v is not more than 0", s.Aggression)
	}
	if p := m.GetMinWeightPercent(); p != nil {
		s.Least = p.GetValue() / 100 // 0 to 100, as Envoy's rules say
	}
	b.cluster.SlowStart = s
}

// zones is zone_aware_lb_config in its two forms.
type zones interface {
	GetRoutingEnabled() *typev3.Percent
	GetMinClusterSize() *wrapperspb.UInt64Value
	GetFailTrafficOnPanic() bool
}

func (b *balancer) zones(m zones) {
	z := &snapshot.ZoneAware{Enabled: 1, MinSize: 6, FailOnPanic: m.GetFailTrafficOnPanic()}
	if p := m.GetRoutingEnabled(); p != nil {
		z.Enabled = p.GetValue() / 100 // 0 to 100, as Envoy's rules say
	}
	if n := m.GetMinClusterSize(); n != nil {
		z.MinSize = n.GetValue()
	}
	b.cluster.ZoneAware = z
}

// rings is ring_hash in its two forms.
type rings interface {
	GetMinimumRingSize() *wrapperspb.UInt64Value
	GetMaximumRingSize() *wrapperspb.UInt64Value
}

func (b *balancer) ring(path string, m rings) {
	h := &b.cluster.Hashing
	h.MinRing, h.MaxRing = defaultMinRing, defaultMaxRing
	if n := m.GetMinimumRingSize(); n != nil {
		h.MinRing = max(n.GetValue(), 1)
	}
	if n := m.GetMaximumRingSize(); n != nil {
		h.MaxRing = n.GetValue()
	}
	if h.MinRing > h.MaxRing {
		b.problems.Addf(path+".minimum_ring_size", "%d is more than maximum_ring_size, %d", h.MinRing, h.MaxRing)
	}
}

func (b *balancer) maglev(path string, size *wrapperspb.UInt64Value) {
	b.cluster.Hashing.TableSize = defaultTable
	if size != nil {
		b.cluster.Hashing.TableSize = size.GetValue()
	}
	if n := b.cluster.Hashing.TableSize; !new(big.Int).SetUint64(n).ProbablyPrime(0) { // certain below 2^64
		b.problems.Addf(path+".table_size", "%d is no prime", n)
	}
}

const defaultBias = 1.0

// The bounds of a duration: Envoy counts in milliseconds, and sums must not overflow.
const (
	shortest = time.Millisecond
	longest  = 365 * 24 * time.Hour
)

// duration is a Duration, or what holds unless it is given.
func duration(d *durationpb.Duration, unless time.Duration) time.Duration {
	if d == nil {
		return unless
	}
	if d.AsDuration() <= 0 {
		return 0
	}
	return min(max(d.AsDuration(), shortest), longest)
}

// number is a UInt32Value, or what holds unless it is given.
func number(n *wrapperspb.UInt32Value, unless uint32) uint32 {
	if n == nil {
		return unless
	}
	return n.GetValue()
}
