package filter_test

import (
	"fmt"
	"testing"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/rpc"
)

const anyone = `principals: [{any: true}]`

// policy is a policy of any principal.
func policy(permission string) string {
	return fmt.Sprintf(`{permissions: [%s], %s}`, permission, anyone)
}

// by is a policy of any permission.
func by(principal string) string {
	return fmt.Sprintf(`{permissions: [{any: true}], principals: [%s]}`, principal)
}

// TestDubboAuthorization: a rule of Aeraki's DubboAuthorizationPolicy, all of its
// fields, in the terms of RBAC.
func TestDubboAuthorization(t *testing.T) {
	const (
		named   = `{or_rules: {rules: [{header: {name: interface, string_match: {exact: com.shop.Order}}}, {header: {name: interface, string_match: {exact: com.shop.Cart}}}]}}`
		methods = `{or_rules: {rules: [{header: {name: method, string_match: {exact: place}}}, {header: {name: method, string_match: {prefix: get}}}]}}`
		neither = `{not_rule: {header: {name: interface, string_match: {exact: com.shop.Admin}}}}, {not_rule: {header: {name: method, string_match: {exact: getSecret}}}}`
		from    = `{authenticated: {principal_name: {prefix: "spiffe://cluster.local/ns/shop/"}}}, {authenticated: {principal_name: {safe_regex: {regex: ".*/ns/shop/.*"}}}}`
		notFrom = `{not_id: {authenticated: {principal_name: {exact: spiffe://cluster.local/ns/shop/sa/guest}}}}, {not_id: {authenticated: {principal_name: {safe_regex: {regex: ".*/ns/test/.*"}}}}}`
	)
	rule := `{permissions: [{and_rules: {rules: [` + named + `, ` + methods + `, ` + neither + `]}}], principals: [{and_ids: {ids: [` + from + `, ` + notFrom + `]}}]}`
	s := chain{http: `{name: rbac, typed_config: {` + httpRBAC + `, rules: {policies: {p: ` + rule + `}}}}`}.load(t)
	for _, tt := range []struct {
		call
		allowed bool
	}{
		{call{method: "Order.place", sa: "shop/web"}, true},
		{call{method: "Cart.getAll", sa: "shop/web"}, true},
		{call{method: "Cart.getSecret", sa: "shop/web"}, false},
		{call{method: "Admin.getAll", sa: "shop/web"}, false},
		{call{method: "Order.drop", sa: "shop/web"}, false},
		{call{method: "Order.place", sa: "shop/guest"}, false},
		{call{method: "Order.place", sa: "test/web"}, false},
		{call{method: "Order.place"}, false},
		{call{sa: "shop/web"}, false},
	} {
		var p filter.Policies
		var v filter.Verdict
		if p.Access(place(s, 0), subjectOf(t, tt.call), &v); (v.Why == rpc.WhyNone) != tt.allowed {
			t.Errorf("%s by %s: %q", tt.method, tt.sa, v.Why)
		}
	}
}

// TestRBAC holds calls against one policy p, once as ALLOW and once as DENY. A call
// that ALLOW lets pass, DENY denies, unless it cannot be read: then both deny.
func TestRBAC(t *testing.T) {
	const (
		web   = "spiffe://cluster.local/ns/shop/sa/web"
		yes   = "matches"
		no    = "does not match"
		doubt = "is unknown"
	)
	empty := attachments{}
	tests := []struct {
		name, policy string
		call         call
		want         string
	}{
		{"any", policy(`{any: true}`), call{method: "Order.place"}, yes},
		{"any of what cannot be decoded", policy(`{any: true}`), call{}, yes},
		{"method", policy(`{header: {name: method, string_match: {exact: place}}}`), call{method: "Order.place"}, yes},
		{"another method", policy(`{header: {name: method, string_match: {exact: place}}}`), call{method: "Order.find"}, no},
		{"method with case", policy(`{header: {name: method, string_match: {exact: Place}}}`), call{method: "Order.place"}, no},
		{"method of what cannot be decoded", policy(`{header: {name: method, string_match: {exact: place}}}`), call{}, doubt},
		{"not a method", policy(`{not_rule: {header: {name: method, string_match: {exact: place}}}}`), call{method: "Order.find"}, yes},
		{"not a method of what cannot be decoded", policy(`{not_rule: {header: {name: method, string_match: {exact: place}}}}`), call{}, doubt},
		{"inverted header of what cannot be decoded", policy(`{header: {name: method, string_match: {exact: place}, invert_match: true}}`), call{}, doubt},
		{"absent header of what cannot be decoded", policy(`{header: {name: tier, present_match: false}}`), call{}, doubt},
		{"interface", policy(`{header: {name: interface, string_match: {prefix: com.shop.}}}`), call{method: "Order.place"}, yes},
		{"path", policy(`{url_path: {path: {exact: /com.shop.Order/place}}}`), call{method: "Order.place"}, yes},
		{"path prefix", policy(`{url_path: {path: {prefix: /com.shop.Order/}}}`), call{method: "OrderAdmin.place"}, no},
		{"path suffix", policy(`{url_path: {path: {suffix: /place}}}`), call{method: "Order.place"}, yes},
		{"path by expression", policy(`{url_path: {path: {safe_regex: {regex: "/com[.]shop[.][A-Z][a-z]+/p.*"}}}}`), call{method: "Order.place"}, yes},
		{":path", policy(`{header: {name: ":path", string_match: {contains: Order/p}}}`), call{method: "Order.place"}, yes},
		{":method", policy(`{header: {name: ":method", string_match: {exact: POST}}}`), call{}, yes},
		{"not :method", policy(`{header: {name: ":method", string_match: {exact: POST}, invert_match: true}}`), call{method: "Order.place"}, no},
		{":authority", policy(`{header: {name: ":authority", string_match: {exact: "198.19.0.21:20880"}}}`), call{to: "198.19.0.21:20880"}, yes},
		{"version", policy(`{header: {name: version, string_match: {exact: 2.0.0}}}`), call{method: "Order.place", version: "2.0.0"}, yes},
		{"no version", policy(`{header: {name: version, present_match: false}}`), call{method: "Order.place"}, yes},
		{"group", policy(`{header: {name: group, string_match: {exact: blue}}}`), call{method: "Order.place", attachments: attachments{"group": "blue"}}, yes},
		{"another group", policy(`{header: {name: group, string_match: {exact: blue}}}`), call{method: "Order.place", attachments: empty}, no},
		{"attachment that cannot be read", policy(`{header: {name: tier, string_match: {exact: vip}}}`), call{method: "Order.place", attachments: attachments{"broken": ""}}, doubt},
		{"attachment of a body that nobody opened", policy(`{header: {name: tier, present_match: false}}`), call{method: "Order.place"}, doubt},
		{"argument of a body that nobody opened", policy(`{header: {name: "arguments[0]", present_match: false}}`), call{method: "Order.place"}, doubt},

		{"and", policy(`{and_rules: {rules: [{any: true}, {destination_port: 1}]}}`), call{method: "Order.place"}, no},
		{"and, one unknown", policy(`{and_rules: {rules: [{any: true}, {header: {name: method, present_match: true}}]}}`), call{}, doubt},
		{"and, one unknown and one not", policy(`{and_rules: {rules: [{header: {name: method, present_match: true}}, {destination_port: 1}]}}`), call{}, no},
		{"or", policy(`{or_rules: {rules: [{destination_port: 1}, {destination_port: 20880}]}}`), call{method: "Order.place"}, yes},
		{"or, one unknown", policy(`{or_rules: {rules: [{header: {name: method, present_match: true}}, {destination_port: 1}]}}`), call{}, doubt},
		{"or, one unknown and one so", policy(`{or_rules: {rules: [{header: {name: method, present_match: true}}, {any: true}]}}`), call{}, yes},
		{"not not", policy(`{not_rule: {not_rule: {destination_port: 20880}}}`), call{}, yes},
		{"one of the permissions", policy(`{destination_port: 1}, {destination_port: 20880}`), call{}, yes},

		{"destination", policy(`{destination_ip: {address_prefix: 198.19.0.0, prefix_len: 16}}`), call{}, yes},
		{"another destination", policy(`{destination_ip: {address_prefix: 198.19.0.0, prefix_len: 28}}`), call{}, no},
		{"ports", policy(`{destination_port_range: {start: 20880, end: 20881}}`), call{}, yes},
		{"ports end before", policy(`{destination_port_range: {start: 1, end: 20880}}`), call{}, no},
		{"metadata", policy(`{metadata: {filter: istio_authn, path: [{key: x}], value: {present_match: true}}}`), call{}, no},
		{"inverted metadata", policy(`{metadata: {filter: istio_authn, path: [{key: x}], value: {present_match: true}, invert: true}}`), call{}, yes},

		{"principal", by(`{authenticated: {principal_name: {exact: ` + web + `}}}`), call{sa: "shop/web"}, yes},
		{"another principal", by(`{authenticated: {principal_name: {exact: ` + web + `}}}`), call{sa: "shop/webs"}, no},
		{"nobody", by(`{authenticated: {principal_name: {exact: ` + web + `}}}`), call{}, no},
		{"anybody", by(`{authenticated: {}}`), call{sa: "shop/web"}, yes},
		{"anybody but nobody", by(`{authenticated: {}}`), call{}, no},
		{"nobody by expression", by(`{authenticated: {principal_name: {safe_regex: {regex: ".*"}}}}`), call{}, no},
		{"not a principal", by(`{not_id: {authenticated: {principal_name: {exact: ` + web + `}}}}`), call{}, yes},
		{"namespace", by(`{authenticated: {principal_name: {safe_regex: {regex: ".*/ns/shop/.*"}}}}`), call{sa: "shop/web"}, yes},
		{"namespace with a longer name", by(`{authenticated: {principal_name: {safe_regex: {regex: ".*/ns/shop/.*"}}}}`), call{sa: "shops/web"}, no},
		{"service account", by(`{authenticated: {principal_name: {safe_regex: {regex: "spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?"}}}}`), call{sa: "shop/web"}, yes},
		{"filter state", by(`{filter_state: {key: io.istio.peer_principal, string_match: {prefix: "spiffe://cluster.local/ns/shop/"}}}`), call{sa: "shop/web"}, yes},
		{"filter state of nobody", by(`{filter_state: {key: io.istio.peer_principal, string_match: {safe_regex: {regex: ".*"}}}}`), call{}, no},
		{"source", by(`{source_ip: {address_prefix: 198.18.0.0, prefix_len: 16}}`), call{}, yes},
		{"remote", by(`{direct_remote_ip: {address_prefix: 198.18.1.11, prefix_len: 32}}`), call{}, no},
		{"mapped source", by(`{remote_ip: {address_prefix: 198.18.0.0, prefix_len: 16}}`), call{from: "::ffff:198.18.1.1"}, yes},
		{"source of the other family", by(`{remote_ip: {address_prefix: "::", prefix_len: 0}}`), call{}, no},
		{"header of a principal", by(`{header: {name: method, string_match: {exact: place}}}`), call{}, doubt},
		{"path of a principal", by(`{url_path: {path: {exact: /com.shop.Order/place}}}`), call{method: "Order.place"}, yes},
		{"permission unknown, principal another", `{permissions: [{header: {name: method, present_match: true}}], principals: [{authenticated: {}}]}`, call{}, no},

		{"boundary", policy(`{url_path: {path: {prefix: /com.shop.Order/}}}`), call{method: "Order.place", boundary: true, attachments: attachments{"path": "com.shop.Order"}}, yes},
		{"boundary, no such attachments", policy(`{url_path: {path: {prefix: /com.shop.Order/}}}`), call{method: "Order.place", boundary: true, attachments: empty}, yes},
		{"boundary, another path", policy(`{url_path: {path: {prefix: /com.shop.Order/}}}`), call{method: "Order.place", boundary: true, attachments: attachments{"path": "com.shop.Admin"}}, doubt},
		{"boundary, another path, denied one", policy(`{header: {name: interface, string_match: {exact: com.shop.Admin}}}`), call{method: "Order.place", boundary: true, attachments: attachments{"path": "com.shop.Admin"}}, doubt},
		{"boundary, another version", policy(`{header: {name: version, string_match: {exact: 1.0.0}}}`), call{method: "Order.place", version: "1.0.0", boundary: true, attachments: attachments{"version": "2.0.0"}}, doubt},
		{"boundary, no version twice", policy(`{header: {name: interface, string_match: {exact: com.shop.Order}}}`), call{method: "Order.place", version: "0.0.0", boundary: true, attachments: attachments{"version": ""}}, yes},
		{"boundary, unread", policy(`{header: {name: interface, string_match: {exact: com.shop.Order}}}`), call{method: "Order.place", boundary: true, attachments: attachments{"broken": ""}}, doubt},
		{"boundary, nobody opened it", policy(`{header: {name: interface, string_match: {exact: com.shop.Order}}}`), call{method: "Order.place", boundary: true}, doubt},
		{"boundary, method alone", policy(`{header: {name: method, string_match: {exact: place}}}`), call{method: "Order.place", boundary: true}, yes},
		{"no boundary, another path", policy(`{url_path: {path: {prefix: /com.shop.Order/}}}`), call{method: "Order.place", attachments: attachments{"path": "com.shop.Admin"}}, yes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for action, denies := range map[string]bool{"ALLOW": tt.want != yes, "DENY": tt.want != no, "LOG": false} {
				s := chain{http: fmt.Sprintf(`{name: rbac, typed_config: {%s, rules: {action: %s, policies: {p: %s}}}}`, httpRBAC, action, tt.policy)}.load(t)
				var p filter.Policies
				var v filter.Verdict
				p.Access(place(s, 0), subjectOf(t, tt.call), &v)
				if (v.Why == rpc.WhyDenied) != denies || v.Why != rpc.WhyDenied && v.Why != rpc.WhyNone {
					t.Errorf("%s: %q, want denied: %v", action, v.Why, denies)
				}
				if wantName := action == "ALLOW" && tt.want == yes || action == "DENY" && tt.want != no; (v.Policy == "p") != wantName {
					t.Errorf("%s: policy %q", action, v.Policy)
				}
				if (v.Filter == "rbac") != denies {
					t.Errorf("%s: filter %q", action, v.Filter)
				}
			}
		})
	}
}

func TestRulesWithoutPolicies(t *testing.T) {
	for rules, want := range map[string]rpc.Why{
		`rules: {}`:                     rpc.WhyDenied, // Istio's "allow nothing"
		`rules: {action: DENY}`:         rpc.WhyNone,
		`rules: {action: LOG}`:          rpc.WhyNone,
		`shadow_rules: {}`:              rpc.WhyNone,
		`rules_stat_prefix: "nothing_"`: rpc.WhyNone,
	} {
		s := chain{http: `{name: rbac, typed_config: {` + httpRBAC + `, ` + rules + `}}`}.load(t)
		var p filter.Policies
		var v filter.Verdict
		if p.Access(place(s, 0), subjectOf(t, call{method: "Order.place"}), &v); v.Why != want {
			t.Errorf("%s: %q, want %q", rules, v.Why, want)
		}
	}
}

// The filters of istiod for an audit, a DENY with a dry run and an ALLOW, in their order.
func TestSeveralFilters(t *testing.T) {
	rules := func(action, name, method string) string {
		return fmt.Sprintf(`{action: %s, policies: {%s: %s}}`, action, name, policy(`{header: {name: method, string_match: {exact: `+method+`}}}`))
	}
	s := chain{http: `
		{name: rbac, typed_config: {` + httpRBAC + `, rules: ` + rules("LOG", "audit", "place") + `}},
		{name: rbac, typed_config: {` + httpRBAC + `, rules: ` + rules("DENY", "deny", "drop") + `, shadow_rules: ` + rules("DENY", "dry", "place") + `}},
		{name: rbac, typed_config: {` + httpRBAC + `, rules: ` + rules("ALLOW", "allow", "place") + `, shadow_rules_stat_prefix: dry_}}`}.load(t)
	for method, want := range map[string]filter.Verdict{
		"place": {Policy: "allow", Shadow: "rbac"},
		"drop":  {Why: rpc.WhyDenied, Filter: "rbac", Policy: "deny"},
		"find":  {Why: rpc.WhyDenied, Filter: "rbac"},
	} {
		var p filter.Policies
		var v filter.Verdict
		p.Access(place(s, 0), subjectOf(t, call{method: "Order." + method}), &v)
		if v.Why != want.Why || v.Filter != want.Filter || v.Policy != want.Policy || v.Shadow != want.Shadow {
			t.Errorf("%s: %+v, want %+v", method, v, want)
		}
		v.Count()
		v.Kept().Count() // for one more request of the kind
		got := make(map[string]uint64)
		for _, c := range p.Tally.All() {
			if c.Total > 0 {
				got[c.Labels.Mode+" "+c.Labels.Action+" "+c.Labels.Policy+" "+c.Labels.Result] = c.Total
			}
		}
		counted := map[string]map[string]uint64{
			"place": {"enforced log audit logged": 2, "shadow deny dry denied": 2, "enforced deny  allowed": 2, "enforced allow allow allowed": 2},
			"drop":  {"shadow deny  allowed": 2, "enforced deny deny denied": 2},
			"find":  {"shadow deny  allowed": 2, "enforced deny  allowed": 2, "enforced allow  denied": 2},
		}[method]
		if fmt.Sprint(got) != fmt.Sprint(counted) {
			t.Errorf("%s: counted %v, want %v", method, got, counted)
		}
	}
}

// What an earlier ALLOW let pass, a later one denies by no policy of that earlier one.
func TestSeveralAllows(t *testing.T) {
	allow := func(method string) string {
		return `{name: ` + method + `, typed_config: {` + httpRBAC + `, rules: {policies: {` + method + `: ` +
			policy(`{header: {name: method, string_match: {prefix: `+method+`}}}`) + `}}}}`
	}
	s := chain{http: allow("p") + `, ` + allow("place")}.load(t)
	for method, want := range map[string]filter.Verdict{
		"placeAll": {Policy: "place"},
		"pay":      {Why: rpc.WhyDenied, Filter: "place"},
		"find":     {Why: rpc.WhyDenied, Filter: "p"},
	} {
		var p filter.Policies
		var v filter.Verdict
		p.Access(place(s, 0), subjectOf(t, call{method: "Order." + method}), &v)
		if v.Why != want.Why || v.Filter != want.Filter || v.Policy != want.Policy {
			t.Errorf("%s: %+v, want %+v", method, v, want)
		}
	}
}

// A route's filters replace the listener's of that name; the virtual host's and the
// configuration's, where it has none.
func TestPerRoute(t *testing.T) {
	own := func(name string) string {
		return fmt.Sprintf(`{%s, rbac: {rules: {action: DENY, policies: {%s: %s}}}}`, perRoute, name, policy(`{any: true}`))
	}
	s := chain{
		http: `{name: a, typed_config: {` + httpRBAC + `, rules: {action: DENY, policies: {listener-a: ` + policy(`{any: true}`) + `}}}},
			{name: b, typed_config: {` + httpRBAC + `, rules: {action: DENY, policies: {listener-b: ` + policy(`{any: true}`) + `}}}}`,
		config: `{a: ` + own("config-a") + `, b: ` + own("config-b") + `}`,
		host:   `typed_per_filter_config: {a: ` + own("host-a") + `},`,
		routes: `{match: {prefix: /1}, route: {cluster: c}, typed_per_filter_config: {a: ` + own("route-a") + `}},
			{match: {prefix: /2}, route: {cluster: c}, typed_per_filter_config: {a: {` + perRoute + `}}},
			{match: {prefix: /3}, route: {cluster: c}, typed_per_filter_config: {a: {` + perRoute + `, rbac: {}}, b: {` + perRoute + `}, unknown: ` + own("x") + `}},
			{match: {prefix: /}, route: {cluster: c}}`,
	}.load(t)
	for nth, want := range []string{"route-a", "config-b", "", "host-a"} {
		var p filter.Policies
		var v filter.Verdict
		if p.Access(place(s, nth), subjectOf(t, call{method: "Order.place"}), &v); v.Policy != want {
			t.Errorf("route %d: policy %q, want %q", nth, v.Policy, want)
		}
	}
	var p filter.Policies
	var v filter.Verdict
	if p.Access(filter.Place{Listener: s.Listeners[0]}, subjectOf(t, call{method: "Order.place"}), &v); v.Policy != "listener-a" {
		t.Errorf("without a route: policy %q", v.Policy)
	}
	if p.Access(filter.Place{}, subjectOf(t, call{method: "Order.place"}), &v); v.Why != rpc.WhyNone || v.Policy != "" {
		t.Errorf("without a listener: %+v", v)
	}
}
