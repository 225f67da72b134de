package policies

// The tables of Istio's traffic kinds. Each line that is not honoured follows from a field
// of xDS that docs/xds.md lists, and from what istiod makes of it (its
// pilot/pkg/networking/core).

var virtualService = []field{
	{path: "spec.hosts", effect: Honoured},
	{path: "spec.gateways", effect: Honoured},
	{path: "spec.exportTo", effect: Honoured},
	{path: "spec.http.name", effect: Honoured},
	{path: "spec.http.match.name", effect: Honoured},
	{path: "spec.http.match.uri", effect: Honoured}, // of /INTERFACE/METHOD
	{path: "spec.http.match.scheme", effect: Rejected, says: "it becomes a header :scheme, which no Dubbo request has." + tableRefused},
	{path: "spec.http.match.method", effect: Honoured}, // POST, for every call
	{path: "spec.http.match.authority", effect: Honoured, says: "compared with the address and port that were dialled: a Dubbo request has no host"},
	{path: "spec.http.match.headers", effect: Honoured},
	{path: "spec.http.match.withoutHeaders", effect: Honoured},
	{path: "spec.http.match.port", effect: Honoured},
	{path: "spec.http.match.sourceLabels", effect: Honoured},
	{path: "spec.http.match.sourceNamespace", effect: Honoured},
	{path: "spec.http.match.gateways", effect: Honoured},
	{path: "spec.http.match.ignoreUriCase", effect: Honoured},
	{path: "spec.http.match.statPrefix", effect: Ignored, says: "a name for Envoy's own statistics"},
	{path: "spec.http.match.queryParams", effect: Rejected, says: "query_parameters: a Dubbo request has none; match an attachment by headers." + tableRefused},
	{path: "spec.http.route.destination", effect: Honoured},
	{path: "spec.http.route.weight", effect: Honoured},
	{path: "spec.http.route.headers.request.set.host", effect: Rejected, says: "host_rewrite_literal." + tableRefused},
	{path: "spec.http.route.headers.request.set.*", effect: Honoured},
	{path: "spec.http.route.headers.request.add", effect: Honoured},
	{path: "spec.http.route.headers.request.remove", effect: Honoured},
	{path: "spec.http.route.headers.response", effect: Honoured},
	{path: "spec.http.headers.request.set.host", effect: Rejected, says: "host_rewrite_literal." + tableRefused},
	{path: "spec.http.headers.request.set.*", effect: Honoured},
	{path: "spec.http.headers.request.add", effect: Honoured},
	{path: "spec.http.headers.request.remove", effect: Honoured},
	{path: "spec.http.headers.response", effect: Honoured},
	{path: "spec.http.redirect", effect: Rejected, says: "redirect: a Dubbo answer cannot send its consumer elsewhere; route to the other host." + tableRefused},
	{path: "spec.http.rewrite", effect: Rejected, says: "prefix_rewrite, host_rewrite_literal: interface and method of a call are not changed." + tableRefused},
	{path: "spec.http.corsPolicy", effect: Rejected, says: "typed_per_filter_config of envoy.filters.http.cors: it is for browsers." + tableRefused},
	{path: "spec.http.directResponse.status", effect: Honoured, says: "from 400 on, as the Dubbo status of docs/xds.md; below, it is refused"},
	{path: "spec.http.directResponse.body", effect: Honoured},
	{path: "spec.http.delegate", effect: Honoured},
	{path: "spec.http.timeout", effect: Honoured},
	{path: "spec.http.retries.attempts", effect: Honoured},
	{path: "spec.http.retries.perTryTimeout", effect: Honoured},
	{path: "spec.http.retries.backoff", effect: Honoured},
	{path: "spec.http.retries.retryIgnorePreviousHosts", effect: Honoured},
	{path: "spec.http.retries.retryOn", effect: Honoured, says: "docs/policies.md says what each word means for Dubbo; those of HTTP and gRPC alone try nothing again"},
	{path: "spec.http.retries.retryRemoteLocalities", values: []string{"false"}, effect: Honoured},
	{path: "spec.http.retries.retryRemoteLocalities", effect: Rejected, says: "retry_priority." + tableRefused},
	{path: "spec.http.fault.delay.fixedDelay", effect: Honoured},
	{path: "spec.http.fault.delay.percentage", effect: Honoured},
	{path: "spec.http.fault.delay.percent", effect: Honoured},
	{path: "spec.http.fault.abort.httpStatus", effect: Honoured, says: "as the Dubbo status of docs/xds.md"},
	{path: "spec.http.fault.abort.grpcStatus", effect: Honoured, says: "as an RpcException of docs/xds.md"},
	{path: "spec.http.fault.abort.percentage", effect: Honoured},
	{path: "spec.http.mirror", effect: Honoured},
	{path: "spec.http.mirrors", effect: Honoured},
	{path: "spec.http.mirrorPercent", effect: Honoured},
	{path: "spec.http.mirrorPercentage", effect: Honoured},
	{path: "spec.tcp.match.port", effect: Honoured},
	{path: "spec.tcp.match.destinationSubnets", effect: Honoured},
	{path: "spec.tcp.match.sourceLabels", effect: Honoured},
	{path: "spec.tcp.match.sourceNamespace", effect: Honoured},
	{path: "spec.tcp.match.gateways", effect: Honoured},
	{path: "spec.tcp.route", effect: Honoured},
	{path: "spec.tls", effect: Rejected, says: "server_names: names in a TLS greeting are not read." + listenerRefused},
}

var balancer = []field{
	{path: ".loadBalancer.simple", effect: Honoured},
	{path: ".loadBalancer.consistentHash.httpHeaderName", effect: Honoured},
	{path: ".loadBalancer.consistentHash.useSourceIp", effect: Honoured},
	{path: ".loadBalancer.consistentHash.httpQueryParameterName", effect: Ignored, says: "a Dubbo request has none: each gets an endpoint by chance"},
	{path: ".loadBalancer.consistentHash.httpCookie", effect: Rejected, says: "hash_policy cookie: a Dubbo request has none; hash by httpHeaderName, an attachment." + tableRefused},
	{path: ".loadBalancer.consistentHash.ringHash", effect: Honoured},
	{path: ".loadBalancer.consistentHash.maglev", effect: Honoured},
	{path: ".loadBalancer.consistentHash.minimumRingSize", effect: Honoured},
	{path: ".loadBalancer.localityLbSetting", effect: Honoured},
	{path: ".loadBalancer.warmup", effect: Honoured},
	{path: ".loadBalancer.warmupDurationSecs", effect: Honoured},
}

var pool = []field{
	{path: ".connectionPool.tcp.maxConnections", effect: Honoured, says: "of connections that bring no Dubbo requests; Dubbo requests share theirs"},
	{path: ".connectionPool.tcp.connectTimeout", effect: Honoured},
	{path: ".connectionPool.tcp.tcpKeepalive", effect: Ignored, says: "Dubbo's heartbeats find dead providers sooner"},
	{path: ".connectionPool.tcp.idleTimeout", effect: Honoured},
	{path: ".connectionPool.tcp.maxConnectionDuration", effect: Rejected, says: "max_downstream_connection_duration." + listenerRefused},
	{path: ".connectionPool.http.http2MaxRequests", effect: Honoured},
	{path: ".connectionPool.http.maxRetries", effect: Honoured},
	{path: ".connectionPool.http.http1MaxPendingRequests", effect: Ignored, says: "there is no queue"},
	{path: ".connectionPool.http.maxRequestsPerConnection", effect: Ignored, says: "connections to providers are kept by heartbeats"},
	{path: ".connectionPool.http.idleTimeout", effect: Ignored, says: "connections to providers are kept by heartbeats"},
	{path: ".connectionPool.http.h2UpgradePolicy", effect: Ignored, says: "means something to HTTP only"},
	{path: ".connectionPool.http.useClientProtocol", effect: Ignored, says: "means something to HTTP only"},
	{path: ".connectionPool.http.maxConcurrentStreams", effect: Ignored, says: "means something to HTTP only"},
	{path: ".connectionPool.http.http2KeepAlive", effect: Ignored, says: "means something to HTTP only"},
}

var outliers = []field{
	{path: ".outlierDetection.consecutive5xxErrors", effect: Honoured},
	{path: ".outlierDetection.consecutiveErrors", effect: Honoured},
	{path: ".outlierDetection.consecutiveGatewayErrors", effect: Honoured},
	{path: ".outlierDetection.consecutiveLocalOriginFailures", effect: Honoured},
	{path: ".outlierDetection.splitExternalLocalOriginErrors", effect: Honoured},
	{path: ".outlierDetection.interval", effect: Honoured},
	{path: ".outlierDetection.baseEjectionTime", effect: Honoured},
	{path: ".outlierDetection.maxEjectionPercent", effect: Honoured},
	{path: ".outlierDetection.minHealthPercent", effect: Honoured},
}

var upstreamTLS = []field{
	{path: ".tls.mode", values: []string{"DISABLE", "ISTIO_MUTUAL"}, effect: Honoured},
	{path: ".tls.mode", values: []string{"SIMPLE", "MUTUAL"}, effect: Rejected, says: "TLS that is not the mesh's own: only a workload's certificate and the mesh's roots are there." + clusterRefused},
	{path: ".tls.sni", effect: Honoured},
	{path: ".tls.subjectAltNames", effect: Honoured, says: "URIs of the mesh, spiffe://..., exact or by prefix; any other is refused"},
	{path: ".tls.clientCertificate", effect: Ignored, says: "see tls.mode"},
	{path: ".tls.privateKey", effect: Ignored, says: "see tls.mode"},
	{path: ".tls.caCertificates", effect: Ignored, says: "see tls.mode"},
	{path: ".tls.credentialName", effect: Ignored, says: "see tls.mode"},
}

// destinationRule has the same lines for the whole, for subsets and for ports.
var destinationRule = func() []field {
	table := []field{
		{path: "spec.host", effect: Honoured},
		{path: "spec.exportTo", effect: Honoured},
		{path: "spec.workloadSelector", effect: Honoured},
		{path: "spec.subsets.name", effect: Honoured},
		{path: "spec.subsets.labels", effect: Honoured},
	}
	for _, where := range []string{"spec.trafficPolicy", "spec.subsets.trafficPolicy"} {
		for _, part := range [][]field{balancer, pool, outliers, upstreamTLS} {
			for _, f := range part {
				for _, at := range []string{where, where + ".portLevelSettings"} {
					f := f
					f.path = at + f.path
					table = append(table, f)
				}
			}
		}
		table = append(table,
			field{path: where + ".portLevelSettings.port", effect: Honoured},
			field{path: where + ".retryBudget.percent", effect: Honoured},
			field{path: where + ".retryBudget.minRetryConcurrency", effect: Honoured},
			field{path: where + ".tunnel", effect: Rejected, says: "tunneling_config." + listenerRefused},
			field{path: where + ".proxyProtocol", effect: Rejected, says: "a transport socket that writes the PROXY protocol." + clusterRefused},
		)
	}
	return table
}()

var serviceEntry = []field{
	{path: "spec.hosts", effect: Honoured},
	{path: "spec.addresses", effect: Honoured},
	{path: "spec.ports", effect: Honoured},
	{path: "spec.location", effect: Honoured},
	{path: "spec.resolution", values: []string{"NONE", "STATIC", "DNS"}, effect: Honoured},
	{path: "spec.resolution", effect: Rejected, says: "the cluster is of a type that is not implemented: use STATIC or DNS." + clusterRefused},
	{path: "spec.endpoints.serviceAccount", effect: Honoured, says: "istiod then says of the endpoint that it speaks the mesh's TLS, whether it does or not: leave it out for what no mesh serves"},
	{path: "spec.endpoints.address", effect: Honoured},
	{path: "spec.endpoints.ports", effect: Honoured},
	{path: "spec.endpoints.labels", effect: Honoured},
	{path: "spec.endpoints.locality", effect: Honoured},
	{path: "spec.endpoints.weight", effect: Honoured},
	{path: "spec.endpoints.network", effect: Honoured},
	{path: "spec.workloadSelector", effect: Honoured},
	{path: "spec.exportTo", effect: Honoured},
	{path: "spec.subjectAltNames", effect: Honoured},
}

var workloadEntry = []field{
	{path: "spec.address", effect: Honoured},
	{path: "spec.ports", effect: Honoured},
	{path: "spec.labels", effect: Honoured},
	{path: "spec.locality", effect: Honoured},
	{path: "spec.weight", effect: Honoured},
	{path: "spec.network", effect: Honoured},
	{path: "spec.serviceAccount", effect: Honoured, says: "istiod then says of the endpoint that it speaks the mesh's TLS, whether it does or not"},
}

var sidecar = []field{
	{path: "spec.workloadSelector", effect: Honoured},
	{path: "spec.outboundTrafficPolicy.mode", values: []string{"ALLOW_ANY", "REGISTRY_ONLY"}, effect: Honoured},
	{path: "spec.egress.hosts", effect: Honoured},
	{path: "spec.egress.port", effect: Honoured},
	{path: "spec.egress.bind", effect: Rejected, says: "a listener on an address of its own is not steered, and loopback is refused: leave it out. Other listeners hold", harmless: true},
	{path: "spec.egress.captureMode", values: []string{"DEFAULT", "IPTABLES"}, effect: Honoured},
	{path: "spec.egress.captureMode", effect: Rejected, says: "NONE means a listener on 127.0.0.1, which is never steered: leave it out. Other listeners hold", harmless: true},
	{path: "spec.ingress", effect: Partly, says: "its ports have their policies; a connection goes to the port that was dialled, whatever defaultEndpoint says"},
	{path: "spec.inboundConnectionPool", effect: Partly, says: "the provider's own side is not limited"},
}

var httpRoute = []field{
	{path: "spec.parentRefs", effect: Honoured},
	{path: "spec.hostnames", effect: Ignored, says: "means something to gateways only"},
	{path: "spec.rules.name", effect: Honoured},
	{path: "spec.rules.matches.path", effect: Honoured},
	{path: "spec.rules.matches.headers", effect: Honoured},
	{path: "spec.rules.matches.method", effect: Honoured},
	{path: "spec.rules.matches.queryParams", effect: Rejected, says: "query_parameters: a Dubbo request has none; match an attachment by headers." + tableRefused},
	{path: "spec.rules.backendRefs", effect: Honoured},
	{path: "spec.rules.timeouts", effect: Honoured},
	{path: "spec.rules.retry", effect: Honoured},
	{path: "spec.rules.filters.type", values: []string{"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"}, effect: Honoured},
	{path: "spec.rules.filters.type", values: []string{"RequestRedirect", "URLRewrite"}, effect: Rejected, says: "calls are neither redirected nor rewritten." + tableRefused},
	{path: "spec.rules.filters.type", values: []string{"CORS"}, effect: Rejected, says: "it is for browsers." + tableRefused},
	{path: "spec.rules.filters.requestHeaderModifier", effect: Honoured},
	{path: "spec.rules.filters.responseHeaderModifier", effect: Honoured},
	{path: "spec.rules.filters.requestMirror", effect: Honoured},
	{path: "spec.rules.filters.requestRedirect", effect: Ignored, says: "see type"},
	{path: "spec.rules.filters.urlRewrite", effect: Ignored, says: "see type"},
	{path: "spec.rules.filters.cors", effect: Ignored, says: "see type"},
}

var grpcRoute = append([]field{
	{path: "spec.rules.matches.method", effect: Honoured}, // {service: INTERFACE, method: METHOD}
}, httpRoute...)

var tcpRoute = []field{
	{path: "spec.parentRefs", effect: Honoured},
	{path: "spec.rules", effect: Honoured},
}
