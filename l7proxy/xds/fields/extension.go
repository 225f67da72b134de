package fields

import (
	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// Extension is one type that a slot takes.
type Extension struct {
	Slot   entry.Slot
	Type   string // full name of the message, inside a TypedStruct if there is one
	Status Status
	Note   string
	// Config lists the fields that its configuration may set; anyConfig: all.
	Config []string
}

// anyConfig stands for every field.
const anyConfig = "*"

// Extensions lists what a slot takes. Any other type is rejected.
func Extensions(s entry.Slot) []Extension {
	var list []Extension
	for _, e := range extensions {
		if e.Slot == s {
			list = append(list, e)
		}
	}
	return list
}

var extensions = []Extension{
	{entry.SlotListenerFilter, "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", Accepted, "the proxy always looks at the first bytes", []string{anyConfig}},
	{entry.SlotListenerFilter, "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", Accepted, "the proxy always looks at the first bytes", []string{anyConfig}},
	{entry.SlotListenerFilter, "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", Accepted, "the original destination is always known", []string{anyConfig}},
	{entry.SlotNetworkFilter, typed.TypeHTTPConnectionManager, Implemented, "Dubbo requests", nil},
	{entry.SlotNetworkFilter, typed.TypeDubboProxy, Implemented, "Dubbo requests, by its own table", nil},
	{entry.SlotNetworkFilter, typed.TypeMetaProtocolProxy, Implemented, "Dubbo and Thrift requests, by Aeraki's table", nil},
	{entry.SlotNetworkFilter, typed.TypeTCPProxy, Implemented, "everything else", nil},
	{entry.SlotNetworkFilter, typed.TypeNetworkRBAC, Implemented, "who may connect", nil},
	{entry.SlotNetworkFilter, typed.TypeNetworkLimit, Implemented, "how often one may connect", nil},
	{entry.SlotNetworkFilter, "envoy.tcp.metadataexchange.config.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{entry.SlotNetworkFilter, typed.TypeStats, Implemented, "changes the metrics of opaque connections; without it they are as always", nil},
	{entry.SlotHTTPFilter, typed.TypeRBAC, Implemented, "who may call", nil},
	{entry.SlotHTTPFilter, typed.TypeLimit, Implemented, "how often one may call", nil},
	{entry.SlotHTTPFilter, typed.TypeGlobalLimit, Implemented, "how often all may call, as a service says", nil},
	{entry.SlotHTTPFilter, typed.TypeFault, Implemented, "delays and aborts calls", nil},
	{entry.SlotHTTPFilter, "envoy.extensions.filters.http.router.v3.Router", Accepted, "routing is what the proxy does", []string{anyConfig}},
	{entry.SlotHTTPFilter, "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", Accepted, "counts gRPC only", []string{anyConfig}},
	{entry.SlotHTTPFilter, "envoy.extensions.filters.http.cors.v3.Cors", Accepted, "for browsers; acts only where a route says so", nil},
	{entry.SlotHTTPFilter, "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", Accepted, "chooses an ALPN; ours is istio, which says what the mesh needs to know", []string{anyConfig}},
	{entry.SlotHTTPFilter, "io.istio.http.peer_metadata.Config", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{entry.SlotHTTPFilter, typed.TypeStats, Implemented, "changes the metrics of calls; without it they are as always", nil},
	{entry.SlotPerRoute, typed.TypeRBACPerRoute, Implemented, "in place of the RBAC filters of this name", nil},
	{entry.SlotPerRoute, typed.TypeLimit, Implemented, "in place of the limit of this name", nil},
	{entry.SlotPerRoute, typed.TypeGlobalPerRoute, Implemented, "changes the global limit of this name", nil},
	{entry.SlotPerRoute, typed.TypeFault, Implemented, "in place of the fault filter of this name", nil},
	{entry.SlotDubboFilter, "envoy.extensions.filters.network.dubbo_proxy.router.v3.Router", Accepted, "routing is what the proxy does", nil},
	{entry.SlotMetaFilter, typed.TypeMetaLimit, Implemented, "how often one may call", nil},
	{entry.SlotMetaFilter, typed.TypeMetaGlobalLimit, Implemented, "how often all may call, as a service says; beside an inline route_config", nil},
	{entry.SlotMetaFilter, metaName + "filters.istio_stats.v1alpha.IstioStats", Accepted, "Istio's metrics are always made", []string{anyConfig}},
	{entry.SlotMetaFilter, metaName + "filters.metadata_exchange.v1alpha.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{entry.SlotMetaFilter, metaName + "filters.router.v1alpha.Router", Accepted, "routing is what the proxy does", []string{anyConfig}},
	{entry.SlotTransportSocket, typed.TypeRawBuffer, Implemented, "no TLS", nil},
	{entry.SlotTransportSocket, typed.TypeUpstreamTLS, Implemented, "of a cluster: the mesh's mutual TLS, with the workload's own certificate", nil},
	{entry.SlotTransportSocket, typed.TypeDownstreamTLS, Implemented, "only where traffic_direction is INBOUND: the mesh's mutual TLS, with the provider's own certificate. Consumers of the provider's own node, whom the node vouches for, take the chain without it", nil},
	{entry.SlotProtocolOptions, "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", Accepted, httpOur, []string{anyConfig}},
	{entry.SlotRetryHost, "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", Implemented, "not where it was tried already", nil},
	{entry.SlotClusterFilter, "envoy.tcp.metadataexchange.config.MetadataExchange", Accepted, "peers are known from the endpoints", []string{anyConfig}},
	{entry.SlotBalancer, typed.TypeRoundRobin, Implemented, "", nil},
	{entry.SlotBalancer, typed.TypeRandom, Implemented, "", nil},
	{entry.SlotBalancer, typed.TypeLeastRequest, Implemented, "", nil},
	{entry.SlotBalancer, typed.TypeRingHash, Implemented, "", nil},
	{entry.SlotBalancer, typed.TypeMaglev, Implemented, "", nil},
	{entry.SlotBalancer, typed.TypeWrrLocality, Implemented, "localities by weight, and in each of them the policy that it names", nil},
	{entry.SlotHealthChecker, typed.TypeDubboCheck, Implemented, "probe: heartbeat (the default), or echo, a call of $echo to interface, version and group, which a provider answers that exports them", []string{"probe", "interface", "version", "group"}},
	{entry.SlotAccessLog, typed.TypeFileLog, Implemented, lineOwn, []string{anyConfig}},
	{entry.SlotAccessLog, typed.TypeStdoutLog, Implemented, lineOwn, []string{anyConfig}},
	{entry.SlotAccessLog, typed.TypeStderrLog, Implemented, lineOwn, []string{anyConfig}},
	{entry.SlotAccessLog, "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{entry.SlotAccessLog, "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{entry.SlotAccessLog, "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig", Accepted, noSink, []string{anyConfig}},
	{entry.SlotLogFilter, "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", Implemented, "the forms of CEL above", nil},
}

// find returns the entry for a type in a slot.
func find(s entry.Slot, typ string) (Extension, bool) {
	for _, e := range extensions {
		if e.Slot == s && e.Type == typ {
			return e, true
		}
	}
	return Extension{}, false
}
