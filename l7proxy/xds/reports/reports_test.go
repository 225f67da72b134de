package reports

import (
	"fmt"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"istio.io/api/envoy/extensions/stats"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// pack makes an Any, of equal messages of equal bytes: those are what is shared, and the
// order of a map is otherwise left to chance.
func pack(tb testing.TB, m proto.Message) *anypb.Any {
	tb.Helper()
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		tb.Fatal(err)
	}
	return a
}

// TestShared: thousands of listeners say the same, and have one set of rules; others have
// another, also if they are wrong.
func TestShared(t *testing.T) {
	of := func(text, drop string) (*report.Rules, problems.List) {
		var p problems.List
		c := new(Chain)
		c.Stats("stats", pack(t, &stats.PluginConfig{Metrics: []*stats.MetricConfig{
			{Name: "requests_total", Dimensions: map[string]string{"a": text, "b": "'x'"}}, {Name: drop, Drop: true},
		}}))
		return c.Rules(&p), p
	}
	first, p := of("'x'", "request_bytes")
	if first == nil || len(p) > 0 {
		t.Fatalf("%v, %v", first, p)
	}
	if again, _ := of("'x'", "request_bytes"); again != first {
		t.Error("equal filters have two sets of rules")
	}
	if other, _ := of("'y'", "request_bytes"); other == nil || other == first {
		t.Error("another filter has the same rules")
	}
	for range 2 {
		if wrong, p := of("f(x)", "nothing"); wrong != nil || len(p) != 2 {
			t.Errorf("%v, %v; want two problems each time", wrong, p)
		}
	}
	if none := new(Chain).Rules(&p); none != nil {
		t.Error("who says nothing has rules")
	}
}

// TestConditionsAreBounded: there is a bit for each.
func TestConditionsAreBounded(t *testing.T) {
	var p problems.List
	c := new(Chain)
	c.rules.Log = new(report.Log)
	for i := range maxConditions {
		c.cel(&p, "cel", fmt.Sprintf("request.headers['a'] == '%d'", i))
		c.cel(&p, "cel", fmt.Sprintf("request.headers['a'] == '%d'", i)) // the same
	}
	if len(p) > 0 || len(c.rules.Conditions) != maxConditions {
		t.Fatalf("%d conditions, %v", len(c.rules.Conditions), p)
	}
	if c.cel(&p, "cel", "request.headers['a'] == 'more'"); len(p) != 1 {
		t.Errorf("%v, want one problem", p)
	}
}

// FuzzFilter: no expression breaks a filter, and what is accepted can be judged.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{
		"response.code >= 400", "!(request.duration < duration('1s')) && request.headers['x'].matches('a+')",
		"has(response.code) || xds.route_name != 'r' || false", "400 > response.code",
	} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		var p problems.List
		c := new(Chain)
		e := c.cel(&p, "cel", text)
		if len(p) == 0 {
			log := report.Log{Any: []report.Expression{e}}
			log.Wants(&report.Facts{Code: 500, Flags: "-"})
		}
		c.log(&p, "log", new(accesslogv3.AccessLog)) // no type: nothing of ours
	})
}
