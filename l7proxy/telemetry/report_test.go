package telemetry_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
)

// changed are rules that drop a metric, and give requests_total other labels.
func changed() *report.Rules {
	return &report.Rules{Labels: []string{"tier"}, Metrics: &report.Metrics{
		Dropped: report.Set(0).With(report.RequestBytes),
		Changes: []report.Change{{
			Of: report.Set(0).With(report.Requests),
			Tags: []report.Tag{
				{Name: "mesh", Text: "a \"blue\"\none"}, {Name: "path", Kind: report.ValuePath}, {Name: "tier", Kind: report.ValueLabel},
			},
			Removed: []string{"dubbo_status", "source_app", "source_workload"},
		}},
	}}
}

// TestMetricsAreChanged: for the side that says so and no other, and each record is counted
// once in each metric that is left.
func TestMetricsAreChanged(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	c.Reporter = both
	c.Told = &report.Told{Source: report.Side{Rules: changed(), Values: []string{"vip"}}}
	r.Prepare(c).Observe(record(c))
	other := call()
	other.Source.Workload, other.Reporter = "another", rpc.ReporterSource
	other.Told = &report.Told{Source: report.Side{Rules: changed(), Values: []string{"vip"}}}
	r.Prepare(other).Observe(record(other))

	const source, destination = `reporter="source"`, `reporter="destination"`
	for _, test := range []struct {
		name   string
		labels []string
		want   string
	}{
		{"istio_requests_total", []string{source, `mesh="a \"blue\"\none"`, `path="/org.example.Greeter/greet"`, `tier="vip"`}, "2"},
		{"istio_requests_total", []string{source, `source_app=`}, ""},
		{"istio_requests_total", []string{source, `source_workload=`}, ""},
		{"istio_requests_total", []string{source, `dubbo_status=`}, ""},
		{"istio_requests_total", []string{destination, `source_workload="consumer"`, `dubbo_status="ok"`}, "1"},
		{"istio_requests_total", []string{destination, `tier=`}, ""},
		{"istio_request_duration_milliseconds_count", []string{source, `source_workload="consumer"`}, "1"},
		{"istio_request_duration_milliseconds_count", []string{source, `source_workload="another"`}, "1"},
		{"istio_request_duration_milliseconds_count", []string{source, `tier=`}, ""},
		{"istio_request_bytes_count", []string{source}, ""},
		{"istio_request_bytes_count", []string{destination}, "1"},
		{"istio_response_bytes_count", []string{source, `source_workload="consumer"`}, "1"},
		{"dubway_serialization_requests_total", []string{source, `source_workload="consumer"`}, "1"},
	} {
		if got := r.value(test.name, test.labels...); got != test.want {
			t.Errorf("%s%v is %q, want %q", test.name, test.labels, got, test.want)
		}
	}
}

// TestChangeOfMind: a series that rules leave alone goes on from what it was when they come
// and go, and none is there twice.
func TestChangeOfMind(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	for _, rules := range []*report.Rules{nil, changed(), nil, changed()} {
		c := call()
		c.Told = report.Tell(rules, nil)
		r.Prepare(c).Observe(record(c))
	}
	if got := r.value("istio_request_duration_milliseconds_count"); got != "4" {
		t.Errorf("duration has %q, want 4", got)
	}
	if got := r.value("istio_request_bytes_count"); got != "2" {
		t.Errorf("request bytes have %q, want the 2 of when they were not dropped", got)
	}
	if got := r.value("istio_requests_total", "source_app="); got != "2" {
		t.Errorf("the natural total is %q, want 2", got)
	}
	if got := r.value("istio_requests_total", `tier="unknown"`); got != "2" {
		t.Errorf("the changed total is %q, want 2", got)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(r.scrape()) {
		if name, _, _ := strings.Cut(line, "} "); name != line && seen[name] {
			t.Errorf("twice: %s", name)
		} else {
			seen[name] = true
		}
	}
}

// TestConnectionsAreChanged: opaque connections have rules too, and no values of requests.
func TestConnectionsAreChanged(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	c.Told = report.Tell(&report.Rules{Labels: []string{"tier"}, Metrics: &report.Metrics{
		Dropped: report.Set(0).With(report.Opened),
		Changes: []report.Change{{
			Of:      report.Set(0).With(report.Sent),
			Tags:    []report.Tag{{Name: "path", Kind: report.ValuePath}, {Name: "tier", Kind: report.ValueLabel}},
			Removed: []string{"source_app"},
		}},
	}}, nil)
	conn := &rpc.Connection{Call: c, Sent: 7, Received: 9}
	r.Connection(conn)
	conn.Closed = true
	r.Connection(conn)
	for name, want := range map[string]string{
		"istio_tcp_connections_opened_total": "", "istio_tcp_connections_closed_total": "1",
		"istio_tcp_received_bytes_total": "9", "istio_tcp_sent_bytes_total": "7",
	} {
		if got := r.value(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := r.value("istio_tcp_sent_bytes_total", `tier="unknown"`); got != "7" {
		t.Errorf("no tag: %s", r.scrape())
	}
	if got := r.value("istio_tcp_sent_bytes_total", "source_app="); got != "" {
		t.Error("source_app is there")
	}
}

// TestValuesAreBounded: one consumer that invents values gets few labels, takes none from
// another, and what is no text or too long is none.
func TestValuesAreBounded(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	from, neighbour := &rpc.Peer{Workload: "hostile", Namespace: "a"}, &rpc.Peer{Workload: "nice", Namespace: "a"}
	seen := make(map[string]bool)
	for i := range 10_000 {
		seen[r.Value(from, "tier", strconv.Itoa(i))] = true
	}
	if len(seen) != 51 || !seen["other"] {
		t.Errorf("%d values, want 50 and other", len(seen))
	}
	for value, want := range map[string]string{
		"vip": "vip", "": "unknown", strings.Repeat("x", 257): "other", "\xff": "other",
	} {
		if got := r.Value(neighbour, "tier", value); got != want {
			t.Errorf("%.20q is %q, want %q", value, got, want)
		}
	}
	if got := r.value("dubway_label_budget_exceeded_total", `label="tag"`); got != "9952" {
		t.Errorf("%s values beyond the budget are counted, want 9952", got)
	}
	if allocs := testing.AllocsPerRun(100, func() { r.Value(neighbour, "tier", "vip") }); allocs != 0 {
		t.Errorf("a known value allocates %v times", allocs)
	}
}

// TestTagsTogetherAreBounded: a few values of several attributes make many series.
func TestTagsTogetherAreBounded(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	rules := &report.Rules{Labels: []string{"a", "b"}, Metrics: &report.Metrics{Changes: []report.Change{{
		Of:   report.Set(0).With(report.Requests),
		Tags: []report.Tag{{Name: "a", Kind: report.ValueLabel}, {Name: "b", Kind: report.ValueLabel, At: 1}},
	}}}}
	for i := range 40 {
		for j := range 40 {
			c := call()
			values := []string{r.Value(c.Source, "a", strconv.Itoa(i)), r.Value(c.Source, "b", strconv.Itoa(j))}
			c.Told = &report.Told{Source: report.Side{Rules: rules, Values: values}}
			r.Prepare(c).Observe(record(c))
		}
	}
	series := 0
	for line := range strings.Lines(r.scrape()) {
		if strings.HasPrefix(line, "istio_requests_total{") && strings.Contains(line, `,a="`) {
			series++
		}
	}
	// The interface is known from the first answer on: the first series has none.
	if series < 200 || series > 202 {
		t.Errorf("%d series, want 200 and others", series)
	}
	if got := r.value("istio_requests_total", `,a="other",b="other"`); got != "1400" {
		t.Errorf("%s requests are others, want 1400", got)
	}
}

// TestChangedObserveDoesNotAllocate holds what rules cost.
func TestChangedObserveDoesNotAllocate(t *testing.T) {
	rules := changed()
	rules.Log = &report.Log{Any: []report.Expression{{Kind: report.Code, Min: 400, Max: 599}}}
	r := newRig(t, telemetry.Options{AccessLog: io.Discard, Sample: 1})
	c := call()
	c.Reporter, c.Told = both, report.Tell(rules, rules)
	observer, rec := r.Prepare(c), record(c)
	if allocs := testing.AllocsPerRun(1000, func() { observer.Observe(rec) }); allocs != 0 {
		t.Errorf("Observe allocates %v times", allocs)
	}
}

// TestLinesAreWanted: the configuration decides about the lines of which it says something,
// until somebody says otherwise at the node.
func TestLinesAreWanted(t *testing.T) {
	var out bytes.Buffer
	r, err := telemetry.New(telemetry.Options{AccessLog: &out, Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	failures := &report.Rules{
		Log: &report.Log{Any: []report.Expression{{Kind: report.Code, Min: 400, Max: 599}}},
	}
	say := func(method string, rules *report.Rules, change func(*rpc.Record)) {
		c := call()
		c.Method, c.Told = method, report.Tell(rules, nil)
		rec := record(c)
		if change != nil {
			change(rec)
		}
		r.Prepare(c).Observe(rec)
	}
	refused := func(rec *rpc.Record) { rec.Result, rec.Status, rec.Why = rpc.ResultLocal, 70, rpc.WhyDenied }
	say("unsaid", nil, nil)
	say("fine", failures, nil)
	say("refused", failures, refused)
	say("failed", failures, func(rec *rpc.Record) { rec.Result, rec.Status = rpc.ResultError, 80 })
	say("silent", &report.Rules{Log: &report.Log{}}, refused)
	conn := &rpc.Connection{Call: call(), Closed: true, Duration: time.Second}
	conn.Call.Listener, conn.Call.Told = "opaque", report.Tell(failures, nil)
	r.Connection(conn) // which has no code
	if err := r.SetSample(1); err != nil {
		t.Fatal(err)
	}
	say("forced", failures, nil)
	if err := r.SetSample(0); err != nil {
		t.Fatal(err)
	}
	say("off", failures, refused)
	if err := r.Follow(); err != nil {
		t.Fatal(err)
	}
	say("again", failures, refused)
	say("unsaid again", nil, nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, `"dubbo_method":"`)
		method, _, _ := strings.Cut(rest, `"`)
		got = append(got, method)
	}
	if want := "unsaid,refused,failed,forced,again,unsaid again"; strings.Join(got, ",") != want {
		t.Errorf("lines of %s, want %s", strings.Join(got, ","), want)
	}
}

// TestRemovedLabelsMerge: calls that differ only by labels which rules remove share one
// series: two would be the same to whoever reads them.
func TestRemovedLabelsMerge(t *testing.T) {
	for name, differ := range map[string]func(c *rpc.Call){
		"connection_security_policy": func(c *rpc.Call) { c.Security = rpc.SecurityMutual },
		"source_principal":           func(c *rpc.Call) { c.SourcePrincipal = "spiffe://mesh/ns/shop/sa/other" },
		"destination_principal":      func(c *rpc.Call) { c.DestinationPrincipal = "spiffe://mesh/ns/shop/sa/other" },
		"source_workload": func(c *rpc.Call) {
			other := *c.Source
			other.Workload = "other"
			c.Source = &other
		},
		"destination_service": func(c *rpc.Call) { c.Service.Host = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, telemetry.Options{})
			rules := &report.Rules{Metrics: &report.Metrics{Changes: []report.Change{{
				Of:      report.Set(0).With(report.Requests),
				Removed: []string{name, "source_canonical_service"}, // which follows the workload
			}}}}
			for _, change := range []func(*rpc.Call){func(*rpc.Call) {}, differ} {
				c := call()
				change(c)
				c.Told = report.Tell(rules, nil)
				r.Prepare(c).Observe(record(c))
			}
			if got := r.value("istio_requests_total"); got != "2" {
				t.Errorf("the series has %q, want one with 2", got)
			}
		})
	}
}
