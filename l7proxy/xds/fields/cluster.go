package fields

import "github.com/dubway/dubway/l7proxy/xds/fields/entry"

const unlimited = "only 4294967295, which is no limit. Absent is no limit as well (Envoy: 1024, or 3 retries); the proxy's own limits per workload hold"

var clusterMessages = []Message{
	{"envoy.config.cluster.v3.Cluster", []Field{
		yes("name", "outbound|port|subset|host names the service for metrics"),
		only("type", isEnum(0, 1, 3, 4), "only STATIC, STRICT_DNS, EDS and ORIGINAL_DST"),
		yes("eds_cluster_config"),
		yes("connect_timeout", "5s unless given"),
		only("lb_policy", isEnum(0, 1, 2, 3, 5, 6, 7), "only ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH, MAGLEV, LOAD_BALANCING_POLICY_CONFIG, and CLUSTER_PROVIDED with ORIGINAL_DST"),
		yes("load_balancing_policy", "the first policy, whatever lb_policy says; then common_lb_config's ways of choosing a locality and lb_policy's own configurations must not be set"),
		yes("load_assignment", "with STATIC and STRICT_DNS"),
		yes("dns_refresh_rate", "5s unless given"),
		only("dns_lookup_family", isEnum(4), "only ALL. Absent is ALL as well (Envoy: IPv6 before IPv4)"),
		yes("least_request_lb_config"),
		yes("round_robin_lb_config"),
		yes("ring_hash_lb_config"),
		yes("maglev_lb_config"),
		yes("common_lb_config"),
		yes("lb_subset_config"),
		yes("circuit_breakers"),
		yes("health_checks", "one. It is made as a pod of this node that uses the cluster, from its network namespace and by the way of its requests; a cluster that none uses is not checked, and all its endpoints count as healthy"),
		yes("outlier_detection", "without effect with ORIGINAL_DST, as in Envoy: what was dialled is taken whatever its health"),
		yes("metadata", "filter_metadata: istio.services[0] names the service for metrics; dubway.io.balancing, mesh or caller, says who chooses the endpoint (see above), and nothing else may stand below dubway.io; other keys describe the resource"),
		extension("transport_socket", entry.SlotTransportSocket),
		yes("transport_socket_matches", "the first whose match an endpoint's metadata envoy.transport_socket_match has; for an endpoint that has none of them, transport_socket"),
		extension("typed_extension_protocol_options", entry.SlotProtocolOptions),
		extension("filters", entry.SlotClusterFilter),
		only("upstream_bind_config", bindsIstio, "only Istio's source addresses, 127.0.0.6 and ::6"),
		yes("upstream_connection_options"),
		accept("alt_stat_name", noStats),
		accept("http_protocol_options", httpOur),
		accept("http2_protocol_options", httpOur),
		accept("common_http_protocol_options", "connections to providers are kept by heartbeats, as Dubbo's consumers keep theirs, while a consumer has used one lately"),
		accept("upstream_http_protocol_options", httpOur),
		accept("protocol_selection", httpOur),
		accept("cleanup_interval", "an unused original destination is forgotten at once"),
		accept("wait_for_warm_on_init", "a cluster is used as soon as it has endpoints"),
	}},
	{"envoy.config.core.v3.BindConfig", []Field{
		accept("source_address", "by Istio's a sidecar's own connections are told from those that it has to catch; nothing is caught here"),
	}},
	{"envoy.config.cluster.v3.UpstreamConnectionOptions", []Field{
		accept("tcp_keepalive", "Dubbo's heartbeats find dead providers sooner, and an opaque connection ends with its consumer's"),
	}},
	{"envoy.config.cluster.v3.Cluster.EdsClusterConfig", []Field{
		yes("service_name", "the ClusterLoadAssignment's cluster_name; the cluster's name unless given"),
		accept("eds_config", "endpoints are found by name among the files, whatever the source"),
	}},
	{"envoy.config.cluster.v3.Cluster.CommonLbConfig", []Field{
		yes("healthy_panic_threshold", "50 % unless given, rounded to a whole per cent"),
		yes("locality_weighted_lb_config"),
		yes("zone_aware_lb_config", "where the proxy's own locality is known (dubway-proxy --locality)"),
		yes("consistent_hashing_lb_config"),
		accept("update_merge_window", "a change applies when it comes"),
	}},
	{"envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", nil},
	{"envoy.config.cluster.v3.Cluster.LbSubsetConfig", []Field{
		yes("fallback_policy"),
		yes("default_subset"),
		yes("subset_selectors"),
	}},
	{"envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector", []Field{
		yes("keys"),
		only("fallback_policy", isEnum(0), "only NOT_DEFINED: the cluster's own holds"),
	}},
	{"envoy.config.cluster.v3.Cluster.TransportSocketMatch", []Field{
		accept("name", "for humans"),
		yes("match"),
		extension("transport_socket", entry.SlotTransportSocket),
	}},
	{"envoy.config.cluster.v3.CircuitBreakers", []Field{yes("thresholds")}},
	{"envoy.config.cluster.v3.CircuitBreakers.Thresholds", []Field{
		only("priority", isEnum(0), "only DEFAULT: no request has another"),
		yes("max_connections", "opaque connections of each workload; its requests to an endpoint share one. None without a number (Envoy: 1024)"),
		accept("max_pending_requests", "there is no queue: requests share a connection, and count for max_requests while it is made"),
		yes("max_requests", "of each workload, in flight at a time; none without a number (Envoy: 1024)"),
		yes("max_retries", "in flight to the cluster at a time; none without a number is 20 % of its requests in flight, and 3 at least (Envoy: 3)"),
		yes("retry_budget", "instead of max_retries"),
		only("max_connection_pools", isUnlimited, unlimited),
		accept("track_remaining", "for Envoy's own statistics"),
	}},
	{"envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget", []Field{yes("budget_percent"), yes("min_retry_concurrency")}},
	{"envoy.config.cluster.v3.Filter", []Field{
		accept("name", "the type of typed_config decides"),
		extension("typed_config", entry.SlotClusterFilter),
	}},
	{"envoy.type.v3.Percent", []Field{yes("value")}},
}

var endpointMessages = []Message{
	{"envoy.config.endpoint.v3.ClusterLoadAssignment", []Field{
		yes("cluster_name"),
		yes("endpoints"),
		yes("policy"),
	}},
	{"envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", []Field{
		yes("overprovisioning_factor", "140 % unless given"),
	}},
	{"envoy.config.endpoint.v3.LocalityLbEndpoints", []Field{
		yes("locality"),
		yes("lb_endpoints"),
		yes("load_balancing_weight", "with locality_weighted_lb_config; absent is 0, which takes no requests"),
		yes("priority"),
	}},
	{"envoy.config.endpoint.v3.LbEndpoint", []Field{
		yes("endpoint"),
		yes("health_status", "UNKNOWN, HEALTHY and DEGRADED are healthy. DRAINING takes no requests in panic either, while there is another endpoint (Envoy: it does)"),
		yes("metadata", "filter_metadata: envoy.lb is what metadata_match compares; istio.workload names the pod for metrics; envoy.transport_socket_match is what transport_socket_matches compares; other keys describe the endpoint"),
		yes("load_balancing_weight", "1 unless given"),
	}},
	{"envoy.config.endpoint.v3.Endpoint", []Field{
		yes("address", "an IP address and a port; a host name in a STRICT_DNS cluster only"),
		accept("hostname", "for HTTP's Host and health checks"),
	}},
	{"envoy.config.core.v3.Locality", []Field{yes("region"), yes("zone"), yes("sub_zone")}},
}

var commonMessages = []Message{
	{"envoy.config.core.v3.Address", []Field{yes("socket_address")}},
	{"envoy.config.core.v3.SocketAddress", []Field{
		only("protocol", isEnum(0), "only TCP"),
		yes("address"),
		yes("port_value"),
		yes("ipv4_compat", ":: then means every IPv4 address as well"),
	}},
	{"envoy.config.core.v3.CidrRange", []Field{yes("address_prefix"), yes("prefix_len")}},
	{"envoy.config.core.v3.Metadata", []Field{yes("filter_metadata")}},
	{"envoy.config.core.v3.TransportSocket", []Field{
		accept("name", "the type of typed_config decides"),
		extension("typed_config", entry.SlotTransportSocket),
	}},
}
