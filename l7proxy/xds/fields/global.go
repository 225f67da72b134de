package fields

const (
	noHTTPStatus = "an HTTP status; a Dubbo consumer gets an exception that it does not retry"
	noHTTPHeader = "an HTTP header, which a Dubbo answer does not have"
)

// globalMessages are those of the filter for global rate limits; its actions are the
// routes' (limitMessages).
var globalMessages = []Message{
	{"envoy.extensions.filters.http.ratelimit.v3.RateLimit", []Field{
		yes("domain"), yes("stage", "the rate_limits of this stage describe requests"),
		only("request_type", isString("", "both"), "only both: Dubbo requests are neither internal nor external"),
		yes("timeout", "how long a request waits for the answer: 20ms unless given"),
		yes("failure_mode_deny", "true: what the service cannot tell is refused; otherwise it passes"),
		yes("failure_mode_deny_percent", "goes before failure_mode_deny"),
		yes("rate_limit_service"), yes("stat_prefix", "in metrics"),
		yes("filter_enabled", "the share of requests that are asked about; as in Envoy all unless given"),
		yes("filter_enforced", "the share of those that are refused when over the limit; all unless given"),
		only("enable_x_ratelimit_headers", isEnum(0), "only OFF"), only("enable_retry_after_header", isFalse, "only false"),
		accept("rate_limited_status", noHTTPStatus), accept("status_on_error", noHTTPStatus),
		accept("rate_limited_as_resource_exhausted", "a gRPC status; a Dubbo consumer gets an exception that it does not retry"),
		accept("disable_x_envoy_ratelimited_header", noHTTPHeader),
	}},
	{"envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute", []Field{
		only("vh_rate_limits", isEnum(0), "only OVERRIDE: the virtual host's hold where the route has none"),
		only("override_option", isEnum(0), "only DEFAULT"),
		yes("rate_limits", "in place of the route's"), yes("domain", "in place of the filter's"),
	}},
	{"envoy.config.ratelimit.v3.RateLimitServiceConfig", []Field{
		yes("grpc_service"), only("transport_api_version", isEnum(2), "only V3"),
	}},
	{"envoy.config.core.v3.GrpcService", []Field{yes("envoy_grpc", "the only way: google_grpc is not implemented")}},
	{"envoy.config.core.v3.GrpcService.EnvoyGrpc", []Field{
		yes("cluster_name", "a cluster whose endpoints the proxy itself reaches, from its own network namespace, over plain TCP"),
		yes("authority", "the cluster's name behind its last |, unless given"), accept("skip_envoy_headers", noHTTPHeader),
	}},
}
