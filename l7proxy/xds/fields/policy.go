package fields

const (
	noJWT     = "a Dubbo request carries no JWT, so that this never matches: nobody has a request principal"
	noChecker = "only as istiod names it for JWTs, which Dubbo requests do not have: istio_authn and envoy.filters.http.jwt_authn"
)

// rbacMessages are those of both RBAC filters.
var rbacMessages = []Message{
	{"envoy.extensions.filters.network.rbac.v3.RBAC", []Field{
		yes("rules", "absent: everything passes; without a policy, ALLOW denies everything"),
		yes("shadow_rules", "judged and counted, never enforced"),
		yes("stat_prefix", "in metrics"), yes("shadow_rules_stat_prefix", "in metrics"),
		only("enforcement_type", isEnum(0), "only ONE_TIME_ON_FIRST_BYTE"),
	}},
	{"envoy.extensions.filters.http.rbac.v3.RBAC", []Field{
		yes("rules", "absent: everything passes; without a policy, ALLOW denies everything"),
		yes("shadow_rules", "judged and counted, never enforced"),
		yes("rules_stat_prefix", "in metrics"), yes("shadow_rules_stat_prefix", "in metrics"),
		accept("track_per_rule_stats", "each policy has its own counters"),
	}},
	{"envoy.extensions.filters.http.rbac.v3.RBACPerRoute", []Field{yes("rbac", "absent: everything passes")}},
	{"envoy.config.rbac.v3.RBAC", []Field{
		yes("action", "LOG denies nothing; what matches is counted"),
		yes("policies", "one that matches is enough; the first by name is reported"),
	}},
	{"envoy.config.rbac.v3.Policy", []Field{
		yes("permissions", "one must hold"), yes("principals", "one must hold"),
	}},
	{"envoy.config.rbac.v3.Permission", []Field{
		yes("and_rules"), yes("or_rules"), yes("any"),
		yes("header", "as of a route, and :method, which is POST for every call. Not in the network filter"),
		yes("url_path", "/<interface>/<method>. Not in the network filter"),
		yes("destination_ip", "the address that was dialled"),
		yes("destination_port", "the port that was dialled"),
		yes("destination_port_range"),
		yes("metadata", noJWT),
		yes("not_rule", "of what cannot be read nothing is known, inverted or not"),
	}},
	{"envoy.config.rbac.v3.Permission.Set", []Field{yes("rules")}},
	{"envoy.config.rbac.v3.Principal", []Field{
		yes("and_ids"), yes("or_ids"), yes("any"),
		yes("authenticated", "a consumer whose service account this node knows"),
		yes("source_ip", "deprecated; the consumer's address"),
		yes("direct_remote_ip", "the consumer's address"),
		yes("remote_ip", "the consumer's address"),
		yes("header", "as of a permission"),
		yes("url_path", "as of a permission"),
		yes("metadata", noJWT),
		yes("filter_state"),
		yes("not_id", "one who is not authenticated is not anybody"),
	}},
	{"envoy.config.rbac.v3.Principal.Set", []Field{yes("ids")}},
	{"envoy.config.rbac.v3.Principal.Authenticated", []Field{
		yes("principal_name", "spiffe://<trust domain>/ns/<namespace>/sa/<service account>; absent: any"),
	}},
	{"envoy.type.matcher.v3.PathMatcher", []Field{yes("path")}},
	{"envoy.type.matcher.v3.MetadataMatcher", []Field{
		only("filter", isString("istio_authn", "envoy.filters.http.jwt_authn"), noChecker),
		accept("path", noJWT),
		accept("value", noJWT),
		yes("invert", "then it always matches"),
	}},
	{"envoy.type.matcher.v3.FilterStateMatcher", []Field{
		only("key", isString("io.istio.peer_principal"), "only io.istio.peer_principal"),
		yes("string_match", "the principal, as of authenticated"),
	}},
	{"envoy.type.v3.Int32Range", []Field{yes("start"), yes("end", "not included")}},
}

// limitMessages are those of both filters for local rate limits, and the actions of
// routes.
var limitMessages = []Message{
	{"envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit", []Field{
		yes("token_bucket", "a token for each connection of a workload"),
		yes("runtime_enabled"),
		yes("stat_prefix", "in metrics"),
	}},
	{"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", []Field{
		yes("token_bucket", "a token for each request of a workload, unless a descriptor's counts it. Absent: only those of descriptors"),
		yes("filter_enabled", "the share of requests that take a token; as in Envoy none unless given"),
		yes("filter_enforced", "the share of those which are refused without one; as in Envoy none unless given"),
		yes("descriptors", "the smallest rate first; all that describe a request take a token"),
		yes("stage"),
		yes("always_consume_default_token_bucket", "true unless given: token_bucket counts what a descriptor's counts too"),
		yes("rate_limits", "in place of the route's"),
		only("vh_rate_limits", isEnum(0), "only OVERRIDE: the virtual host's hold where the route has none"),
		only("local_rate_limit_per_downstream_connection", isFalse, "only false: a bucket is a workload's"),
		only("enable_x_ratelimit_headers", isEnum(0), "only OFF"),
		only("enable_retry_after_header", isFalse, "only false"),
		yes("stat_prefix", "in metrics"),
		accept("status", noHTTPStatus),
		accept("rate_limited_as_resource_exhausted", "a gRPC status; a Dubbo consumer gets an exception that it does not retry"),
	}},
	{"envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor", []Field{
		yes("entries", "must be those of a request, one by one"),
		yes("token_bucket"),
	}},
	{"envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry", []Field{
		yes("key"),
		yes("value", "required: there is no bucket for each value"),
	}},
	{"envoy.type.v3.TokenBucket", []Field{
		yes("max_tokens"),
		yes("tokens_per_fill", "1 unless given"),
		yes("fill_interval", "at least 50ms"),
	}},
	{"envoy.config.core.v3.RuntimeFeatureFlag", []Field{
		yes("default_value"),
		accept("runtime_key", noRuntime),
	}},
	{"envoy.config.route.v3.RateLimit", []Field{
		yes("stage", "0 unless given; filters of this stage use it"),
		yes("actions", "each makes an entry of one descriptor"),
	}},
	{"envoy.config.route.v3.RateLimit.Action", []Field{
		yes("source_cluster", "source_cluster: the consumer's application and namespace, app.namespace"),
		yes("request_headers", "the value of an attribute, as of a route"),
		yes("remote_address", "remote_address: the consumer's address"),
		yes("generic_key"), yes("header_value_match"),
	}},
	{"envoy.config.route.v3.RateLimit.Action.SourceCluster", nil},
	{"envoy.config.route.v3.RateLimit.Action.RemoteAddress", nil},
	{"envoy.config.route.v3.RateLimit.Action.RequestHeaders", []Field{
		yes("header_name"), yes("descriptor_key"), yes("skip_if_absent", "absent and false: no descriptor"),
	}},
	{"envoy.config.route.v3.RateLimit.Action.GenericKey", []Field{
		yes("descriptor_value"), yes("descriptor_key", "generic_key unless given"),
	}},
	{"envoy.config.route.v3.RateLimit.Action.HeaderValueMatch", []Field{
		yes("descriptor_value"), yes("descriptor_key", "header_match unless given"),
		yes("expect_match", "true unless given"), yes("headers"),
	}},
}
