package fields

// faultMessages are those of the HTTP fault filter, on a listener or a route.
var faultMessages = []Message{
	{"envoy.extensions.filters.http.fault.v3.HTTPFault", []Field{
		yes("delay", "behind RBAC and limits, in front of the choice of an endpoint; within the route's timeout"),
		yes("abort", "behind the delay"),
		yes("upstream_cluster", "the one that the route has chosen"),
		yes("headers", "all must match; as of a route"),
		yes("max_active_faults", "of one workload, for filters of one name; beyond it, nothing happens to a request"),
		accept("delay_percent_runtime", noRuntime),
		accept("abort_percent_runtime", noRuntime),
		accept("delay_duration_runtime", noRuntime),
		accept("abort_http_status_runtime", noRuntime),
		accept("abort_grpc_status_runtime", noRuntime),
		accept("max_active_faults_runtime", noRuntime),
		accept("response_rate_limit_percent_runtime", noRuntime),
		accept("disable_downstream_cluster_stats", noStats),
	}},
	{"envoy.extensions.filters.common.fault.v3.FaultDelay", []Field{
		yes("fixed_delay"),
		yes("percentage", "as in Envoy none unless given"),
	}},
	{"envoy.extensions.filters.http.fault.v3.FaultAbort", []Field{
		yes("http_status", "from 400 to 599, as a Dubbo status. See above"),
		yes("grpc_status", "from 1 to 16, as an RpcException. See above"),
		yes("response_body", "the answer's text"),
		yes("percentage", "as in Envoy none unless given"),
	}},
}
