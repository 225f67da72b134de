package trace

import (
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dubway/dubway/internal/testnet/oteltest"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

const otel = "outbound|4317||otel.infra.svc.cluster.local"

var (
	dialled  = netip.MustParseAddrPort("198.51.100.1:20880")
	endpoint = netip.MustParseAddrPort("10.0.0.2:20880")
	consumer = netip.MustParseAddrPort("10.0.0.1:40000")
)

// rig is a tracer with a collector.
type rig struct {
	*Tracer

	t        *testing.T
	clusters *cluster.Manager
	logs     *logs
	config   *tracing.Tracing
	provider *tracing.Tracing // of the provider's own listener
	known    bool
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, logs: &logs{}, config: &tracing.Tracing{Collector: tracing.Collector{Cluster: otel}, Share: snapshot.Million}}
	log := slog.New(slog.NewTextHandler(r.logs, nil))
	r.clusters = cluster.NewManager(log, cluster.Options{})
	r.Tracer = New(Options{
		Clusters: r.clusters, Node: "node-1", Logger: log, Every: 5 * time.Millisecond,
		Provider: func(netip.AddrPort) (*tracing.Tracing, bool) { return r.provider, r.known },
	})
	t.Cleanup(func() {
		r.Close()
		r.clusters.Close()
	})
	return r
}

// use publishes a snapshot whose collector has an endpoint.
func (r *rig) use(at ...netip.AddrPort) {
	c := &snapshot.Cluster{Name: otel, Overprovision: 140, PanicThreshold: 50, ConnectTimeout: time.Second}
	one := &snapshot.Locality{Weight: 1}
	for _, e := range at {
		one.Endpoints = append(one.Endpoints, &snapshot.Endpoint{Address: e, Weight: 1, Healthy: true})
	}
	c.Localities = []*snapshot.Locality{one}
	r.keep(r.config, c)
}

func (r *rig) keep(config *tracing.Tracing, clusters ...*snapshot.Cluster) {
	s := &snapshot.Snapshot{Clusters: make(map[string]*snapshot.Cluster), Listeners: []*snapshot.Listener{{Name: "l", Tracing: config}}}
	for _, c := range clusters {
		s.Clusters[c.Name] = c
	}
	r.clusters.Update(s)
	r.Keep(s)
}

// collector starts one at an address; "" is any.
func (r *rig) collector(at string) (*oteltest.Collector, netip.AddrPort) {
	r.t.Helper()
	if at == "" {
		at = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		r.t.Fatal(err)
	}
	c := oteltest.Serve(l)
	r.t.Cleanup(c.Stop)
	return c, netip.MustParseAddrPort(l.Addr().String())
}

// call is what records have in common.
func call(reporter rpc.Reporter) *rpc.Call {
	return &rpc.Call{
		Protocol: rpc.ProtocolDubbo, Reporter: reporter, Interface: "org.x.Orders", Method: "place", Version: "1.0.0",
		Source:      &rpc.Peer{Workload: "web", Pod: "web-1", Namespace: "shop"},
		Destination: &rpc.Peer{Workload: "orders-v1", Pod: "orders-v1-1", Namespace: "shop", App: "orders", Version: "v1"},
		Service:     rpc.Service{Host: "orders.shop.svc.cluster.local"}, Cluster: "outbound|20880||orders.shop.svc.cluster.local",
		Route: "default", Endpoint: endpoint, Original: dialled,
	}
}

// ends makes the span of a request and ends it.
func (r *rig) ends(a attached, c *rpc.Call, change func(*rpc.Record)) *span {
	r.t.Helper()
	s, ok := r.Begin(r.config, a, false, 0).(*span)
	if !ok {
		r.t.Fatal("the request is not sampled")
	}
	rec := rpc.Record{
		Call: c, Result: rpc.ResultValue, Status: 20, Start: time.Unix(100, 0), Duration: 3 * time.Millisecond,
		RequestBytes: 300, ResponseBytes: 20, Downstream: consumer, Span: s,
	}
	if change != nil {
		change(&rec)
	}
	s.End(&rec)
	return s
}

// spans waits for so many, in the order of their kinds.
func (r *rig) spans(c *oteltest.Collector, n int) []oteltest.Span {
	r.t.Helper()
	r.eventually("spans", func() bool { return len(c.Spans()) >= n })
	list := c.Spans()
	if len(list) != n {
		r.t.Fatalf("%d spans, want %d: %+v", len(list), n, list)
	}
	slices.SortStableFunc(list, func(a, b oteltest.Span) int { return strings.Compare(a.Kind, b.Kind) })
	return list
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s: not in time; %s", what, r.logs.text.String())
		}
	}
}

func want(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if has, ok := got[k]; ok != (v != "") || has != v {
			t.Errorf("%s: %s is %q, want %q", what, k, has, v)
		}
	}
}

const parentOfAll = "00-" + traceID + "-" + spanID + "-01"

// TestClient: the span of a consumer's side, with all that it says.
func TestClient(t *testing.T) {
	r := newRig(t)
	c, at := r.collector("")
	r.config.Tags = []tracing.Tag{
		{Name: "env", Value: "test"}, {Name: "user", Attribute: "user", Value: "none"}, {Name: "tenant", Attribute: "tenant", Value: "none"},
		{Name: "what", Attribute: "method"}, {Name: "empty", Attribute: "nothing"}, {Name: "component", Value: "ours"},
	}
	r.use(at)
	s := r.ends(attached{"traceparent": parentOfAll, "tracestate": "a=b", "user": "ann"}, call(rpc.ReporterSource), nil)
	one := r.spans(c, 1)[0]
	if one.Trace != traceID || one.Parent != spanID || one.State != "a=b" || one.Flags != 0x301 {
		t.Errorf("it is part of %+v", one)
	}
	context := maps.Collect(s.Context())
	if context["traceparent"] != "00-"+traceID+"-"+one.ID+"-01" {
		t.Errorf("the provider was told %v, the collector %s", context, one.ID)
	}
	if one.Name != "org.x.Orders/place" || one.Kind != "CLIENT" || one.Status != "UNSET" || one.Authority != "otel.infra.svc.cluster.local" ||
		!one.Start.Equal(time.Unix(100, 0)) || one.End.Sub(one.Start) != 3*time.Millisecond || len(one.Events) != 0 {
		t.Errorf("%+v", one)
	}
	want(t, "attributes", one.Attributes, map[string]string{
		"rpc.system": "apache_dubbo", "rpc.service": "org.x.Orders", "rpc.method": "place", "dubbo.version": "1.0.0",
		"server.address": "orders.shop.svc.cluster.local", "server.port": "20880", "network.peer.address": "10.0.0.2",
		"network.peer.port": "20880", "client.address": "", "error.type": "", "dubbo.result": "value", "dubbo.status": "ok",
		"request_size": "300", "response_size": "20", "response_flags": "-", "upstream_cluster": "outbound|20880||orders.shop.svc.cluster.local",
		"env": "test", "user": "ann", "tenant": "none", "what": "place", "empty": "", "component": "ours",
	})
	want(t, "resource", one.Resource, map[string]string{
		"service.name": "web.shop", "k8s.pod.name": "web-1", "k8s.namespace.name": "shop", "k8s.node.name": "node-1",
	})
}

// TestSides: a proxy that is both sides of a call makes two spans, of which the provider
// knows the server's, whatever is said of the provider's side; and one that is one side
// makes one.
func TestSides(t *testing.T) {
	const both = rpc.ReporterSource | rpc.ReporterDestination
	other := tracing.Collector{Cluster: otel, Authority: "other"}
	for _, tt := range []struct {
		name     string
		reporter rpc.Reporter
		provider *tracing.Tracing
		known    bool
		want     string // kinds, services and the server's tag
	}{
		{"the consumer's", rpc.ReporterSource, nil, false, "CLIENT web.shop"},
		{"the provider's", rpc.ReporterDestination, nil, false, "SERVER orders.shop"},
		{"both", both, nil, false, "CLIENT web.shop, SERVER orders.shop"},
		{"both, the provider has no tracing", both, nil, true, "CLIENT web.shop"},
		{"both, the provider has its own", both, &tracing.Tracing{
			Collector: other, Service: "own", Tags: []tracing.Tag{{Name: "who", Attribute: "user"}, {Name: "side", Value: "server"}},
		}, true, "CLIENT web.shop, SERVER own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c, at := r.collector("")
			r.config.Tags = []tracing.Tag{{Name: "user", Attribute: "user"}}
			r.provider, r.known = tt.provider, tt.known
			if r.use(at); tt.provider != nil {
				s := &snapshot.Snapshot{Listeners: []*snapshot.Listener{{Name: "l", Tracing: r.config}, {Name: "in", Tracing: tt.provider}}}
				r.Keep(s)
			}
			s := r.ends(attached{"traceparent": parentOfAll, "user": "ann"}, call(tt.reporter), nil)
			told := strings.Split(maps.Collect(s.Context())["traceparent"], "-")[2]
			list := r.spans(c, strings.Count(tt.want, ",")+1)
			var got []string
			for _, one := range list {
				got = append(got, one.Kind+" "+one.Resource["service.name"])
			}
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("%s, want %s", text, tt.want)
			}
			first, last := list[0], list[len(list)-1]
			if first.Parent != spanID || last.ID != told || first.Flags != 0x301 {
				t.Errorf("the first's parent is %s, the last is %s; the provider was told %s", first.Parent, last.ID, told)
			}
			if len(list) == 2 && (last.Parent != first.ID || first.ID == told || last.Flags != 0x101) {
				t.Errorf("client %+v\nserver %+v", first, last)
			}
			if last.Kind == "SERVER" {
				want(t, "attributes", last.Attributes, map[string]string{
					"client.address": "10.0.0.1", "client.port": "40000", "network.peer.address": "10.0.0.1",
				})
			}
			if tt.provider != nil {
				want(t, "tags", last.Attributes, map[string]string{"who": "ann", "side": "server", "user": ""})
			}
		})
	}
}

// TestFailures: what a span says of how its call ended.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name           string
		rec            rpc.Record
		status, reason string // reason is error.type
		event          string
	}{
		{"value", rpc.Record{Result: rpc.ResultValue, Status: 20}, "UNSET", "", ""},
		{"one way", rpc.Record{Result: rpc.ResultNone}, "UNSET", "", ""},
		{"exception", rpc.Record{Result: rpc.ResultException, Status: 20, Exception: "org.x.SoldOut"}, "ERROR", "org.x.SoldOut", "org.x.SoldOut"},
		{"an unknown exception", rpc.Record{Result: rpc.ResultException, Status: 20}, "ERROR", "exception", ""},
		{"status", rpc.Record{Result: rpc.ResultError, Status: 80}, "ERROR", "server_error", ""},
		{"timeout", rpc.Record{Result: rpc.ResultLocal, Why: rpc.WhyTimeout, Status: 31}, "ERROR", "UT", ""},
		{"denied", rpc.Record{Result: rpc.ResultLocal, Why: rpc.WhyDenied, Status: 40}, "ERROR", "UAEX", ""},
		{"an answer of the route", rpc.Record{Result: rpc.ResultLocal, Why: rpc.WhyDirect, Status: 40}, "ERROR", "bad_request", ""},
		{"gone", rpc.Record{Result: rpc.ResultGone, Why: rpc.WhyDownstreamGone}, "ERROR", "DC", ""},
		{"no retry left", rpc.Record{Result: rpc.ResultValue, Why: rpc.WhyRetryLimit, Status: 20}, "ERROR", "URX", ""},
	} {
		tt.rec.Call = call(rpc.ReporterSource)
		one := ended{span: &span{config: &tracing.Tracing{}}, config: &tracing.Tracing{}, record: tt.rec}
		got := one.proto()
		text := got.GetStatus().GetCode().String()
		if text != "STATUS_CODE_"+tt.status || (tt.status == "ERROR") != (got.GetStatus().GetMessage() != "") {
			t.Errorf("%s: status %v", tt.name, got.GetStatus())
		}
		var reason, event string
		for _, a := range got.GetAttributes() {
			if a.GetKey() == "error.type" {
				reason = a.GetValue().GetStringValue()
			}
		}
		for _, e := range got.GetEvents() {
			event = e.GetAttributes()[0].GetValue().GetStringValue()
		}
		if reason != tt.reason || event != tt.event {
			t.Errorf("%s: error.type %q, event %q", tt.name, reason, event)
		}
	}
}

// TestRetries are events of the client's span, and counted.
func TestRetries(t *testing.T) {
	r := newRig(t)
	c, at := r.collector("")
	r.use(at)
	s, ok := r.Begin(r.config, attached{}, false, 0).(*span)
	if !ok {
		t.Fatal("not sampled")
	}
	s.Again(call(rpc.ReporterSource), rpc.WhyNone)
	s.Again(nil, rpc.WhyConnectFailed)
	s.End(&rpc.Record{Call: call(rpc.ReporterSource | rpc.ReporterDestination), Result: rpc.ResultValue, Start: time.Now()})
	list := r.spans(c, 2)
	if client := list[0]; client.Parent != "" || client.Attributes["dubway.attempts"] != "3" || len(client.Events) != 2 ||
		client.Events[0].Attributes["network.peer.address"] != "10.0.0.2" || client.Events[1].Attributes["dubway.reason"] != rpc.WhyConnectFailed.String() {
		t.Errorf("%+v", client)
	}
	if server := list[1]; len(server.Events) != 0 || server.Attributes["dubway.attempts"] != "" {
		t.Errorf("%+v", server)
	}
}

// TestAway: while a collector is away nobody waits, the status says why, and what does
// not fit is dropped and counted; it gets the rest when it is back.
func TestAway(t *testing.T) {
	r := newRig(t)
	c, at := r.collector("")
	c.Stop()
	r.use(at)
	const more = 200
	for range maxWaiting + maxBatch + more {
		r.ends(attached{}, call(rpc.ReporterSource), nil)
	}
	r.eventually("a reason", func() bool { return len(r.Collectors()) == 1 && strings.Contains(r.Collectors()[0].Failing, "refused") })
	if n := r.Stats().Dropped[DropFull].Load(); n < more-1 || n > more+maxBatch {
		t.Errorf("%d are dropped, want %d at least", n, more)
	}
	if list := r.Problems(); len(list) != 1 || !strings.Contains(list[0], otel) || !strings.Contains(list[0], "connection refused") {
		t.Errorf("problems %q", list)
	}
	again, _ := r.collector(at.String())
	r.eventually("the rest", func() bool { return len(r.Problems()) == 0 && r.Collectors()[0].Waiting == 0 })
	dropped := r.Stats().Dropped[DropFull].Load()
	total := uint64(maxWaiting + maxBatch + more)
	r.eventually("all are told of", func() bool {
		return uint64(len(again.Spans()))+dropped == total && r.Stats().Exported.Load()+dropped == total
	})
	if n := r.logs.count("spans are not taken"); n != 1 {
		t.Errorf("%d lines of the log", n)
	}
	if r.logs.count("spans are taken again") != 1 {
		t.Error("the log does not say that it is back")
	}
}

// TestAnswers: what a collector refuses is dropped, what it cannot take now it is told
// again.
func TestAnswers(t *testing.T) {
	r := newRig(t)
	c, at := r.collector("")
	r.use(at)
	var calls int
	c.Answer(func(int) (*collectorpb.ExportTraceServiceResponse, error) {
		if calls++; calls < 3 {
			return nil, status.Error(codes.Unavailable, "busy")
		}
		return nil, nil
	})
	r.ends(attached{}, call(rpc.ReporterSource), nil)
	r.spans(c, 1)
	r.eventually("it is counted", func() bool { return r.Stats().Exported.Load() == 1 })
	if c.Exports() != 3 {
		t.Errorf("told %d times", c.Exports())
	}
	c.Answer(func(int) (*collectorpb.ExportTraceServiceResponse, error) {
		return nil, status.Error(codes.InvalidArgument, "what is this")
	})
	r.ends(attached{}, call(rpc.ReporterSource), nil)
	r.eventually("it is refused", func() bool { return r.Stats().Dropped[DropRefused].Load() == 1 })
	r.eventually("a reason", func() bool { return strings.Contains(strings.Join(r.Problems(), " "), "what is this") })
	c.Answer(func(n int) (*collectorpb.ExportTraceServiceResponse, error) {
		return &collectorpb.ExportTraceServiceResponse{PartialSuccess: &collectorpb.ExportTracePartialSuccess{RejectedSpans: int64(n)}}, nil
	})
	r.ends(attached{}, call(rpc.ReporterSource), nil)
	r.eventually("a part is refused", func() bool { return r.Stats().Dropped[DropRefused].Load() == 2 })
	if n := r.Stats().Exported.Load(); n != 1 {
		t.Errorf("%d are exported", n)
	}
}

// TestClose: what waits is told at the end, and a collector that does not answer does not
// hold it for long.
func TestClose(t *testing.T) {
	r := newRig(t)
	r.opts.Every = time.Hour
	c, at := r.collector("")
	r.use(at)
	for range 3 {
		r.ends(attached{}, call(rpc.ReporterSource), nil)
	}
	r.Close()
	if n := len(c.Spans()); n != 3 {
		t.Errorf("%d spans at the end", n)
	}
	r.ends(attached{}, call(rpc.ReporterSource), nil)
	if n := r.Stats().Dropped[DropUnnamed].Load(); n != 1 {
		t.Errorf("%d dropped behind the end", n)
	}

	r = newRig(t)
	c, at = r.collector("")
	held := make(chan struct{})
	t.Cleanup(func() { close(held) })
	c.Answer(func(int) (*collectorpb.ExportTraceServiceResponse, error) {
		<-held
		return nil, nil
	})
	r.use(at)
	r.ends(attached{}, call(rpc.ReporterSource), nil)
	r.eventually("it is told", func() bool { return c.Exports() == 1 })
	start := time.Now()
	r.Close()
	if took := time.Since(start); took > exportLimit {
		t.Errorf("the end took %s", took)
	}
	if n := r.Stats().Dropped[DropFailed].Load(); n != 1 {
		t.Errorf("%d dropped at the end", n)
	}
}

// TestKeep: a collector that no listener names is told what waits and let go; what
// listeners ask for and do not get is a problem, and the log says it once.
func TestKeep(t *testing.T) {
	r := newRig(t)
	r.use()
	r.eventually("the cluster has no endpoint", func() bool {
		r.ends(attached{}, call(rpc.ReporterSource), nil)
		return strings.Contains(strings.Join(r.Problems(), " "), "no endpoint")
	})
	zipkin := &tracing.Tracing{Problems: []string{"tracing.provider.typed_config: zipkin: not implemented"}}
	for range 2 {
		r.keep(zipkin)
		if list := r.Problems(); len(list) != 1 || list[0] != "listener l: "+zipkin.Problems[0] {
			t.Errorf("problems %q", list)
		}
	}
	if n := r.logs.count("tracing is not as it is asked for"); n != 1 {
		t.Errorf("%d lines of the log", n)
	}
	if len(r.Collectors()) != 0 {
		t.Errorf("collectors %+v", r.Collectors())
	}
	if r.Begin(zipkin, attached{}, false, 0) != nil {
		t.Error("a span for nobody")
	}
	r.eventually("what waited is dropped", func() bool { return r.Stats().Dropped[DropFailed].Load() > 0 })
}
