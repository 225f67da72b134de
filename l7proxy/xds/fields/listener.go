package fields

import "github.com/dubway/dubway/l7proxy/xds/fields/entry"

const (
	noBind     = "no address is bound: the agent opens one listener in each pod"
	httpOur    = "means something to HTTP only; requests here are Dubbo's"
	noStats    = "a name for Envoy's own statistics; Dubway's metrics have Istio's labels"
	ownLog     = "what no chain takes has no line, and a call has one, when it ended"
	noTLS      = "a handshake may take ten seconds"
	sniffedAll = "the proxy always looks at the first bytes"
	sniffed    = "a silent or server-first connection is never kept waiting: it takes the tcp_proxy chain"
)

var listenerMessages = []Message{
	{"envoy.config.listener.v3.Listener", []Field{
		yes("name", "required"),
		yes("address", "an IP address and a port as consumers dial them. 0.0.0.0 and :: mean every address, port_value 0 every port; loopback is rejected, since it is never steered"),
		yes("additional_addresses"),
		yes("filter_chains", "a chain that ends in http_connection_manager or dubbo_proxy is for requests, one that ends in tcp_proxy for everything else"),
		yes("default_filter_chain", "as a chain; with tcp_proxy, for what no chain takes"),
		yes("use_original_dst", "true is istiod's virtualOutbound: its chain says what becomes of connections to destinations that no listener names (see above), and its address is not dialled"),
		yes("traffic_direction", "INBOUND is a provider's: see above. Any other is for what consumers dial"),
		extension("listener_filters", entry.SlotListenerFilter),
		accept("listener_filters_timeout", sniffed),
		accept("continue_on_listener_filters_timeout", sniffed),
		accept("stat_prefix", noStats),
		yes("metadata", "filter_metadata: dubway.io.workload, namespace/workload, says whose an INBOUND listener is, and nothing else may stand below dubway.io; other keys describe the resource"),
		accept("access_log", ownLog),
		accept("deprecated_v1", noBind),
		accept("bind_to_port", noBind),
		accept("enable_reuse_port", noBind),
		accept("reuse_port", noBind),
		accept("tcp_backlog_size", noBind),
		accept("max_connections_to_accept_per_socket_event", noBind),
		accept("drain_type", "a changed listener keeps its connections"),
	}},
	{"envoy.config.listener.v3.AdditionalAddress", []Field{yes("address")}},
	{"envoy.config.listener.v3.ListenerFilter", []Field{
		accept("name", "the type of typed_config decides"),
		extension("typed_config", entry.SlotListenerFilter),
		accept("filter_disabled", sniffedAll),
	}},
	{"envoy.config.listener.v3.FilterChain", []Field{
		yes("filter_chain_match"),
		yes("filters", "http_connection_manager, dubbo_proxy or tcp_proxy last"),
		extension("transport_socket", entry.SlotTransportSocket),
		accept("transport_socket_connect_timeout", noTLS),
		accept("metadata", "describes the resource"),
		accept("name", "for humans"),
	}},
	{"envoy.config.listener.v3.FilterChainMatch", []Field{
		yes("destination_port", "where the listener's port_value is 0, else it must be the same"),
		yes("prefix_ranges", "within the listener's address; a chain for a part of it never falls back to a chain for the whole"),
		only("transport_protocol", isString("raw_buffer", "tls"), "only raw_buffer (or none), and tls where traffic_direction is INBOUND"),
		only("application_protocols", areStrings("http/1.0", "http/1.1", "h2c", "h2", "dubbo", "istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"), "only http/1.0, http/1.1, h2c, h2 and dubbo, and Istio's own where traffic_direction is INBOUND. Only on a chain for requests, and that chain takes Dubbo requests whichever of them it names"),
	}},
	{"envoy.config.listener.v3.Filter", []Field{
		accept("name", "the type of typed_config decides"),
		extension("typed_config", entry.SlotNetworkFilter),
	}},
	{"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", []Field{
		yes("rds", "the RouteConfiguration that Dubbo requests are routed by"),
		yes("route_config", "the same, inline"),
		extension("http_filters", entry.SlotHTTPFilter),
		only("stream_idle_timeout", isZeroDuration, "only 0s, which is none. Absent is none as well (Envoy: 5 minutes)"),
		only("request_timeout", isZeroDuration, "only 0s, which is none"),
		only("request_headers_timeout", isZeroDuration, "only 0s, which is none"),
		accept("stat_prefix", noStats),
		yes("access_log", "of which there is a line. See above"),
		accept("access_log_options", ownLog),
		yes("tracing", "spans of Dubbo requests (docs/tracing.md)"),
		accept("codec_type", "the client's first bytes decide"),
		yes("common_http_protocol_options"),
		accept("http_protocol_options", httpOur),
		accept("http2_protocol_options", httpOur),
		accept("server_name", httpOur),
		accept("server_header_transformation", httpOur),
		accept("max_request_headers_kb", httpOur),
		accept("use_remote_address", httpOur),
		accept("xff_num_trusted_hops", httpOur),
		accept("skip_xff_append", httpOur),
		accept("generate_request_id", httpOur),
		accept("preserve_external_request_id", httpOur),
		accept("request_id_extension", httpOur),
		accept("forward_client_cert_details", httpOur),
		accept("set_current_client_cert_details", httpOur),
		accept("proxy_100_continue", httpOur),
		accept("upgrade_configs", httpOur),
		accept("normalize_path", httpOur),
		accept("merge_slashes", httpOur),
		accept("path_with_escaped_slashes_action", httpOur),
		accept("delayed_close_timeout", httpOur),
		accept("drain_timeout", httpOur),
	}},
	{"envoy.config.core.v3.HttpProtocolOptions", []Field{
		yes("idle_timeout", "of a consumer's connection that brings requests: it ends, between two requests, when nothing has moved either way for so long and nothing is pending. A heartbeat moves: one that is kept alive by them (Java and dubbo-go send one a minute) does not end, as without a mesh. Looked at every ten seconds. Absent is none (Envoy: 1 hour)"),
		accept("max_headers_count", httpOur),
		accept("max_response_headers_kb", httpOur),
		accept("headers_with_underscores_action", httpOur),
	}},
	{"envoy.extensions.filters.network.http_connection_manager.v3.Rds", []Field{
		yes("route_config_name", "required"),
		accept("config_source", "route configurations are found by name among the files, whatever the source"),
	}},
	{"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter", []Field{
		yes("name", "what a typed_per_filter_config calls the filter; what it is says the type of typed_config"),
		extension("typed_config", entry.SlotHTTPFilter),
	}},
	{"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", []Field{
		yes("cluster"),
		yes("weighted_clusters"),
		yes("metadata_match", "filter_metadata[\"envoy.lb\"]"),
		yes("idle_timeout", "of a connection on which nothing moves either way. Absent is none (Envoy: 1 hour)"),
		accept("stat_prefix", noStats),
		yes("access_log", "of which there is a line. See above"),
		accept("access_log_options", ownLog),
	}},
	{"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster", []Field{yes("clusters")}},
	{"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight", []Field{
		yes("name"),
		yes("weight"),
		yes("metadata_match", "added to the filter's own, whose keys it overrides"),
	}},
}
