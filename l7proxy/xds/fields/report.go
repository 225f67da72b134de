package fields

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3" // in the table
	_ "istio.io/api/envoy/extensions/stats"                                                   // in the table

	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
)

const (
	lineOwn  = "lines have their own format, and go where the proxy's flags say"
	logs     = "envoy.config.accesslog.v3."
	noSink   = "lines go nowhere but where the proxy's flags say: collect them there"
	noFields = "the proxy's own heartbeats and its probes have no lines"
)

var reportMessages = []Message{
	{"stats.PluginConfig", []Field{
		yes("metrics", "entries add up. See above"),
		accept("disable_host_header_fallback", "Dubbo has no Host"),
		accept("tcp_reporting_duration", "bytes are counted at a connection's end"),
	}},
	{"stats.MetricConfig", []Field{
		yes("name", "requests_total, request_duration_milliseconds, request_bytes, response_bytes, tcp_connections_opened_total, tcp_connections_closed_total, tcp_sent_bytes_total, tcp_received_bytes_total; none: all of them. request_messages_total and response_messages_total are taken and mean nothing"),
		yes("dimensions", "labels that are added, 16 of a metric at most. A value is a text in quotes, or one of request.headers['NAME'], request.path, request.url_path, request.host. See above"),
		yes("tags_to_remove", "any label but reporter"),
		yes("drop"),
	}},
	{logs + "AccessLog", []Field{
		accept("name", "the type of typed_config decides"),
		yes("filter", "of which calls there is a line"),
		extension("typed_config", entry.SlotAccessLog),
	}},
	{logs + "AccessLogFilter", []Field{
		yes("status_code_filter", "by the HTTP status that says what Dubbo's does: see above"), yes("duration_filter", "in milliseconds"),
		yes("and_filter"), yes("or_filter"), yes("response_flag_filter"), accept("not_health_check_filter", noFields),
		yes("extension_filter"),
	}},
	{logs + "StatusCodeFilter", []Field{yes("comparison")}},
	{logs + "DurationFilter", []Field{yes("comparison")}},
	{logs + "ComparisonFilter", []Field{
		only("op", isEnum(accesslogv3.ComparisonFilter_EQ.Number(), 1, 2, 3), "EQ, GE, LE and NE"),
		yes("value", "its default_value"),
	}},
	{"envoy.config.core.v3.RuntimeUInt32", []Field{yes("default_value"), accept("runtime_key", noRuntime)}},
	{logs + "AndFilter", []Field{yes("filters")}},
	{logs + "OrFilter", []Field{yes("filters")}},
	{logs + "ResponseFlagFilter", []Field{yes("flags", "those of response_flags; none: any")}},
	{logs + "ExtensionFilter", []Field{accept("name", "the type of typed_config decides"), extension("typed_config", entry.SlotLogFilter)}},
	{"envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", []Field{yes("expression", "see above")}},
}
