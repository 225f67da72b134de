package telemetry_test

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const both = rpc.ReporterSource | rpc.ReporterDestination

// rig is a Recorder and what it exposes.
type rig struct {
	*telemetry.Recorder

	t *testing.T
}

func newRig(t *testing.T, opts telemetry.Options) *rig {
	t.Helper()
	recorder, err := telemetry.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return &rig{Recorder: recorder, t: t}
}

// scrape returns the exposition text, as Prometheus would get it.
func (r *rig) scrape() string {
	r.t.Helper()
	return scrape(r.t, r.Handler(prometheus.NewRegistry(), noAgent{}, slog.New(slog.DiscardHandler)))
}

// value returns the value of the one series of a name that has all the labels.
func (r *rig) value(name string, labels ...string) string {
	r.t.Helper()
	return value(r.t, r.scrape(), name, labels...)
}

func value(t *testing.T, text, name string, labels ...string) string {
	t.Helper()
	var found []string
next:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		found = append(found, strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]))
	}
	switch len(found) {
	case 0:
		return ""
	case 1:
		return found[0]
	}
	t.Fatalf("%s%v is in %d series, want one", name, labels, len(found))
	return ""
}

func call() *rpc.Call {
	return &rpc.Call{
		Protocol: rpc.ProtocolDubbo, Reporter: rpc.ReporterSource,
		Source: &rpc.Peer{
			Workload: "consumer", Pod: "consumer-0", Namespace: "shop", ServiceAccount: "buyer",
			App: "consumer", Version: "v1", Address: netip.MustParseAddr("10.0.1.1"),
		},
		Destination: &rpc.Peer{Workload: "provider-v2", Pod: "provider-v2-0", Namespace: "shop", App: "provider", Version: "v2"},
		Service:     rpc.Service{Host: "provider.shop.svc.cluster.local", Name: "provider", Namespace: "shop"},
		Interface:   "org.example.Greeter", Method: "greet", Version: "1.0.0",
		Listener: "outbound-20880", Route: "default", Cluster: "outbound|20880|v2|provider.shop.svc.cluster.local",
		Endpoint: netip.MustParseAddrPort("10.0.2.2:20880"), Original: netip.MustParseAddrPort("10.96.0.7:20880"),
	}
}

func record(c *rpc.Call) *rpc.Record {
	return &rpc.Record{
		Call: c, Result: rpc.ResultValue, Status: 20, Serialization: 2, ID: 42,
		Start:    time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.UTC),
		Duration: 1500 * time.Microsecond, Overhead: 12 * time.Microsecond,
		RequestBytes: 300, ResponseBytes: 80, Downstream: netip.MustParseAddrPort("10.0.1.1:40000"),
	}
}

// TestExposition compares all metrics of a small story with a golden file.
func TestExposition(t *testing.T) {
	r := newRig(t, telemetry.Options{Cluster: "Kubernetes"})
	c := call()
	r.Prepare(c).Observe(record(c))

	short := call()
	short.Reporter, short.SameNode = both, true
	observer := r.Prepare(short)
	observer.Observe(record(short))
	exception := record(short)
	exception.Result, exception.Duration = rpc.ResultException, 200*time.Microsecond
	exception.Exception, exception.Serialization = "org.example.Sold", 23
	observer.Observe(exception)

	lost := call()
	lost.Destination, lost.Interface, lost.Method = nil, "org.example.Nobody", "lost"
	local := record(lost)
	local.Result, local.Why, local.Status, local.Overhead = rpc.ResultLocal, rpc.WhyNoRoute, 70, 9*time.Millisecond
	r.Prepare(lost).Observe(local)

	tcp := call()
	tcp.Protocol, tcp.Interface, tcp.Method, tcp.Version = rpc.ProtocolTLS, "", "", ""
	r.Connection(&rpc.Connection{Call: tcp})
	r.Connection(&rpc.Connection{Call: tcp, Closed: true, Sent: 1000, Received: 10, Why: rpc.WhyUpstreamClosed})

	got := r.scrape()
	golden := filepath.Join("testdata", "exposition.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("exposition differs from %s (run with -update and read the diff):\n%s", golden, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}

// TestLabels holds the fall-backs of Istio's labels.
func TestLabels(t *testing.T) {
	tests := []struct {
		name string
		edit func(*rpc.Call)
		want []string
	}{
		{"a source", func(*rpc.Call) {}, []string{
			`source_workload="consumer"`, `source_workload_namespace="shop"`, `source_app="consumer"`, `source_version="v1"`,
			`source_canonical_service="consumer"`, `source_canonical_revision="v1"`, `source_cluster="east"`,
			`source_principal="unknown"`,
		}},
		{"a destination", func(*rpc.Call) {}, []string{
			`destination_workload="provider-v2"`, `destination_workload_namespace="shop"`, `destination_app="provider"`,
			`destination_version="v2"`, `destination_canonical_service="provider"`, `destination_canonical_revision="v2"`,
			`destination_cluster="east"`, `destination_principal="unknown"`,
		}},
		{"a service", func(*rpc.Call) {}, []string{
			`destination_service="provider.shop.svc.cluster.local"`, `destination_service_name="provider"`,
			`destination_service_namespace="shop"`,
		}},
		{"the call", func(*rpc.Call) {}, []string{
			`reporter="source"`, `request_protocol="dubbo"`, `response_code="20"`, `response_flags="-"`,
			`connection_security_policy="none"`, `dubbo_interface="org.example.Greeter"`, `dubbo_method="greet"`, `dubbo_result="value"`,
		}},
		{"no app and no version", func(c *rpc.Call) { c.Source = &rpc.Peer{Workload: "bare"} }, []string{
			`source_workload="bare"`, `source_workload_namespace="unknown"`, `source_app="unknown"`, `source_version="unknown"`,
			`source_canonical_service="bare"`, `source_canonical_revision="latest"`,
		}},
		{"no source", func(c *rpc.Call) { c.Source = nil }, []string{
			`source_workload="unknown"`, `source_canonical_service="unknown"`, `source_canonical_revision="unknown"`, `source_cluster="unknown"`,
		}},
		{"no endpoint and no service", func(c *rpc.Call) { c.Destination, c.Service = nil, rpc.Service{} }, []string{
			`destination_workload="unknown"`, `destination_service="unknown"`, `destination_service_name="unknown"`,
		}},
		{"the provider's side", func(c *rpc.Call) { c.Reporter = rpc.ReporterDestination }, []string{`reporter="destination"`}},
		{"undecodable", func(c *rpc.Call) { c.Interface, c.Method = "", "" }, []string{`dubbo_interface="unknown"`, `dubbo_method="unknown"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, telemetry.Options{Cluster: "east"})
			c := call()
			test.edit(c)
			r.Prepare(c).Observe(record(c))
			for _, want := range test.want {
				if got := r.value("istio_requests_total", want); got != "1" {
					t.Errorf("requests with %s = %q, want 1", want, got)
				}
			}
		})
	}
}

// TestOutcomes iterates every result, reason and status: each is told apart as
// far as the labels can.
func TestOutcomes(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	observer := r.Prepare(c)
	results, flags := map[string]int{}, map[string]int{}
	for result := range rpc.Results {
		for why := range rpc.Whys {
			rec := record(c)
			rec.Result, rec.Why = rpc.Result(result), rpc.Why(why)
			observer.Observe(rec)
			results[rec.Result.String()]++
			flags[rec.Why.Flag()]++
		}
	}
	for status := range 256 {
		rec := record(c)
		rec.Status, rec.Result = uint8(status), rpc.ResultError
		observer.Observe(rec)
	}
	results["error"] += 256
	flags["-"] += 256

	if len(results) != rpc.Results || results["unknown"] != 0 {
		t.Errorf("results are labelled %v: each of the %d needs a label of its own", results, rpc.Results)
	}
	text := r.scrape()
	for result, want := range results {
		if got := sum(t, text, `dubbo_result="`+result+`"`); got != want {
			t.Errorf("requests with result %s = %d, want %d", result, got, want)
		}
	}
	for flag, want := range flags {
		if got := sum(t, text, `response_flags="`+flag+`"`); got != want {
			t.Errorf("requests with flag %s = %d, want %d", flag, got, want)
		}
	}
	// 12 statuses and 0 have a label; the others share one.
	if got := sum(t, text, `response_code="other"`); got != 243 {
		t.Errorf("requests with another response code = %d, want 243", got)
	}
	if got := r.value("dubway_label_budget_exceeded_total", `"response_code"`); got != "243" {
		t.Errorf("exceeded response_code = %q, want 243", got)
	}
	// Overhead is what the mesh added to calls that reached a provider.
	want := 256 + 4*rpc.Whys
	if got := r.value("dubway_overhead_seconds_count"); got != fmt.Sprint(want) {
		t.Errorf("overheads = %s, want %d", got, want)
	}
}

// sum adds up istio_requests_total over the series that have a label.
func sum(t *testing.T, text, label string) (total int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "istio_requests_total{") && strings.Contains(line, label) {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	return total
}

// TestBudget holds what consumers invent apart from what providers answer.
func TestBudget(t *testing.T) {
	r := newRig(t, telemetry.Options{Interfaces: 2, Methods: 2})
	observe := func(iface, method string, result rpc.Result) {
		c := call()
		c.Interface, c.Method = iface, method
		rec := record(c)
		rec.Result = result
		r.Prepare(c).Observe(rec)
	}
	check := func(iface, method, want string) {
		t.Helper()
		got := r.value("istio_requests_total", `dubbo_interface="`+iface+`"`, `dubbo_method="`+method+`"`, `dubbo_result="value"`)
		if got != want {
			t.Errorf("answered requests of %s.%s = %q, want %q", iface, method, got, want)
		}
	}
	for i := range 1000 { // invented: no provider answered
		observe(fmt.Sprintf("invented%d", i), "m", rpc.ResultError)
		observe(fmt.Sprintf("invented%d", i), "m", rpc.ResultLocal)
		observe(fmt.Sprintf("invented%d", i), "m", rpc.ResultNone)
	}
	observe("A", "one", rpc.ResultValue)
	observe("A", "two", rpc.ResultException)
	observe("A", "two", rpc.ResultValue)
	observe("A", "three", rpc.ResultValue)
	observe("B", "one", rpc.ResultValue)
	observe("C", "one", rpc.ResultValue)
	observe("C", "one", rpc.ResultValue)
	observe("D", "one", rpc.ResultValue)
	check("A", "one", "1")
	check("A", "two", "1")
	check("A", "other", "1")
	check("B", "one", "1")
	check("other", "other", "3")
	check("C", "one", "")
	if got := sum(t, r.scrape(), `dubbo_interface="other"`); got != 3003 {
		t.Errorf("requests of other interfaces = %d, want 3003", got)
	}
	for label, want := range map[string]string{`"dubbo_interface"`: "3", `"dubbo_method"`: "1"} {
		if got := r.value("dubway_label_budget_exceeded_total", label); got != want {
			t.Errorf("exceeded %s = %s, want %s", label, got, want)
		}
	}

	// A call that was prepared before its names were known follows them.
	r = newRig(t, telemetry.Options{})
	first, second := call(), call()
	early, late := r.Prepare(first), r.Prepare(second)
	failed := record(second)
	failed.Result, failed.Status = rpc.ResultError, 31
	late.Observe(failed)
	early.Observe(record(first))
	late.Observe(failed)
	late.Observe(record(second))
	if got := r.value("istio_requests_total", `"other"`); got != "1" {
		t.Errorf("requests before the first answer = %q, want 1", got)
	}
	if got := r.value("istio_requests_total", `"greet"`, `"value"`); got != "2" {
		t.Errorf("answered requests = %q, want 2", got)
	}
	if got := r.value("istio_requests_total", `"greet"`, `"error"`); got != "1" {
		t.Errorf("failed requests after the first answer = %q, want 1", got)
	}
}

// TestWireNames: names are bytes from the wire.
func TestWireNames(t *testing.T) {
	tests := []struct{ name, iface, want string }{
		{"a line end", "a\nb", `dubbo_interface="a\nb"`},
		{"a quote", `a"} 1` + "\n", `dubbo_interface="a\"} 1\n"`},
		{"a backslash", `a\`, `dubbo_interface="a\\"`},
		{"not UTF-8", "a\xff\xfe", `dubbo_interface="other"`},
		{"a NUL", "a\x00b", "dubbo_interface=\"a\x00b\""},
		{"other letters", "接口", `dubbo_interface="接口"`},
		{"very long", strings.Repeat("x", 1<<20), `dubbo_interface="other"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, telemetry.Options{})
			c := call()
			c.Interface = test.iface
			r.Prepare(c).Observe(record(c))
			if got := r.value("istio_requests_total", test.want); got != "1" {
				t.Errorf("requests with %.40s = %q, want 1:\n%.2000s", test.want, got, r.scrape())
			}
		})
	}

	// Two peers whose names differ in what cannot be shown must not become two
	// series that look alike: Prometheus would refuse the whole scrape.
	r := newRig(t, telemetry.Options{})
	for _, workload := range []string{"w\xff", "w\xfe", "", "unknown"} {
		c := call()
		c.Source = &rpc.Peer{Workload: workload}
		r.Prepare(c).Observe(record(c))
	}
	if got := r.value("istio_requests_total", `source_workload="w`+"\uFFFD"+`"`); got != "2" {
		t.Errorf("requests of workloads that are not UTF-8 = %q, want 2", got)
	}
}

// TestSharing: calls with equal labels share series, whatever else differs.
func TestSharing(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	for i := range 100 {
		c := call()
		c.Endpoint = netip.AddrPortFrom(c.Endpoint.Addr(), uint16(i))
		c.Destination = &rpc.Peer{Workload: "provider-v2", Namespace: "shop", Pod: fmt.Sprint(i)}
		if i%2 == 0 {
			c.Reporter = both
		}
		if i%10 == 0 {
			c.Reporter = rpc.ReporterDestination
		}
		if got := r.Prepare(c); c.Observer != got {
			t.Fatal("Prepare did not set the call's Observer")
		}
		c.Observer.Observe(record(c))
	}
	if got := r.value("istio_requests_total", `reporter="source"`); got != "90" {
		t.Errorf("requests of the source = %s, want 90", got)
	}
	if got := r.value("istio_requests_total", `reporter="destination"`); got != "50" {
		t.Errorf("requests of the destination = %s, want 50", got)
	}
	if got := r.value("dubway_overhead_seconds_count", `reporter="both"`); got != "40" {
		t.Errorf("overheads of both = %s, want 40", got)
	}
}

func TestConcurrency(t *testing.T) {
	const workers, records = 8, 2000
	var log countingWriter
	r := newRig(t, telemetry.Options{AccessLog: &log, Sample: 0.5})
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range records {
				c := call()
				c.Method = fmt.Sprintf("m%d", i%60)
				rec := record(c)
				rec.Result = rpc.Result((w + i) % rpc.Results)
				r.Prepare(c).Observe(rec)
				if i%100 == 0 {
					r.Connection(&rpc.Connection{Call: c})
					r.Connection(&rpc.Connection{Call: c, Closed: true})
				}
				if i%1000 == 0 {
					if err := r.SetSample(float64(w) / workers); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 5 {
		r.scrape()
	}
	wg.Wait()
	if got := sum(t, r.scrape(), "{"); got != workers*records {
		t.Errorf("requests = %d, want %d", got, workers*records)
	}
	if got := r.value("istio_tcp_connections_closed_total"); got != fmt.Sprint(workers*records/100) {
		t.Errorf("closed connections = %s, want %d", got, workers*records/100)
	}
}

type countingWriter struct{ bytes int }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return len(b), nil
}

// TestObserveAllocates nothing while the log is off, or the record not sampled.
func TestObserveAllocates(t *testing.T) {
	tests := []struct {
		name string
		opts telemetry.Options
	}{
		{"no log", telemetry.Options{}},
		{"log off", telemetry.Options{AccessLog: io.Discard}},
		{"not sampled", telemetry.Options{AccessLog: io.Discard, Sample: 1e-9}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.opts)
			c := call()
			c.Reporter = both
			observer, rec := r.Prepare(c), record(c)
			allocs := testing.AllocsPerRun(1000, func() { observer.Observe(rec) })
			if allocs != 0 {
				t.Errorf("Observe allocates %v times", allocs)
			}

			failed := record(c)
			failed.Result, failed.Exception = rpc.ResultException, "org.example.Sold"
			if allocs := testing.AllocsPerRun(1000, func() { observer.Observe(failed) }); allocs != 0 {
				t.Errorf("Observe of an exception allocates %v times", allocs)
			}

			invented := call()
			invented.Interface = "invented"
			observer, rec = r.Prepare(invented), record(invented)
			rec.Result = rpc.ResultError
			if allocs := testing.AllocsPerRun(1000, func() { observer.Observe(rec) }); allocs != 0 {
				t.Errorf("Observe of an unknown interface allocates %v times", allocs)
			}
		})
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, test := range []struct {
		name     string
		opts     telemetry.Options
		reporter rpc.Reporter
	}{
		{"source", telemetry.Options{}, rpc.ReporterSource},
		{"both", telemetry.Options{}, both},
		{"both+log", telemetry.Options{AccessLog: io.Discard, Sample: 1}, both},
	} {
		r, err := telemetry.New(test.opts)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(test.name, func(b *testing.B) {
			c := call()
			c.Reporter = test.reporter
			observer, rec := r.Prepare(c), record(c)
			b.ReportAllocs()
			for b.Loop() {
				observer.Observe(rec)
			}
		})
		b.Run(test.name+"/parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				c := call()
				c.Reporter = test.reporter
				observer, rec := r.Prepare(c), record(c)
				for pb.Next() {
					observer.Observe(rec)
				}
			})
		})
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrepare(b *testing.B) {
	r, err := telemetry.New(telemetry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	c := call()
	b.ReportAllocs()
	for b.Loop() {
		r.Prepare(c)
	}
}

// BenchmarkScrape exposes 2,000 methods of 8 consumers.
func BenchmarkScrape(b *testing.B) {
	r, err := telemetry.New(telemetry.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 2000 {
		c := call()
		c.Interface, c.Method = fmt.Sprint("i", i/50), fmt.Sprint("m", i%50)
		c.Source = &rpc.Peer{Workload: fmt.Sprint("consumer", i%8)}
		r.Prepare(c).Observe(record(c))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.WriteText(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
