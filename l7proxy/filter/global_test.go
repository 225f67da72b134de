package filter_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

const (
	httpGlobal = `"@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: shop,
		rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: ratelimit}}}`
	globalPerRoute = `"@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute`
)

func globalFilter(name, fields string) string {
	return `{name: ` + name + `, typed_config: {` + httpGlobal + `, ` + fields + `}}`
}

// said is what the questions ask: filter, domain, descriptors.
func said(list []global.Question) string {
	var text strings.Builder
	for _, q := range list {
		fmt.Fprint(&text, q.Filter.Name, " ", q.Domain, " ", q.Descriptors, "; ")
	}
	return text.String()
}

// TestQuestions: the rates of a filter's stage describe a request, each on its own, and
// what none describes nobody is asked about.
func TestQuestions(t *testing.T) {
	const byMethod = `{actions: [{request_headers: {header_name: method, descriptor_key: m}}]}`
	route := func(rates, own string) string {
		return `{match: {prefix: /}, route: {cluster: c, rate_limits: [` + rates + `]}, typed_per_filter_config: {` + own + `}}`
	}
	for _, tt := range []struct {
		name   string
		http   string // stage 0 unless given
		routes string
		host   string
		call   call
		want   string
	}{
		{"nothing", "", "", "", call{}, ""},
		{"by method", "", route(byMethod, ""), "", call{}, "a shop [[{m place}]]; "},
		{"by the virtual host", "", "", `rate_limits: [` + byMethod + `],`, call{}, "a shop [[{m place}]]; "},
		{"the route's go before the virtual host's", "", route(`{actions: [{generic_key: {descriptor_value: x}}]}`, ""),
			`rate_limits: [` + byMethod + `],`, call{}, "a shop [[{generic_key x}]]; "},
		{"each rate is one descriptor", "", route(byMethod+`, {actions: [{remote_address: {}}, {source_cluster: {}}]}`, ""), "",
			call{}, "a shop [[{m place}] [{remote_address 198.18.1.10} {source_cluster web.shop}]]; "},
		{"a value that is missing: no descriptor", "", route(`{actions: [{generic_key: {descriptor_value: x}}, {request_headers: {header_name: tier, descriptor_key: t}}]}`, ""), "",
			call{}, ""},
		{"an attachment", "", route(`{actions: [{request_headers: {header_name: tier, descriptor_key: t}}]}`, ""), "",
			call{attachments: attachments{"tier": "gold"}}, "a shop [[{t gold}]]; "},
		{"a value that may be missing", "", route(`{actions: [{generic_key: {descriptor_value: x}}, {request_headers: {header_name: tier, descriptor_key: t, skip_if_absent: true}}]}`, ""), "",
			call{}, "a shop [[{generic_key x}]]; "},
		{"all values missing", "", route(`{actions: [{request_headers: {header_name: tier, descriptor_key: t, skip_if_absent: true}}]}`, ""), "", call{}, ""},
		{"headers that match", "", route(`{actions: [{header_value_match: {descriptor_value: x, headers: [{name: method, string_match: {exact: place}}]}}]}`, ""), "",
			call{}, "a shop [[{header_match x}]]; "},
		{"headers that do not", "", route(`{actions: [{header_value_match: {descriptor_value: x, headers: [{name: method, string_match: {exact: pay}}]}}]}`, ""), "", call{}, ""},
		{"headers that must not", "", route(`{actions: [{header_value_match: {descriptor_value: x, expect_match: false, headers: [{name: method, string_match: {exact: pay}}]}}]}`, ""), "",
			call{}, "a shop [[{header_match x}]]; "},
		{"the path", "", route(`{actions: [{request_headers: {header_name: ":path", descriptor_key: p}}]}`, ""), "",
			call{}, "a shop [[{p /com.shop.Order/place}]]; "},
		{"another stage", "", route(`{stage: 1, actions: [{remote_address: {}}]}`, ""), "", call{}, ""},
		{"two filters, two stages", globalFilter("b", "stage: 1") + `, ` + globalFilter("a", "stage: 0"),
			route(byMethod+`, {stage: 1, actions: [{remote_address: {}}]}`, ""), "",
			call{}, "b shop [[{remote_address 198.18.1.10}]]; a shop [[{m place}]]; "},
		{"not enabled", globalFilter("a", "filter_enabled: {default_value: {numerator: 0}}"), route(byMethod, ""), "", call{}, ""},
		{"a route's domain", "", route(byMethod, `a: {`+globalPerRoute+`, domain: own}`), "", call{}, "a own [[{m place}]]; "},
		{"a route's rates", "", route(byMethod, `a: {`+globalPerRoute+`, rate_limits: [{actions: [{remote_address: {}}]}]}`), "",
			call{}, "a shop [[{remote_address 198.18.1.10}]]; "},
		{"another filter's", "", route(byMethod, `b: {`+globalPerRoute+`, domain: own}`), "", call{}, "a shop [[{m place}]]; "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.http == "" {
				tt.http = globalFilter("a", "stage: 0")
			}
			tt.call.method, tt.call.sa = "Order.place", "shop/web"
			at := place(chain{http: tt.http, routes: tt.routes, host: tt.host}.load(t), 0)
			if got := said(at.Questions(subjectOf(t, tt.call))); got != tt.want {
				t.Errorf("asked: %s\nwant:  %s", got, tt.want)
			}
			if n := at.Needs(false); tt.want != "" && !n.Global || n.Access || n.Limit {
				t.Errorf("needs %+v", n)
			}
		})
	}
}

// TestQuestionNeeds: what is asked about is read whole and held whole; what nobody could
// ask about costs nothing.
func TestQuestionNeeds(t *testing.T) {
	rates := func(header string) string {
		return `{match: {prefix: /}, route: {cluster: c, rate_limits: [{actions: [{request_headers: {header_name: ` + header + `, descriptor_key: k}}]}]}}`
	}
	for _, tt := range []struct {
		name   string
		http   string
		routes string
		want   filter.Needs
	}{
		{"no rates", globalFilter("a", "stage: 0"), "", filter.Needs{}},
		{"rates of another stage", globalFilter("a", "stage: 1"), rates("tier"), filter.Needs{}},
		{"by method", globalFilter("a", "stage: 0"), rates("method"), filter.Needs{Global: true}},
		{"by attachment", globalFilter("a", "stage: 0"), rates("tier"), filter.Needs{Global: true, Body: true}},
		{"no filter", "", rates("tier"), filter.Needs{}},
	} {
		s := chain{http: tt.http, routes: tt.routes}.load(t)
		if got := place(s, 0).Needs(false); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if got := filter.Whole(s.Listeners[0], false); got != (tt.http != "") {
			t.Errorf("%s: held whole: %v", tt.name, got)
		}
	}
}

// TestAnswers: what comes of each answer, and what is counted.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fields  string
		observe bool
		answer  global.Answer
		why     rpc.Why
		counted string
	}{
		{"within", "stage: 0", false, global.WithinLimit, rpc.WhyNone, "map[ok:1]"},
		{"over", "stage: 0", false, global.OverLimit, rpc.WhyLimited, "map[over_limit:1]"},
		{"over, not enforced", "filter_enforced: {default_value: {numerator: 0}}", false, global.OverLimit, rpc.WhyNone, "map[exceeded:1]"},
		{"over, observed", "stage: 0", true, global.OverLimit, rpc.WhyNone, "map[would_limit:1]"},
		{"none", "stage: 0", false, global.NoAnswer, rpc.WhyNone, "map[error:1 failure_mode_allowed:1]"},
		{"none, denied", "failure_mode_deny: true", false, global.NoAnswer, rpc.WhyLimitUnknown, "map[error:1]"},
		{"none, denied and observed", "failure_mode_deny: true", true, global.NoAnswer, rpc.WhyNone, "map[error:1 failure_mode_allowed:1]"},
		{"none, denied for no share", "failure_mode_deny: true, failure_mode_deny_percent: {default_value: {numerator: 0}}", false,
			global.NoAnswer, rpc.WhyNone, "map[error:1 failure_mode_allowed:1]"},
	} {
		s := chain{
			http: globalFilter("a", "stat_prefix: p, "+tt.fields), host: `rate_limits: [{actions: [{remote_address: {}}]}],`,
		}.load(t)
		subject := subjectOf(t, call{method: "Order.place"})
		subject.Observe = tt.observe
		list := place(s, 0).Questions(subject)
		if len(list) != 1 {
			t.Fatalf("%s: %d questions", tt.name, len(list))
		}
		var p filter.Policies
		p.Keep(s)
		if got := p.Answered(&list[0], tt.answer); got != tt.why {
			t.Errorf("%s: refused: %q, want %q", tt.name, got, tt.why)
		}
		p.Keep(s) // the same filter goes on counting
		counted := make(map[string]uint64)
		for _, c := range p.Tally.All() {
			if c.Labels.Filter != "a" || c.Labels.Prefix != "p" {
				t.Errorf("%s: labels %+v", tt.name, c.Labels)
			}
			if c.Total > 0 {
				counted[c.Labels.Result] = c.Total
			}
		}
		if fmt.Sprint(counted) != tt.counted {
			t.Errorf("%s: counted %v, want %s", tt.name, counted, tt.counted)
		}
		p.Keep(new(snapshot.Snapshot))
		if n := len(p.Tally.All()); n != 0 {
			t.Errorf("%s: %d counters of a filter that is gone", tt.name, n)
		}
	}
}

// TestQuestionShares: filter_enabled is the share that is asked about, filter_enforced
// that of those which are refused, and neither hangs on the other.
func TestQuestionShares(t *testing.T) {
	at := place(chain{
		http: globalFilter("a", "failure_mode_deny_percent: {default_value: {numerator: 30}}, filter_enabled: {default_value: {numerator: 50}}, filter_enforced: {default_value: {numerator: 20}}"),
		host: `rate_limits: [{actions: [{remote_address: {}}]}],`,
	}.load(t), 0)
	const n = 20000
	asked, enforced, deny := 0, 0, 0
	s := subjectOf(t, call{method: "Order.place"})
	for i := range uint64(n) {
		s.Random = i * 0x9e3779b97f4a7c15
		for _, q := range at.Questions(s) {
			asked++
			if q.Enforced {
				enforced++
			}
			if q.Deny {
				deny++
			}
		}
	}
	near := func(got int, share float64, of int) bool {
		return math.Abs(float64(got)-share*float64(of)) < 6*math.Sqrt(float64(of)*share*(1-share))
	}
	if !near(asked, 0.5, n) || !near(enforced, 0.2, asked) || !near(deny, 0.3, asked) {
		t.Errorf("of %d %d are asked about, of which %d enforced and %d denied", n, asked, enforced, deny)
	}
}
