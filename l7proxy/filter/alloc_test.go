//go:build !race

package filter_test

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// every is a chain that asks everything a policy may ask.
func every(tb testing.TB) filter.Place {
	tb.Helper()
	s := chain{
		http: `{name: audit, typed_config: {` + httpRBAC + `, rules: {action: LOG, policies: {all: ` + policy(`{any: true}`) + `}}}},
			{name: rbac, typed_config: {` + httpRBAC + `, rules: {policies: {
				a: ` + policy(`{header: {name: tier, string_match: {exact: gold}}}`) + `,
				b: ` + policy(`{and_rules: {rules: [{url_path: {path: {safe_regex: {regex: "/com[.]shop[.].*"}}}}, {not_rule: {destination_port: 1}}, {destination_ip: {address_prefix: 198.19.0.0, prefix_len: 16}}]}}`) + `}},
				shadow_rules: {action: DENY, policies: {c: ` + by(`{and_ids: {ids: [{authenticated: {principal_name: {safe_regex: {regex: ".*/ns/shop/.*"}}}}, {remote_ip: {address_prefix: 198.18.0.0, prefix_len: 16}}]}}`) + `}}}},
			` + limitFilter(`token_bucket: {max_tokens: 1000000, fill_interval: 1s}, descriptors: [
				{entries: [{key: remote_address, value: 198.18.1.10}, {key: m, value: place}, {key: header_match, value: x}], token_bucket: {max_tokens: 3, fill_interval: 3600s}}]`),
		host: `rate_limits: [{actions: [{remote_address: {}}, {request_headers: {header_name: method, descriptor_key: m}},
			{header_value_match: {descriptor_value: x, headers: [{name: ":path", string_match: {prefix: /com}}]}}]}],`,
		config: `{other: {` + perRoute + `}}`,
	}.load(tb)
	return place(s, 0)
}

func TestNothingIsAllocated(t *testing.T) {
	at := every(t)
	var p filter.Policies
	var v filter.Verdict
	w := workload()
	c := call{method: "Order.place", sa: "shop/web", boundary: true, attachments: attachments{"path": "com.shop.Order"}}
	s, req := subjectOf(t, c), requestOf(c)
	limited := 0
	if n := testing.AllocsPerRun(100, func() {
		s.Reset(req)
		if p.Access(at, s, &v); v.Why != rpc.WhyNone || v.Policy != "b" || v.Shadow != "rbac" {
			t.Fatalf("%+v", v)
		}
		v.Count()
		if why, _ := p.Limit(at, s, w); why == rpc.WhyLimited {
			limited++
		}
	}); n != 0 {
		t.Errorf("%v allocations for a request", n)
	}
	if limited != 101-3 {
		t.Errorf("%d limited", limited)
	}
	if n := testing.AllocsPerRun(100, func() { p.Connection(nil, s, w, &v) }); n != 0 {
		t.Errorf("%v allocations for a connection", n)
	}
	if n := testing.AllocsPerRun(100, func() { at.Needs(true) }); n != 0 {
		t.Errorf("%v allocations to ask what is needed", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	at := every(b)
	var p filter.Policies
	var v filter.Verdict
	w := workload()
	c := call{method: "Order.place", sa: "shop/web"}
	c.attachments = attachments{}
	s, req := subjectOf(b, c), requestOf(c)
	b.ReportAllocs()
	for b.Loop() {
		s.Reset(req)
		p.Access(at, s, &v)
		v.Count()
		p.Limit(at, s, w)
	}
}

// BenchmarkUnconfigured is what a listener without policies costs.
func BenchmarkUnconfigured(b *testing.B) {
	at := place(chain{}.load(b), 0)
	var n filter.Needs
	for b.Loop() {
		n = at.Needs(false)
	}
	if n.Access || n.Limit {
		b.Fatal(n)
	}
}
