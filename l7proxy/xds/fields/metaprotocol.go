package fields

import (
	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

const metaName, metaCodec, metaOwn = typed.Meta, "aeraki.meta_protocol.codec.", "aeraki.meta_protocol.filters."
const metaRoute, metaLimit, metaAsked = metaName + "config.route.v1alpha.", metaName + "filters.local_ratelimit.v1alpha.", metaName + "filters.ratelimit.v1alpha."

// metaMessages are those of Aeraki's network filter, of its tables of routes and of its own
// filters. A table that its server sends has become such a one before it comes here.
var metaMessages = []Message{
	{metaName + "v1alpha.MetaProtocolProxy", []Field{
		yes("rds", "its table is asked for at the server that config_source names"), yes("route_config", "the same, inline"),
		yes("protocol", "or application_protocol and codec: the same, deprecated. Required"), yes("codec"),
		only("application_protocol", isString("dubbo", "thrift"), "only dubbo and thrift"), yes("meta_protocol_filters"),
		yes("idle_timeout", "of a consumer's connection that brings requests, as common_http_protocol_options.idle_timeout. Absent is none"),
		accept("stat_prefix", noStats), accept("tracing", "its calls have no spans"), accept("access_log", "its calls have lines as the proxy's flags say")}},
	{metaName + "v1alpha.ApplicationProtocol", []Field{only("name", isString("dubbo", "thrift"), "only dubbo and thrift"), yes("codec"),
		accept("multiplexing", "requests of one workload always share their connections to providers")}},
	{metaName + "v1alpha.Codec", []Field{only("name", isString(metaCodec+"dubbo", metaCodec+"thrift"), "only "+metaCodec+"dubbo and "+metaCodec+"thrift. The client's first bytes decide")}},
	{metaName + "v1alpha.Rds", []Field{yes("route_config_name", "required"),
		yes("config_source", "required; of files it is not looked at: the table is found by its name among them")}},
	{metaName + "v1alpha.MetaProtocolFilter", []Field{extension("config", entry.SlotMetaFilter),
		only("name", isString(metaOwn+"router", metaOwn+"metadata_exchange", metaOwn+"istio_stats", metaOwn+"local_ratelimit", metaOwn+"ratelimit"),
			"only Aeraki's router, metadata_exchange, istio_stats, local_ratelimit and ratelimit")}},
	{metaRoute + "RouteConfiguration", []Field{yes("name", "required"), yes("routes", "required; the first that matches")}},
	{metaRoute + "Route", []Field{yes("name", "in logs and metrics; may be empty"), yes("match", "absent: every request"), yes("route", "required"),
		yes("request_mutation", "attachments that are set, to that very text"), yes("response_mutation", "the same, of answers")}},
	{metaRoute + "RouteMatch", []Field{yes("metadata", "all must match. interface and method are the request's (a thrift request's too); any other name is the attachment of that name, in any case")}},
	{metaRoute + "RouteAction", []Field{
		yes("cluster", "required, or weighted_clusters. A route to a missing cluster is taken and its requests fail"), yes("weighted_clusters"),
		yes("hash_policy", "interface, method or attachments; of several, all that a request has count"), yes("request_mirror_policies")}},
	{metaRoute + "RouteAction.RequestMirrorPolicy", []Field{yes("cluster", "required"), yes("runtime_fraction", "absent: every request")}}, {metaRoute + "KeyValue", []Field{yes("key", "required"), yes("value")}}, {metaLimit + "LocalRateLimit", []Field{accept("stat_prefix", noStats),
		yes("token_bucket", "of the requests that meet no condition; absent: they pass"), yes("conditions", "the first that a request meets has its bucket")}},
	{metaLimit + "LocalRateLimitCondition", []Field{yes("match"), yes("token_bucket", "required")}}, {metaAsked + "RateLimit", []Field{yes("match", "required: without it Aeraki's proxy asks about no request"), yes("domain", "required"),
		yes("timeout", "how long a request waits for the answer: 20ms unless given"), yes("rate_limit_service", "required"),
		yes("failure_mode_deny", "true: what the service cannot tell is refused; otherwise it passes"), yes("descriptors", "required; one for each, without those that a request has no property for")}},
	{metaAsked + "Descriptor", []Field{yes("property", "as the name in a match"), yes("descriptor_key")}}, {"envoy.config.core.v3.ConfigSource", []Field{yes("api_config_source", "required"),
		accept("initial_fetch_timeout", "a table is waited for for 5 s"), accept("resource_api_version", "it is always v3")}},
	{"envoy.config.core.v3.ApiConfigSource", []Field{only("api_type", isEnum(2), "only GRPC"), yes("grpc_services", "required; one, with envoy_grpc"),
		accept("transport_api_version", "it is always v3"), accept("set_node_on_first_message_only", "the node is always said then")}},
}
