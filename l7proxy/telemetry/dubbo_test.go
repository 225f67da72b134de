package telemetry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// TestExceptions: a class is a label value within the budgets of the node and of
// the method.
func TestExceptions(t *testing.T) {
	r := newRig(t, telemetry.Options{Exceptions: 30})
	throw := func(method, class string) {
		c := call()
		c.Method = method
		rec := record(c)
		rec.Result, rec.Exception = rpc.ResultException, class
		r.Prepare(c).Observe(rec)
	}
	check := func(class, want string, labels ...string) {
		t.Helper()
		got := r.value("istio_requests_total", append(labels, `dubbo_exception="`+class+`"`)...)
		if got != want {
			t.Errorf("requests that ended in %q %v = %q, want %q", class, labels, got, want)
		}
	}
	for i := range 25 { // one method has 20 classes
		throw("many", fmt.Sprint("org.example.E", i))
		throw("many", fmt.Sprint("org.example.E", i))
	}
	check("org.example.E19", "2")
	check("org.example.E20", "")
	check("other", "10")
	throw("few", "org.example.E20") // the node knows it
	check("org.example.E20", "1", `dubbo_method="few"`)
	for i := range 100 {
		throw("few", fmt.Sprint("org.example.Invented", i))
	}
	check("org.example.Invented4", "1")
	check("org.example.Invented5", "")
	check("other", "95", `dubbo_method="few"`)
	throw("few", "")
	check("unknown", "1")
	throw("few", "not\xffUTF-8")
	throw("few", strings.Repeat("x", 300))
	check("other", "97", `dubbo_method="few"`)
	if got := r.value("dubway_label_budget_exceeded_total", `"dubbo_exception"`); got != "107" {
		t.Errorf("exceeded dubbo_exception = %s, want 107", got)
	}

	// What is no exception has no class, whatever the record says.
	c := call()
	rec := record(c)
	rec.Result, rec.Exception = rpc.ResultGone, "org.example.E1"
	r.Prepare(c).Observe(rec)
	check("-", "1")
}

// TestDelayed: a call that a fault delayed has a series of its own.
func TestDelayed(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	observer := r.Prepare(c)
	for _, delayed := range []bool{true, false, true} {
		rec := record(c)
		rec.Delayed = delayed
		observer.Observe(rec)
	}
	rec := record(c)
	rec.Result, rec.Why, rec.Delayed = rpc.ResultLocal, rpc.WhyTimeout, true
	observer.Observe(rec)
	for flags, want := range map[string]string{"DI": "2", "-": "1", "UT,DI": "1"} {
		if got := r.value("istio_requests_total", `response_flags="`+flags+`"`); got != want {
			t.Errorf("requests with %s = %q, want %s", flags, got, want)
		}
	}
}

// TestSerializations iterates every id that a frame can have.
func TestSerializations(t *testing.T) {
	r := newRig(t, telemetry.Options{})
	c := call()
	observer := r.Prepare(c)
	want := map[string]int{}
	for id := range 32 {
		rec := record(c)
		rec.Serialization = uint8(id)
		observer.Observe(rec)
		switch name := accesslog.SerializationName(uint8(id)); name {
		case "":
		case accesslog.Unknown:
			want["other"]++
		default:
			want[name]++
		}
	}
	if len(want) != 20 || want["hessian2"] != 1 || want["fastjson2"] != 1 {
		t.Errorf("the names are %v", want)
	}
	for name, n := range want {
		got := r.value("dubway_serialization_requests_total", `dubbo_serialization="`+name+`"`, `source_workload="consumer"`)
		if got != fmt.Sprint(n) {
			t.Errorf("requests in %s = %q, want %d", name, got, n)
		}
	}
	if got := sum(t, r.scrape(), `dubbo_method="greet"`); got != 32 {
		t.Errorf("requests = %d, want 32: a serialization is no label of theirs", got)
	}
}

// TestApplications: the consumer's own name is a label if an option asks, and a
// consumer that invents names hides nobody else's.
func TestApplications(t *testing.T) {
	r := newRig(t, telemetry.Options{Applications: true})
	observe := func(workload, application string) {
		c := call()
		c.Source = &rpc.Peer{Workload: workload, Namespace: "shop"}
		c.Application = application
		r.Prepare(c).Observe(record(c))
	}
	for i := range 1000 {
		observe("hostile", fmt.Sprint("invented", i))
	}
	observe("consumer", "order-center")
	observe("consumer", "")
	for application, want := range map[string]string{"order-center": "1", "unknown": "1", "invented15": "1", "invented16": "", "other": "984"} {
		if got := r.value("istio_requests_total", `dubbo_consumer_application="`+application+`"`); got != want {
			t.Errorf("requests of %s = %q, want %q", application, got, want)
		}
	}
	if got := r.value("dubway_label_budget_exceeded_total", `"dubbo_consumer_application"`); got != "984" {
		t.Errorf("exceeded dubbo_consumer_application = %q, want 984", got)
	}

	r = newRig(t, telemetry.Options{})
	observe("consumer", "order-center")
	if text := r.scrape(); strings.Contains(text, "application") {
		t.Error("the consumer's own name is a label although nobody asked")
	}
}

// TestTap: a tap sees every record while somebody looks, and none else.
func TestTap(t *testing.T) {
	eye := &tap{}
	r := newRig(t, telemetry.Options{Tap: eye})
	c := call()
	observer := r.Prepare(c)
	observer.Observe(record(c))
	eye.open = true
	observer.Observe(record(c))
	if eye.seen != 1 {
		t.Errorf("the tap saw %d records, want 1", eye.seen)
	}
}

type tap struct {
	open       bool
	seen, told int
	inLane     uint64
}

func (t *tap) Watched() bool                           { return t.open }
func (t *tap) Observe(*rpc.Record)                     { t.seen++ }
func (t *tap) Aggregate(_ *rpc.Call, a *rpc.Aggregate) { t.inLane += a.Calls() }
func (t *tap) Tell(*rpc.Record)                        { t.told++ }
