package fields

// Slot is a place where Envoy's API takes one of several extensions, as an Any.
type Slot string

// The slots that resources may fill.
const (
	SlotNone            Slot = ""
	SlotListenerFilter  Slot = "Listener filters"
	SlotNetworkFilter   Slot = "Network filters"
	SlotHTTPFilter      Slot = "HTTP filters"
	SlotPerRoute        Slot = "Per-route filters"
	SlotDubboFilter     Slot = "Dubbo filters"
	SlotMetaFilter      Slot = "MetaProtocol filters"
	SlotTransportSocket Slot = "Transport sockets"
	SlotProtocolOptions Slot = "Protocol options"
	SlotClusterFilter   Slot = "Cluster filters"
	SlotRetryHost       Slot = "Retry host predicates"
	SlotBalancer        Slot = "Load balancing policies"
	SlotHealthChecker   Slot = "Health checkers"
	SlotAccessLog       Slot = "Access logs"
	SlotLogFilter       Slot = "Access log filters"
)

// Slots lists the slots in the order of docs/xds.md.
func Slots() []Slot {
	return []Slot{SlotListenerFilter, SlotNetworkFilter, SlotHTTPFilter, SlotPerRoute, SlotDubboFilter, SlotMetaFilter,
		SlotTransportSocket, SlotProtocolOptions, SlotClusterFilter, SlotRetryHost, SlotBalancer, SlotHealthChecker,
		SlotAccessLog, SlotLogFilter}
}

// Types of the extensions that are converted.
const (
	TypeHTTPConnectionManager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	TypeDubboProxy            = "envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy"
	TypeMetaProtocolProxy     = metaName + "v1alpha.MetaProtocolProxy"
	TypeMetaLimit             = metaLimit + "LocalRateLimit"
	TypeMetaGlobalLimit       = metaAsked + "RateLimit"
	TypeTCPProxy              = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
	TypeRawBuffer             = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	TypeDownstreamTLS         = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	TypeUpstreamTLS           = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
	TypeNetworkRBAC           = "envoy.extensions.filters.network.rbac.v3.RBAC"
	TypeNetworkLimit          = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"
	TypeRBAC                  = "envoy.extensions.filters.http.rbac.v3.RBAC"
	TypeRBACPerRoute          = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
	TypeLimit                 = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
	TypeGlobalLimit           = "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
	TypeGlobalPerRoute        = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
	TypeFault                 = "envoy.extensions.filters.http.fault.v3.HTTPFault"
	TypeStats                 = "stats.PluginConfig"
	TypeFileLog               = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
	TypeStdoutLog             = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
	TypeStderrLog             = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
	TypeRoundRobin            = policies + "round_robin.v3.RoundRobin"
	TypeRandom                = policies + "random.v3.Random"
	TypeLeastRequest          = policies + "least_request.v3.LeastRequest"
	TypeRingHash              = policies + "ring_hash.v3.RingHash"
	TypeMaglev                = policies + "maglev.v3.Maglev"
	TypeWrrLocality           = policies + "wrr_locality.v3.WrrLocality"
	TypeDubboCheck            = "dubway.health.v1.Dubbo" // ours; Envoy knows none for Dubbo
)

// Extension is one type that a slot takes.
type Extension struct {
	Slot   Slot
	Type   string // full name of the message, inside a TypedStruct if there is one
	Status Status
	Note   string
	// Config lists the fields that its configuration may set; anyConfig: all.
	Config []string
}

// anyConfig stands for every field.
const anyConfig = "*"

// Extensions lists what a slot takes. Any other type is rejected.
func Extensions(s Slot) []Extension {
	var list []Extension
	for _, e := range extensions {
		if e.Slot == s {
			list = append(list, e)
		}
	}
	return list
}

var extensions = []Extension{
	{SlotListenerFilter, "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", Accepted, "the proxy always looks at the first bytes", []string{anyConfig}},
	{SlotListenerFilter, "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", Accepted, "the proxy always looks at the first bytes", []string{anyConfig}},
	{SlotListenerFilter, "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", Accepted, "the original destination is always known", []string{anyConfig}},
	{SlotNetworkFilter, TypeHTTPConnectionManager, Implemented, "Dubbo requests", nil},
	{SlotNetworkFilter, TypeDubboProxy, Implemented, "Dubbo requests, by its own table", nil},
	{SlotNetworkFilter, TypeMetaProtocolProxy, Implemented, "Dubbo and Thrift requests, by Aeraki's table", nil},
	{SlotNetworkFilter, TypeTCPProxy, Implemented, "everything else", nil},
	{SlotNetworkFilter, TypeNetworkRBAC, Implemented, "who may connect", nil},
	{SlotNetworkFilter, TypeNetworkLimit, Implemented, "how often one may connect", nil},
	{SlotNetworkFilter, "envoy.tcp.metadataexchange.config.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{SlotNetworkFilter, TypeStats, Implemented, "changes the metrics of opaque connections; without it they are as always", nil},
	{SlotHTTPFilter, TypeRBAC, Implemented, "who may call", nil},
	{SlotHTTPFilter, TypeLimit, Implemented, "how often one may call", nil},
	{SlotHTTPFilter, TypeGlobalLimit, Implemented, "how often all may call, as a service says", nil},
	{SlotHTTPFilter, TypeFault, Implemented, "delays and aborts calls", nil},
	{SlotHTTPFilter, "envoy.extensions.filters.http.router.v3.Router", Accepted, "routing is what the proxy does", []string{anyConfig}},
	{SlotHTTPFilter, "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", Accepted, "counts gRPC only", []string{anyConfig}},
	{SlotHTTPFilter, "envoy.extensions.filters.http.cors.v3.Cors", Accepted, "for browsers; acts only where a route says so", nil},
	{SlotHTTPFilter, "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", Accepted, "chooses an ALPN; ours is istio, which says what the mesh needs to know", []string{anyConfig}},
	{SlotHTTPFilter, "io.istio.http.peer_metadata.Config", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{SlotHTTPFilter, TypeStats, Implemented, "changes the metrics of calls; without it they are as always", nil},
	{SlotPerRoute, TypeRBACPerRoute, Implemented, "in place of the RBAC filters of this name", nil},
	{SlotPerRoute, TypeLimit, Implemented, "in place of the limit of this name", nil},
	{SlotPerRoute, TypeGlobalPerRoute, Implemented, "changes the global limit of this name", nil},
	{SlotPerRoute, TypeFault, Implemented, "in place of the fault filter of this name", nil},
	{SlotDubboFilter, "envoy.extensions.filters.network.dubbo_proxy.router.v3.Router", Accepted, "routing is what the proxy does", nil},
	{SlotMetaFilter, TypeMetaLimit, Implemented, "how often one may call", nil},
	{SlotMetaFilter, TypeMetaGlobalLimit, Implemented, "how often all may call, as a service says; beside an inline route_config", nil},
	{SlotMetaFilter, metaName + "filters.istio_stats.v1alpha.IstioStats", Accepted, "Istio's metrics are always made", []string{anyConfig}},
	{SlotMetaFilter, metaName + "filters.metadata_exchange.v1alpha.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{SlotMetaFilter, metaName + "filters.router.v1alpha.Router", Accepted, "routing is what the proxy does", []string{anyConfig}},
	{SlotTransportSocket, TypeRawBuffer, Implemented, "no TLS", nil},
	{SlotTransportSocket, TypeUpstreamTLS, Implemented, "of a cluster: the mesh's mutual TLS, with the workload's own certificate", nil},
	{SlotTransportSocket, TypeDownstreamTLS, Implemented, "only where traffic_direction is INBOUND: the mesh's mutual TLS, with the provider's own certificate. Consumers of the provider's own node, whom the node vouches for, take the chain without it", nil},
	{SlotProtocolOptions, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", Accepted, httpOur, []string{anyConfig}},
	{SlotRetryHost, "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", Implemented, "not where it was tried already", nil},
	{SlotClusterFilter, "envoy.tcp.metadataexchange.config.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{SlotBalancer, TypeRoundRobin, Implemented, "", nil},
	{SlotBalancer, TypeRandom, Implemented, "", nil},
	{SlotBalancer, TypeLeastRequest, Implemented, "", nil},
	{SlotBalancer, TypeRingHash, Implemented, "", nil},
	{SlotBalancer, TypeMaglev, Implemented, "", nil},
	{SlotBalancer, TypeWrrLocality, Implemented, "localities by weight, and in each of them the policy that it names", nil},
	{SlotHealthChecker, TypeDubboCheck, Implemented, "probe: heartbeat (the default), or echo, a call of $echo to interface, version and group, which a provider answers that exports them", []string{"probe", "interface", "version", "group"}},
	{SlotAccessLog, TypeFileLog, Implemented, lineOwn, []string{anyConfig}},
	{SlotAccessLog, TypeStdoutLog, Implemented, lineOwn, []string{anyConfig}},
	{SlotAccessLog, TypeStderrLog, Implemented, lineOwn, []string{anyConfig}},
	{SlotAccessLog, "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{SlotAccessLog, "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{SlotAccessLog, "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{SlotLogFilter, "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", Implemented, "the forms of CEL above", nil},
}

// find returns the entry for a type in a slot.
func find(s Slot, typ string) (Extension, bool) {
	for _, e := range extensions {
		if e.Slot == s && e.Type == typ {
			return e, true
		}
	}
	return Extension{}, false
}
