package filter_test

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/filter"
)

func TestNeeds(t *testing.T) {
	rbac := func(rules string) chain {
		return chain{http: `{name: rbac, typed_config: {` + httpRBAC + `, ` + rules + `}}`}
	}
	rule := func(permission string) string { return `rules: {policies: {p: ` + policy(permission) + `}}` }
	limited := limitFilter(`descriptors: [{entries: [{key: k, value: v}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]`)
	const tiers = `rate_limits: [{actions: [{request_headers: {header_name: tier, descriptor_key: k}}]}],`
	for _, tt := range []struct {
		name            string
		chain           chain
		source, foreign filter.Needs // at the consumer, at the provider
	}{
		{"nothing", chain{}, filter.Needs{}, filter.Needs{}},
		{"no rules", rbac(`rules_stat_prefix: x`), filter.Needs{}, filter.Needs{}},
		{"method", rbac(rule(`{header: {name: method, present_match: true}}`)), filter.Needs{Access: true}, filter.Needs{Access: true}},
		{"authority", rbac(rule(`{header: {name: ":authority", present_match: true}}`)), filter.Needs{Access: true}, filter.Needs{Access: true}},
		{"path", rbac(rule(`{not_rule: {url_path: {path: {exact: /a/b}}}}`)), filter.Needs{Access: true}, filter.Needs{Access: true, PerRequest: true, Body: true}},
		{"group", rbac(rule(`{header: {name: group, present_match: true}}`)), filter.Needs{Access: true, PerRequest: true, Body: true}, filter.Needs{Access: true, PerRequest: true, Body: true}},
		{"argument", rbac(rule(`{or_rules: {rules: [{header: {name: "arguments[0]", present_match: true}}]}}`)), filter.Needs{Access: true, PerRequest: true, Body: true}, filter.Needs{Access: true, PerRequest: true, Body: true}},
		{"shadow", rbac(`shadow_rules: {policies: {p: ` + policy(`{header: {name: tier, present_match: true}}`) + `}}`), filter.Needs{Access: true, PerRequest: true, Body: true}, filter.Needs{Access: true, PerRequest: true, Body: true}},
		{"limit", chain{http: limited}, filter.Needs{Limit: true}, filter.Needs{Limit: true}},
		{"limit by attachment", chain{http: limited, host: tiers}, filter.Needs{Limit: true, Body: true}, filter.Needs{Limit: true, Body: true}},
		{"limit that is off", chain{http: `{name: limit, typed_config: {` + httpLimit + `}}`, host: tiers}, filter.Needs{}, filter.Needs{}},
		{"rates without a limit", chain{host: tiers}, filter.Needs{}, filter.Needs{}},
	} {
		at := place(tt.chain.load(t), 0)
		if got := at.Needs(false); got != tt.source {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.source)
		}
		if got := at.Needs(true); got != tt.foreign {
			t.Errorf("%s, at the provider: %+v, want %+v", tt.name, got, tt.foreign)
		}
		// A limit that is off may need the body: nobody looks as closely as that here.
		for boundary, want := range map[bool]filter.Needs{false: tt.source, true: tt.foreign} {
			if got := filter.Whole(at.Listener, boundary); got != want.Body && tt.name != "limit that is off" {
				t.Errorf("%s: whole %v at a boundary (%v), want %v", tt.name, got, boundary, want.Body)
			}
		}
	}
	own := rbac(`rules_stat_prefix: x`)
	own.config = `{rbac: {` + perRoute + `, rbac: {` + rule(`{header: {name: tier, present_match: true}}`) + `}}}`
	if l := own.load(t).Listeners[0]; !filter.Whole(l, false) {
		t.Error("a route's own rules need less than the whole")
	}
	if filter.Whole(nil, true) {
		t.Error("nothing needs the whole")
	}
	if got := (filter.Place{}).Needs(true); got != (filter.Needs{}) {
		t.Errorf("nowhere: %+v", got)
	}
}
