package scenario

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/internal/testnet/oteltest"
)

// otelPort is where the collector listens.
const otelPort = 4317

// collector is the collector's process, which prints what it takes: collector NAME ADDRESS.
func collector(args []string) error {
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	c := oteltest.Serve(ln)
	for said := 0; ; time.Sleep(20 * time.Millisecond) {
		for _, s := range c.Spans()[said:] {
			if err := say(args[0]+":", s); err != nil {
				return err
			}
			said++
		}
	}
}

// traceRun is what TestTraces has beside its mesh.
type traceRun struct {
	*mesh

	consumer *testnet.Pod
	spans    *testnet.Process // the collector
	seen     int              // of its spans
}

// heard is what the provider got of a call's context.
type heard struct{ Traceparent, Tracestate string }

// call makes a call and returns what its provider was told, and the spans that the
// collector was, the client's first.
func (r *traceRun) call(spans int, attachments ...string) (t heard, list []oteltest.Span) {
	r.t.Helper()
	ask := with(attachments...)
	ask.Target, ask.N, ask.Timeout, ask.Value, ask.Request.Method = vip4+":20880", 1, 30*time.Second, true, "attached"
	got := r.calls(r.consumer, ask)
	if got.Answers["v1"] != 1 {
		r.t.Fatalf("answers %v, %v", got.Answers, got.Errors)
	}
	r.must(json.Unmarshal([]byte(got.Said), &t))
	r.eventually(fmt.Sprint(spans, " spans"), func() bool {
		list = r.all()
		return len(list) >= r.seen+spans
	})
	if list = list[r.seen:]; len(list) != spans {
		r.t.Fatalf("%d spans, want %d: %+v", len(list), spans, list)
	}
	r.seen += spans
	slices.SortFunc(list, func(a, b oteltest.Span) int { return strings.Compare(a.Kind, b.Kind) })
	return t, list
}

// all is what the collector was told so far.
func (r *traceRun) all() (list []oteltest.Span) {
	r.t.Helper()
	out, err := os.ReadFile(r.spans.LogPath())
	r.must(err)
	for line := range strings.Lines(string(out)) {
		text, ok := strings.CutPrefix(line, "spans:")
		if !ok || !strings.HasSuffix(line, "\n") { // which is being written
			continue
		}
		var s oteltest.Span
		r.must(json.Unmarshal([]byte(text), &s))
		list = append(list, s)
	}
	return list
}

// traced wants a call to be part of a trace: the client's span below parent, the server's
// below that, and the provider below the server's.
func (r *traceRun) traced(what, parent string, t heard, list []oteltest.Span) {
	r.t.Helper()
	client, server := list[0], list[1]
	switch {
	case client.Kind != "CLIENT" || server.Kind != "SERVER" || client.Parent != parent || server.Parent != client.ID:
		r.t.Errorf("%s: client %+v\nserver %+v", what, client, server)
	case client.Trace != server.Trace || t.Traceparent != "00-"+server.Trace+"-"+server.ID+"-01":
		r.t.Errorf("%s: the provider was told %q, of %+v", what, t.Traceparent, server)
	case client.Name != dubbotest.DefaultInterface+"/attached" || client.Attributes["env"] != "test" || client.Status != "UNSET":
		r.t.Errorf("%s: the client's span is %+v", what, client)
	case client.Resource["k8s.pod.name"] != "consumer" || server.Resource["k8s.pod.name"] != "provider-1":
		r.t.Errorf("%s: spans of %v and %v", what, client.Resource, server.Resource)
	}
}

// TestTraces: a call is two spans of a trace, as with two sidecars, and its provider goes
// on with it; whether it is sampled its consumer says, or chance. Nothing is changed of
// others.
func TestTraces(t *testing.T) {
	m, consumer, v1, v2 := shop(t)
	pod := m.bystander("otel")
	r := &traceRun{mesh: m, consumer: consumer, spans: m.server(pod, "collector", "spans", otelPort)}
	table := func(percent int) []byte {
		return []byte(fmt.Sprintf(traceTable, vip4, fmt.Sprintf(tracingOf, percent), v1.Addr(20880).Addr(), pod.Addr(otelPort).Addr()))
	}
	m.must(m.PutXDS("trace.yaml", table(100)))
	m.start(consumer, v1, v2)
	applied := (&policyRun{mesh: m}).applied
	const ids = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"

	told, list := r.call(2)
	r.traced("without a context", "", told, list)
	told, list = r.call(2, "traceparent", ids+"-01", "tracestate", "a=b")
	r.traced("with one", ids[36:], told, list)
	if !strings.HasPrefix(told.Traceparent, ids[:36]) || told.Tracestate != "a=b" {
		t.Errorf("the provider was told %+v", told)
	}
	if told, _ = r.call(0, "traceparent", ids+"-00"); told.Traceparent != ids+"-00" {
		t.Errorf("of a call that is not sampled the provider was told %+v", told)
	}
	applied(func() { m.must(m.PutXDS("trace.yaml", table(0))) })
	if told, _ = r.call(0); told.Traceparent != "" {
		t.Errorf("of a call that is not sampled the provider was told %+v", told)
	}
	told, list = r.call(2, "traceparent", ids+"-01")
	r.traced("sampled by its consumer", ids[36:], told, list)

	// The provider's own listener makes the server's span, where it has policies.
	applied(func() {
		m.must(m.PutXDS("inbound.yaml", []byte(fmt.Sprintf(traceInbound, testnet.Namespace+"/provider-1", fmt.Sprintf(tracingOf, 0)))))
	})
	told, list = r.call(2, "traceparent", ids+"-01")
	r.traced("by the provider's listener", ids[36:], told, list)
	if list[0].Attributes["network.peer.address"] != v1.Addr(0).Addr().String() || list[1].Attributes["client.address"] != consumer.Addr(0).Addr().String() {
		t.Errorf("the spans name %v and %v", list[0].Attributes, list[1].Attributes)
	}
	m.counted("dubway_spans_exported_total", r.seen)
	m.counted("dubway_spans_dropped_total", 0)

	m.must(r.spans.Kill())
	_ = m.calls(consumer, callsOf{Target: vip4 + ":20880", N: 3, Timeout: 30 * time.Second, Request: with("traceparent", ids+"-01").Request})
	m.eventually("the status says that the collector is away", func() bool {
		out, err := exec.CommandContext(m.ctx, filepath.Join(meshtest.Binaries, "dubwayctl"), "--state-dir", m.StateDir(), "status").CombinedOutput()
		return err == nil && strings.Contains(string(out), "spans for the collector otel are not taken since") &&
			strings.Contains(string(out), "connection refused")
	})
}

// tracingOf has the share of calls that are sampled, in percent.
const tracingOf = `{random_sampling: {value: %d}, custom_tags: [{tag: env, literal: {value: test}}], provider: {name: envoy.tracers.opentelemetry, typed_config: {` +
	`"@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig, grpc_service: {envoy_grpc: {cluster_name: otel}}}}}`

// traceTable has the service's address, its tracing, v1's address and the collector's.
const traceTable = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: service
  address: {socket_address: {address: "%s", port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: service
        tracing: %s
        route_config:
          virtual_hosts:
          - name: service
            domains: ["*"]
            routes: [{match: {prefix: /}, route: {cluster: v1}}]
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: v1
  type: STATIC
  load_assignment: {cluster_name: v1, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 20880}}}}]}]}
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: otel
  type: STATIC
  load_assignment: {cluster_name: otel, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "%s", port_value: 4317}}}}]}]}
`

// traceInbound has the provider's namespace and workload, and its tracing.
const traceInbound = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: inbound
  traffic_direction: INBOUND
  metadata: {filter_metadata: {dubway.io: {workload: %s}}}
  address: {socket_address: {address: 0.0.0.0, port_value: 15006}}
  filter_chains:
  - filter_chain_match: {destination_port: 20880, transport_protocol: raw_buffer}
    filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: inbound
        tracing: %s
        http_filters:
        - name: allow
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
            rules:
              policies: {everybody: {permissions: [{any: true}], principals: [{any: true}]}}
        route_config:
          virtual_hosts:
          - name: inbound
            domains: ["*"]
            routes: [{match: {prefix: /}, route: {cluster: inbound|20880||}}]
`
