package typed

// Where the messages of load balancing policies are, and those of Aeraki.
const (
	Balancing = "envoy.extensions.load_balancing_policies."
	Meta      = "aeraki.meta_protocol_proxy."
)

// Types of the extensions that are converted.
const (
	TypeHTTPConnectionManager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	TypeDubboProxy            = "envoy.extensions.filters.network.dubbo_proxy.v3.DubboProxy"
	TypeMetaProtocolProxy     = Meta + "v1alpha.MetaProtocolProxy"
	TypeMetaLimit             = Meta + "filters.local_ratelimit.v1alpha.LocalRateLimit"
	TypeMetaGlobalLimit       = Meta + "filters.ratelimit.v1alpha.RateLimit"
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
	TypeRoundRobin            = Balancing + "round_robin.v3.RoundRobin"
	TypeRandom                = Balancing + "random.v3.Random"
	TypeLeastRequest          = Balancing + "least_request.v3.LeastRequest"
	TypeRingHash              = Balancing + "ring_hash.v3.RingHash"
	TypeMaglev                = Balancing + "maglev.v3.Maglev"
	TypeWrrLocality           = Balancing + "wrr_locality.v3.WrrLocality"
	TypeDubboCheck            = "dubway.health.v1.Dubbo" // ours; Envoy knows none for Dubbo
)
