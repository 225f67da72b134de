package filter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/limit"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// passes counts how many of n calls a place's limits let pass at one moment.
func passes(t *testing.T, p *filter.Policies, at filter.Place, w *limit.Workload, n int, c call, later time.Duration) int {
	t.Helper()
	s := subjectOf(t, c)
	s.Now = s.Now.Add(later)
	ok := 0
	for range n {
		switch why, name := p.Limit(at, s, w); {
		case why == rpc.WhyNone:
			ok++
		case why != rpc.WhyLimited || name != "limit":
			t.Fatalf("%q by %q", why, name)
		}
	}
	return ok
}

func limitFilter(fields string) string {
	return fmt.Sprintf(`{name: limit, typed_config: {%s, %s, %s}}`, httpLimit, always, fields)
}

func TestLimitRefills(t *testing.T) {
	s := chain{http: limitFilter(`token_bucket: {max_tokens: 5, tokens_per_fill: 2, fill_interval: 1s}`)}.load(t)
	var p filter.Policies
	w := workload()
	for _, tt := range []struct {
		later time.Duration
		want  int
	}{
		{0, 5}, {999 * time.Millisecond, 0}, {time.Second, 2}, {1500 * time.Millisecond, 0},
		{3 * time.Second, 4}, {time.Hour, 5}, {0, 0}, // a clock that was read before
	} {
		if got := passes(t, &p, place(s, 0), w, 10, call{method: "Order.place"}, tt.later); got != tt.want {
			t.Errorf("after %s: %d of 10 pass, want %d", tt.later, got, tt.want)
		}
	}
	if got := passes(t, &p, place(s, 0), workload(), 10, call{method: "Order.place"}, 0); got != 5 {
		t.Errorf("%d of another workload's pass", got)
	}
	counts := make(map[string]uint64)
	for _, c := range p.Tally.All() {
		counts[c.Labels.Result] = c.Total
	}
	if counts["ok"] != 5+2+4+5+5 || counts["limited"] != 80-21 || counts["exceeded"] != 0 {
		t.Errorf("counted %v", counts)
	}
}

// TestDescriptors: which of the descriptors' buckets, of 1, 2 and 3 tokens, and the
// filter's, of 10, a call takes tokens of.
func TestDescriptors(t *testing.T) {
	entry := func(key, value string, tokens int) string {
		return fmt.Sprintf(`{entries: [{key: %s, value: %q}], token_bucket: {max_tokens: %d, tokens_per_fill: %[3]d, fill_interval: 1s}}`, key, value, tokens)
	}
	const ten = `token_bucket: {max_tokens: 10, tokens_per_fill: 10, fill_interval: 1s}, `
	tests := []struct {
		name, limit, rates string
		call               call
		want               int
	}{
		{"no rates", `descriptors: [` + entry("k", "v", 1) + `]`, ``, call{}, 10},
		{"generic", `descriptors: [` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 1},
		{"another generic", `descriptors: [` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_value: w}}]}`, call{}, 10},
		{"another key", `descriptors: [` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_key: k, descriptor_value: v}}]}`, call{}, 10},
		{"method", `descriptors: [` + entry("m", "place", 2) + `]`, `{actions: [{request_headers: {header_name: method, descriptor_key: m}}]}`, call{method: "Order.place"}, 2},
		{"another method", `descriptors: [` + entry("m", "place", 2) + `]`, `{actions: [{request_headers: {header_name: method, descriptor_key: m}}]}`, call{method: "Order.find"}, 10},
		{"path", `descriptors: [` + entry("p", "/com.shop.Order/place", 2) + `]`, `{actions: [{request_headers: {header_name: ":path", descriptor_key: p}}]}`, call{method: "Order.place"}, 2},
		{"no attachment", `descriptors: [` + entry("generic_key", "v", 2) + `]`, `{actions: [{request_headers: {header_name: tier, descriptor_key: t}}, {generic_key: {descriptor_value: v}}]}`, call{method: "Order.place", attachments: attachments{}}, 10},
		{"no attachment, skipped", `descriptors: [` + entry("generic_key", "v", 2) + `]`, `{actions: [{request_headers: {header_name: tier, descriptor_key: t, skip_if_absent: true}}, {generic_key: {descriptor_value: v}}]}`, call{method: "Order.place", attachments: attachments{}}, 2},
		{"an attachment is not skipped", `descriptors: [` + entry("generic_key", "v", 2) + `]`, `{actions: [{request_headers: {header_name: tier, descriptor_key: t, skip_if_absent: true}}, {generic_key: {descriptor_value: v}}]}`, call{method: "Order.place", attachments: attachments{"tier": "x"}}, 10},
		{"match", `descriptors: [` + entry("header_match", "v", 3) + `]`, `{actions: [{header_value_match: {descriptor_value: v, headers: [{name: method, string_match: {prefix: pl}}]}}]}`, call{method: "Order.place"}, 3},
		{"no match", `descriptors: [` + entry("header_match", "v", 3) + `]`, `{actions: [{header_value_match: {descriptor_value: v, headers: [{name: method, string_match: {prefix: pl}}]}}]}`, call{method: "Order.find"}, 10},
		{"unless it matches", `descriptors: [` + entry("header_match", "v", 3) + `]`, `{actions: [{header_value_match: {descriptor_value: v, expect_match: false, headers: [{name: method, string_match: {prefix: pl}}]}}]}`, call{method: "Order.find"}, 3},
		{"but it matches", `descriptors: [` + entry("header_match", "v", 3) + `]`, `{actions: [{header_value_match: {descriptor_value: v, expect_match: false, headers: [{name: method, string_match: {prefix: pl}}]}}]}`, call{method: "Order.place"}, 10},
		{"source", `descriptors: [` + entry("source_cluster", "web.shop", 1) + `]`, `{actions: [{source_cluster: {}}]}`, call{sa: "shop/web"}, 1},
		{"another source", `descriptors: [` + entry("source_cluster", "web.shop", 1) + `]`, `{actions: [{source_cluster: {}}]}`, call{sa: "shop/web2"}, 10},
		{"remote", `descriptors: [` + entry("remote_address", "198.18.1.10", 1) + `]`, `{actions: [{remote_address: {}}]}`, call{}, 1},
		{"another remote", `descriptors: [` + entry("remote_address", "198.18.1.1", 1) + `]`, `{actions: [{remote_address: {}}]}`, call{}, 10},
		{"fewer entries", `descriptors: [` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_value: v}}, {remote_address: {}}]}`, call{}, 10},
		{"more entries", `descriptors: [{entries: [{key: generic_key, value: v}, {key: x, value: w}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 10},
		{"all entries", `descriptors: [{entries: [{key: generic_key, value: v}, {key: remote_address, value: 198.18.1.10}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]`, `{actions: [{generic_key: {descriptor_value: v}}, {remote_address: {}}]}`, call{}, 1},
		{"the smaller rate", `descriptors: [` + entry("generic_key", "v", 3) + `, ` + entry("remote_address", "198.18.1.10", 2) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}, {actions: [{remote_address: {}}]}`, call{}, 2},
		{"another stage", `stage: 1, descriptors: [` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 10},
		{"its stage", `stage: 1, descriptors: [` + entry("generic_key", "v", 1) + `]`, `{stage: 1, actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 1},
		{"the filter's own rates", `rate_limits: [{actions: [{remote_address: {}}]}], descriptors: [` + entry("remote_address", "198.18.1.10", 3) + `, ` + entry("generic_key", "v", 1) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 3},
		{"a larger descriptor", `descriptors: [` + entry("generic_key", "v", 20) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 10},
		{"a larger descriptor instead", `always_consume_default_token_bucket: false, descriptors: [` + entry("generic_key", "v", 20) + `]`, `{actions: [{generic_key: {descriptor_value: v}}]}`, call{}, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, host := range []bool{false, true} { // rates of the route, or of its virtual host
				c := chain{http: limitFilter(ten + tt.limit)}
				if rates := `rate_limits: [` + tt.rates + `]`; tt.rates != "" && host {
					c.host = rates + ","
				} else if tt.rates != "" {
					c.host = `rate_limits: [{actions: [{generic_key: {descriptor_value: "of the host"}}]}],`
					c.routes = `{match: {prefix: /}, route: {cluster: c, ` + rates + `}}`
				}
				s := c.load(t)
				var p filter.Policies
				if got := passes(t, &p, place(s, 0), workload(), 30, tt.call, 0); got != tt.want {
					t.Errorf("%d pass, want %d", got, tt.want)
				}
			}
		})
	}
}

// TestShares: what is not enabled takes no tokens, what is not enforced is counted.
func TestShares(t *testing.T) {
	const none = `token_bucket: {max_tokens: 1, fill_interval: 3600s}`
	for _, tt := range []struct {
		shares                 string
		limited, exceeded, any float64
	}{
		{``, 0, 0, 0},
		{`filter_enabled: {default_value: {numerator: 100}}, `, 0, 1, 1},
		{`filter_enforced: {default_value: {numerator: 100}}, `, 0, 0, 0},
		{`filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 30}}, `, .3, .7, 1},
		{`filter_enabled: {default_value: {numerator: 4000, denominator: TEN_THOUSAND}}, filter_enforced: {default_value: {numerator: 50}}, `, .2, .2, .4},
	} {
		s := chain{http: `{name: limit, typed_config: {` + httpLimit + `, ` + tt.shares + none + `}}`}.load(t)
		var p filter.Policies
		w, subject := workload(), subjectOf(t, call{})
		random := uint64(1)
		const calls = 20000
		for range calls {
			random = random*6364136223846793005 + 1442695040888963407
			subject.Random = random ^ random>>29
			p.Limit(place(s, 0), subject, w)
		}
		got := make(map[string]float64)
		for _, c := range p.Tally.All() {
			got[c.Labels.Result] = float64(c.Total) / calls
		}
		near := func(a, b float64) bool { return a > b-.015 && a < b+.015 }
		if !near(got["limited"], tt.limited) || !near(got["exceeded"], tt.exceeded) || !near(got["limited"]+got["exceeded"]+got["ok"], tt.any) {
			t.Errorf("%q: %v", tt.shares, got)
		}
	}
}

func TestConnections(t *testing.T) {
	s := chain{network: `
		{name: limit, typed_config: {` + netLimit + `, token_bucket: {max_tokens: 2, fill_interval: 1s}}},
		{name: rbac, typed_config: {` + netRBAC + `, rules: {action: DENY, policies: {strangers: {permissions: [{any: true}], principals: [{not_id: {authenticated: {}}}]}}}}},
		{name: unused, typed_config: {` + netLimit + `, token_bucket: {max_tokens: 1, fill_interval: 1s}, runtime_enabled: {default_value: false, runtime_key: x}}},`}.load(t)
	gate := s.Listeners[0].Gate
	var p filter.Policies
	var v filter.Verdict
	w := workload()
	for i, want := range []filter.Verdict{
		{Why: rpc.WhyDenied, Filter: "rbac", Policy: "strangers"}, // and takes no token
		{}, {}, {Why: rpc.WhyLimited, Filter: "limit"},
	} {
		c := call{sa: "shop/web"}
		if i == 0 {
			c.sa = ""
		}
		subject := subjectOf(t, c)
		subject.Reset(nil)
		if p.Connection(gate, subject, w, &v); v.Why != want.Why || v.Filter != want.Filter || v.Policy != want.Policy {
			t.Errorf("connection %d: %+v, want %+v", i, v, want)
		}
	}
	subject := subjectOf(t, call{})
	subject.Reset(nil)
	if p.Connection(nil, subject, w, &v); v.Why != rpc.WhyNone {
		t.Errorf("without a gate: %+v", v)
	}
}

// TestOpaque: who does not speak Dubbo gets past no policy of requests.
func TestOpaque(t *testing.T) {
	const isDrop = `{header: {name: method, string_match: {exact: drop}}}`
	filters := func(rules string) string {
		return `{name: rbac, typed_config: {` + httpRBAC + `, rules: ` + rules + `}}`
	}
	const tcp = `default_filter_chain: {filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: c}}]}`
	for rules, want := range map[string]rpc.Why{
		`{action: DENY, policies: {p: ` + policy(isDrop) + `}}`:                   rpc.WhyDenied,
		`{action: DENY, policies: {p: ` + policy(`{not_rule: `+isDrop+`}`) + `}}`: rpc.WhyDenied,
		`{action: DENY, policies: {p: ` + policy(`{destination_port: 1}`) + `}}`:  rpc.WhyNone,
		`{policies: {p: ` + policy(isDrop) + `}}`:                                 rpc.WhyDenied,
		`{policies: {p: ` + policy(`{any: true}`) + `}}`:                          rpc.WhyNone,
		`{action: LOG, policies: {p: ` + policy(isDrop) + `}}`:                    rpc.WhyNone,
	} {
		subject := subjectOf(t, call{})
		subject.Reset(nil)
		var p filter.Policies
		var v filter.Verdict
		for _, alone := range []bool{true, false} {
			c := chain{http: filters(rules)}
			if !alone {
				c.fallback = tcp
			}
			l := c.load(t).Listeners[0]
			if p.Connection(l.OpaqueGate(true), subject, workload(), &v); v.Why != want {
				t.Errorf("%s: HTTP is %q, want %q", rules, v.Why, want)
			}
			if p.Connection(l.OpaqueGate(false), subject, workload(), &v); v.Why != want && alone || v.Why != rpc.WhyNone && !alone {
				t.Errorf("%s: opaque bytes are %q, want %q", rules, v.Why, want)
			}
			if l.Gate != nil {
				t.Errorf("%s: connections with requests are held against what requests are", rules)
			}
		}
	}
}

// TestKeep: what a new snapshot does not change goes on as it was, the rest goes.
func TestKeep(t *testing.T) {
	s := chain{http: limitFilter(`token_bucket: {max_tokens: 5, fill_interval: 1s}`)}.load(t)
	var p filter.Policies
	w := p.Workloads.Of("pod")
	passes(t, &p, place(s, 0), w, 3, call{}, 0)
	p.Keep(s)
	if got := passes(t, &p, place(s, 0), p.Workloads.Of("pod"), 9, call{}, 0); got != 2 {
		t.Errorf("%d pass after the same snapshot, want 2", got)
	}
	// A filter that changes goes on counting under its labels, which are its old ones.
	total := func() (n uint64) {
		for _, c := range p.Tally.All() {
			n += c.Total
		}
		return n
	}
	if p.Keep(chain{http: limitFilter(`token_bucket: {max_tokens: 6, fill_interval: 1s}`)}.load(t)); total() != 12 {
		t.Errorf("%d verdicts after a change, want 12", total())
	}
	if p.Keep(chain{}.load(t)); len(p.Tally.All()) != 0 {
		t.Errorf("counters of policies that are gone: %v", p.Tally.All())
	}
	if got := passes(t, &p, place(s, 0), w, 9, call{}, 0); got != 5 {
		t.Errorf("%d pass of a new bucket, want 5", got)
	}
	p.Workloads.Forget("pod")
	if got := passes(t, &p, place(s, 0), p.Workloads.Of("pod"), 9, call{}, 0); got != 5 {
		t.Errorf("%d pass of a new pod's, want 5", got)
	}
}
