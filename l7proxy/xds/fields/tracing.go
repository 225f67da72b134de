package fields

// tracingMessages are those of spans. A tracer is no reason to refuse a listener, whose
// traffic would be lost for it: what is not done is told by dubwayctl status.
var tracingMessages = []Message{
	{"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing", []Field{
		accept("client_sampling", "of requests with x-client-trace-id, which Dubbo requests do not have"),
		yes("random_sampling", "the share of requests without a trace of their own that begin one; 100 % unless given, as in Envoy"),
		yes("overall_sampling", "the share of those that do nevertheless"),
		accept("verbose", "there are no annotations beside the attributes"),
		accept("max_path_tag_length", httpOur),
		reported("custom_tags", "literal, and request_header: interface, method, version, or an attachment as it is spelt. metadata of requests is empty here: default_value, or no tag. Of environment and other metadata the default is taken, and dubwayctl status says so"),
		reported("provider", "OpenTelemetryConfig with service_name and a grpc_service.envoy_grpc whose cluster the proxy itself reaches, from its own network namespace, over plain TCP. Any other tracer makes no spans, and dubwayctl status says so, as it does of http_service, initial_metadata, sampler and resource_detectors"),
		accept("spawn_upstream_span", "each side of a call has one span"),
		reported("operation", "spans are named interface/method; dubwayctl status says so"),
		reported("upstream_operation", "likewise"),
		yes("no_context_propagation", "true: requests stay as they are"),
	}},
}
