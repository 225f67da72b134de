package fields

import (
	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

const (
	noteBias      = "1 unless given. Where the weights differ, requests are shared by weight / (requests in flight + 1) ^ active_request_bias: exactly among the up to 16 endpoints of a locality, beyond that among 16 drawn by weight. 0 is round robin"
	noteChoices   = "2 unless given"
	noteSlowStart = "counted from when an endpoint became fit to be chosen, the proxy's start included"
	noteLeast     = "1024 unless given"
	noteMost      = "8388608 unless given"
	noteTable     = "65537 unless given; a prime"
	noteXXHash    = "only XX_HASH"
	noteRouting   = "100 % unless given. The callers are taken to be spread evenly over the zones (Envoy asks a cluster that they are)"
	noteMinSize   = "healthy endpoints; 6 unless given"
)

// balancingMessages say how an endpoint is chosen: in a cluster's own fields, and in
// the extensions of load_balancing_policy.
var balancingMessages = []Message{
	{"envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", []Field{yes("slow_start_config")}},
	{"envoy.config.cluster.v3.Cluster.LeastRequestLbConfig", []Field{
		yes("choice_count", noteChoices),
		yes("active_request_bias", noteBias),
		yes("slow_start_config"),
	}},
	{"envoy.config.cluster.v3.Cluster.SlowStartConfig", slowStartFields},
	{"envoy.config.cluster.v3.Cluster.RingHashLbConfig", []Field{
		yes("minimum_ring_size", noteLeast),
		only("hash_function", isEnum(0), noteXXHash),
		yes("maximum_ring_size", noteMost),
	}},
	{"envoy.config.cluster.v3.Cluster.MaglevLbConfig", []Field{yes("table_size", noteTable)}},
	{"envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig", []Field{
		yes("use_hostname_for_hashing", "the name of a STRICT_DNS endpoint. The endpoint metadata envoy.lb hash_key goes before"),
	}},
	{"envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig", []Field{
		yes("routing_enabled", noteRouting), yes("min_cluster_size", noteMinSize), yes("fail_traffic_on_panic"),
	}},
	{"envoy.config.cluster.v3.LoadBalancingPolicy", []Field{yes("policies")}},
	{"envoy.config.cluster.v3.LoadBalancingPolicy.Policy", []Field{
		extension("typed_extension_config", entry.SlotBalancer),
	}},
	{"envoy.config.core.v3.TypedExtensionConfig", []Field{
		accept("name", "the type of typed_config decides"),
		extension("typed_config", entry.SlotBalancer),
	}},
	{typed.Balancing + "round_robin.v3.RoundRobin", []Field{yes("slow_start_config"), yes("locality_lb_config")}},
	{typed.Balancing + "random.v3.Random", []Field{yes("locality_lb_config")}},
	{typed.Balancing + "least_request.v3.LeastRequest", []Field{
		yes("choice_count", noteChoices),
		yes("active_request_bias", noteBias),
		yes("slow_start_config"),
		yes("locality_lb_config"),
		only("enable_full_scan", isFalse, "only false"),
		only("selection_method", isEnum(0), "only N_CHOICES"),
	}},
	{typed.Balancing + "ring_hash.v3.RingHash", []Field{
		only("hash_function", isEnum(0, 1), noteXXHash),
		yes("minimum_ring_size", noteLeast),
		yes("maximum_ring_size", noteMost),
		yes("use_hostname_for_hashing", "deprecated"),
		yes("consistent_hashing_lb_config"),
		yes("locality_weighted_lb_config"),
	}},
	{typed.Balancing + "maglev.v3.Maglev", []Field{
		yes("table_size", noteTable),
		yes("consistent_hashing_lb_config"),
		yes("locality_weighted_lb_config"),
	}},
	{typed.Balancing + "wrr_locality.v3.WrrLocality", []Field{yes("endpoint_picking_policy", "with the localities' weights")}},
	{typed.Balancing + "common.v3.LocalityLbConfig", []Field{yes("locality_weighted_lb_config"), yes("zone_aware_lb_config")}},
	{typed.Balancing + "common.v3.LocalityLbConfig.ZoneAwareLbConfig", []Field{
		yes("routing_enabled", noteRouting), yes("min_cluster_size", noteMinSize), yes("fail_traffic_on_panic"),
		only("locality_basis", isEnum(0), "only HEALTHY_HOSTS_NUM"),
	}},
	{typed.Balancing + "common.v3.LocalityLbConfig.LocalityWeightedLbConfig", nil},
	{typed.Balancing + "common.v3.ConsistentHashingLbConfig", []Field{yes("use_hostname_for_hashing")}},
	{typed.Balancing + "common.v3.SlowStartConfig", slowStartFields},
	{"envoy.config.core.v3.RuntimeDouble", []Field{yes("default_value"), accept("runtime_key", noRuntime)}},
}

var slowStartFields = []Field{
	yes("slow_start_window", noteSlowStart),
	yes("aggression", "1 unless given; more than 0"),
	yes("min_weight_percent", "10 % unless given"),
}
