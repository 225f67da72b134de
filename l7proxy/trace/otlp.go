package trace

import (
	"cmp"
	"net/netip"
	"slices"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/dubway/dubway/internal/version"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// The flags of a span beside those of W3C, as OTLP has them.
const (
	flagSampled  = 1
	flagIsKnown  = 1 << 8
	flagIsRemote = 1 << 9
)

// resource is whose spans a collector is told of.
type resource struct {
	service string
	peer    *rpc.Peer
}

// request is what a collector is told of a batch: spans by whose they are.
func (e *exporter) request(batch []*ended) *collectorpb.ExportTraceServiceRequest {
	out := new(collectorpb.ExportTraceServiceRequest)
	by := make(map[resource]*tracepb.ScopeSpans)
	for _, one := range batch {
		r := one.resource()
		scope := by[r]
		if scope == nil {
			scope = &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: "dubway", Version: version.Version}}
			by[r] = scope
			out.ResourceSpans = append(out.ResourceSpans, &tracepb.ResourceSpans{
				Resource:   &resourcepb.Resource{Attributes: r.attributes(e.tracer.opts.Node)},
				ScopeSpans: []*tracepb.ScopeSpans{scope},
			})
		}
		scope.Spans = append(scope.Spans, one.proto())
	}
	return out
}

// resource is the workload on the span's side.
func (o *ended) resource() resource {
	r := resource{service: o.config.Service, peer: o.record.Call.Source}
	if o.server {
		r.peer = o.record.Call.Destination
	}
	if r.peer == nil {
		r.peer = &nobody
	}
	if o.server && o.config == o.span.config && o.record.Call.Reporter != rpc.ReporterDestination {
		r.service = "" // it is the consumer's
	}
	if r.service == "" { // as Istio has it
		name := cmp.Or(r.peer.App, r.peer.Workload, r.peer.Pod, "unknown")
		if r.service = name; r.peer.Namespace != "" {
			r.service += "." + r.peer.Namespace
		}
	}
	return r
}

// nobody is a workload of which nothing is known.
var nobody rpc.Peer

func (r *resource) attributes(node string) []*commonpb.KeyValue {
	var a attributes
	a.text("service.name", r.service)
	a.text("service.version", r.peer.Version)
	a.text("k8s.namespace.name", r.peer.Namespace)
	a.text("k8s.pod.name", r.peer.Pod)
	if r.peer.Pod != "" {
		a.text("k8s.node.name", node)
	}
	return a
}

// attributes are in the making. What is empty is left out.
type attributes []*commonpb.KeyValue

func (a *attributes) text(key, value string) {
	if value != "" {
		*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}})
	}
}

func (a *attributes) number(key string, n int) {
	if n > 0 {
		*a = append(*a, &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(n)}}})
	}
}

func (a *attributes) address(key string, at netip.AddrPort) {
	if at.IsValid() {
		a.text(key+".address", at.Addr().String())
		a.number(key+".port", int(at.Port()))
	}
}

// proto is the span in OTLP's words.
func (o *ended) proto() *tracepb.Span {
	rec, s := &o.record, o.span
	out := &tracepb.Span{
		TraceId: s.trace[:], SpanId: o.id[:], TraceState: s.state, Name: name(rec.Call),
		Kind: tracepb.Span_SPAN_KIND_CLIENT, Flags: flagSampled | flagIsKnown,
		StartTimeUnixNano: uint64(rec.Start.UnixNano()), EndTimeUnixNano: uint64(rec.Start.Add(rec.Duration).UnixNano()),
		Attributes: o.attributes(),
	}
	if o.server {
		out.Kind = tracepb.Span_SPAN_KIND_SERVER
	}
	if o.parent != [8]byte{} {
		out.ParentSpanId = o.parent[:]
		if o.isRemote {
			out.Flags |= flagIsRemote
		}
	}
	kind, text := failure(rec)
	if kind != "" {
		out.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: text}
	}
	if rec.Exception != "" {
		var a attributes
		a.text("exception.type", rec.Exception)
		out.Events = append(out.Events, &tracepb.Span_Event{TimeUnixNano: out.GetEndTimeUnixNano(), Name: "exception", Attributes: a})
	}
	if o.server {
		return out // tries are the consumer's side's
	}
	for _, e := range s.events {
		var a attributes
		a.address("network.peer", e.peer)
		a.text("dubway.reason", e.why)
		out.Events = append(out.Events, &tracepb.Span_Event{TimeUnixNano: uint64(e.at.UnixNano()), Name: e.name, Attributes: a})
	}
	return out
}

// name is that of a call's spans, as OpenTelemetry has them for RPC.
func name(call *rpc.Call) string {
	switch {
	case call.Interface != "" && call.Method != "":
		return call.Interface + "/" + call.Method
	case call.Method != "":
		return call.Method
	}
	return call.Protocol.String()
}

// failure is what error.type says of a call that failed, and a sentence; "" for one that
// did not. A business exception is a failure to a trace, as it is to Dubbo's own tracing.
func failure(rec *rpc.Record) (kind, text string) {
	switch rec.Result {
	case rpc.ResultException:
		if rec.Exception == "" {
			return "exception", "the provider answered with an exception"
		}
		return rec.Exception, "the provider answered with an exception"
	case rpc.ResultError:
		return accesslog.StatusName(rec.Status), "the provider answered with an error"
	case rpc.ResultLocal, rpc.ResultGone:
		kind, text = rpc.Flags(rec.Why, false), rec.Why.String()
		if kind == "-" { // of an answer of the route itself
			kind = accesslog.StatusName(rec.Status)
		}
		return kind, text
	case rpc.ResultNone, rpc.ResultValue:
	}
	if rec.Why != rpc.WhyNone {
		return rpc.Flags(rec.Why, false), rec.Why.String()
	}
	return "", ""
}

// attributes are OpenTelemetry's for RPC, those that sidecars give, and the listener's own.
func (o *ended) attributes() attributes {
	rec := &o.record
	call := rec.Call
	a := make(attributes, 0, 24+len(o.tags))
	a.text("rpc.system", system(call.Protocol))
	a.text("rpc.service", call.Interface)
	a.text("rpc.method", call.Method)
	a.text("dubbo.version", call.Version)
	server := call.Service.Host
	if server == "" && call.Original.IsValid() {
		server = call.Original.Addr().String()
	}
	a.text("server.address", server)
	a.number("server.port", int(call.Original.Port()))
	if o.server {
		a.address("client", rec.Downstream)
		a.address("network.peer", rec.Downstream)
	} else {
		a.address("network.peer", call.Endpoint)
	}
	a.text("component", "proxy")
	a.text("upstream_cluster", call.Cluster)
	a.text("upstream_cluster.name", call.Cluster)
	a.text("response_flags", rpc.Flags(rec.Why, rec.Delayed))
	a.number("request_size", rec.RequestBytes)
	a.number("response_size", rec.ResponseBytes)
	a.text("dubbo.result", rec.Result.String())
	if rec.Status != 0 {
		a.text("dubbo.status", accesslog.StatusName(rec.Status))
	}
	a.text("dubway.policy", rec.Policy)
	a.text("dubway.route", call.Route)
	kind, _ := failure(rec)
	a.text("error.type", kind)
	if n := len(o.span.events); n > 0 && !o.server {
		a.number("dubway.attempts", n+1)
	}
	for i, tag := range o.config.Tags {
		a = slices.DeleteFunc(a, func(has *commonpb.KeyValue) bool { return has.GetKey() == tag.Name }) // the listener's counts
		a.text(tag.Name, o.tag(tag.Attribute, o.tags[i]))
	}
	return a
}

// tag is the value of a tag: what its request's attribute is, or what was read.
func (o *ended) tag(attribute, value string) string {
	call := o.record.Call
	switch attribute {
	case "interface":
		return cmp.Or(call.Interface, value)
	case "method":
		return cmp.Or(call.Method, value)
	case "version":
		return cmp.Or(call.Version, value)
	}
	return value
}

// system is OpenTelemetry's name of a protocol.
func system(p rpc.Protocol) string {
	if p == rpc.ProtocolDubbo {
		return "apache_dubbo"
	}
	return p.String()
}
