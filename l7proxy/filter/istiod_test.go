package filter_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// recorded returns the RBAC filters of the chain of this name in what a real istiod
// sent to a provider, as the filters of a listener of ours: the rest of istiod's chain
// is TLS, which is not theirs.
func recorded(t *testing.T, scenario, name string) *snapshot.Snapshot {
	t.Helper()
	text, err := os.ReadFile("../xds/testdata/istiod/" + scenario + ".provider/listeners.json")
	if err != nil {
		t.Fatal(err)
	}
	type named struct {
		Name        string          `json:"name"`
		TypedConfig json.RawMessage `json:"typedConfig"`
	}
	var listeners []struct {
		FilterChains []struct {
			Name    string  `json:"name"`
			Filters []named `json:"filters"`
		} `json:"filterChains"`
	}
	if err := json.Unmarshal(text, &listeners); err != nil {
		t.Fatal(err)
	}
	var c chain
	keep := func(f named, into *string) {
		if one, err := json.Marshal(f); err == nil && strings.Contains(f.Name, "rbac") {
			*into += string(one) + ", "
		}
	}
	found := false
	for _, l := range listeners {
		for _, fc := range l.FilterChains {
			if fc.Name != name || found {
				continue
			}
			for _, f := range fc.Filters {
				keep(f, &c.network)
				var m struct {
					HTTPFilters []named `json:"httpFilters"`
				}
				if err := json.Unmarshal(f.TypedConfig, &m); err != nil {
					t.Fatal(err)
				}
				for _, h := range m.HTTPFilters {
					keep(h, &c.http)
				}
				found = found || strings.Contains(c.network+c.http, "rbac")
			}
		}
	}
	if !found {
		t.Fatalf("no chain %s with RBAC", name)
	}
	return c.load(t)
}

const (
	first = "ns[dubbo-demo]-policy[allow-tcp]-rule[0]"
	other = "ns[dubbo-demo]-policy[allow-tcp]-rule[1]"
	calls = "ns[dubbo-demo]-policy[http-methods]-rule[0]"
)

// TestIstiodRequests: AuthorizationPolicies audit, deny-tcp, deny-http, dryrun,
// allow-tcp and http-methods of the scenario authz, in an HTTP chain.
func TestIstiodRequests(t *testing.T) {
	s := recorded(t, "authz", "0.0.0.0_20881")
	const service = "org.apache.dubbo.samples.basic.api.DemoService"
	if n := len(s.Listeners[0].RBAC); n != 3 {
		t.Fatalf("%d filters, want those of AUDIT, DENY and ALLOW", n)
	}
	for _, tt := range []struct {
		name        string
		iface       string
		method      string
		sa          string
		from, to    string
		undecodable bool
		deny        bool
		policy      string
		shadow      bool
	}{
		{name: "allowed by port", sa: "dubbo-demo/consumer", to: "198.18.1.11:20880", iface: service, method: "x", policy: first},
		{name: "allowed by namespace", sa: "other/x", to: "198.18.1.11:20880", iface: service, method: "x", policy: first},
		{name: "another port", sa: "dubbo-demo/consumer", to: "198.18.1.11:20881", iface: service, method: "sayHello", policy: calls},
		{name: "by a method's prefix", sa: "dubbo-demo/consumer", to: "198.18.1.11:20881", iface: service, method: "getAll", policy: calls},
		{name: "another method", sa: "dubbo-demo/consumer", to: "198.18.1.11:20881", iface: service, method: "put", deny: true},
		{name: "another interface", sa: "dubbo-demo/consumer", to: "198.18.1.11:20881", iface: service + "s", method: "sayHello", deny: true},
		{name: "another service account", sa: "dubbo-demo/x", to: "198.18.1.11:20880", iface: service, method: "sayHello", deny: true},
		{name: "dangerous", sa: "dubbo-demo/consumer", to: "198.18.1.11:20880", iface: service, method: "dangerous", deny: true,
			policy: "ns[dubbo-demo]-policy[deny-http]-rule[0]"},
		{name: "not decodable", sa: "dubbo-demo/consumer", to: "198.18.1.11:20880", undecodable: true, deny: true,
			policy: "ns[dubbo-demo]-policy[deny-http]-rule[0]"},
		{name: "nobody", to: "198.18.1.11:20880", iface: service, method: "sayHello", deny: true},
		{name: "a dry run", sa: "dry/x", to: "198.18.1.11:20880", iface: service, method: "sayHello", deny: true, shadow: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			subject := subjectOf(t, call{sa: tt.sa, from: tt.from, to: tt.to})
			subject.Reset(&rpc.Request{Interface: tt.iface, Method: tt.method, Undecodable: tt.undecodable})
			var p filter.Policies
			var v filter.Verdict
			p.Access(place(s, 0), subject, &v)
			if (v.Why == rpc.WhyDenied) != tt.deny || v.Policy != tt.policy || (v.Shadow != "") != tt.shadow {
				t.Errorf("%+v, want denied %v by %q, shadow %v", v, tt.deny, tt.policy, tt.shadow)
			}
		})
	}
	if n := place(s, 0).Needs(false); n.PerRequest || n.Body || !n.Access {
		t.Errorf("at the consumer they need %+v", n)
	}
	if n := place(s, 0).Needs(true); !n.PerRequest || !n.Body {
		t.Errorf("at the provider they need %+v", n)
	}
}

// TestIstiodConnections: the same in a TCP chain, in which deny-http denies everybody.
func TestIstiodConnections(t *testing.T) {
	s := recorded(t, "authz", "0.0.0.0_20880")
	gate := s.Listeners[0].Gate
	if gate == nil || len(gate.RBAC) != 3 {
		t.Fatalf("gate %+v", gate)
	}
	var p filter.Policies
	var v filter.Verdict
	subject := subjectOf(t, call{sa: "dubbo-demo/consumer", to: "198.18.1.11:20880"})
	subject.Reset(nil)
	p.Connection(gate, subject, workload(), &v)
	if v.Why != rpc.WhyDenied || v.Policy != "ns[dubbo-demo]-policy[deny-http]-rule[0]" {
		t.Errorf("%+v", v)
	}
	// Without the DENY, the ALLOW decides.
	allow := &snapshot.Gate{RBAC: gate.RBAC[2:]}
	for sa, want := range map[string]string{"dubbo-demo/consumer": first, "other/any": first, "dubbo-demo/x": "", "": ""} {
		subject := subjectOf(t, call{sa: sa, to: "198.18.1.11:20880"})
		subject.Reset(nil)
		if p.Connection(allow, subject, workload(), &v); v.Policy != want || (v.Why == rpc.WhyNone) != (want != "") {
			t.Errorf("%s: %+v, want %q", sa, v, want)
		}
	}
	// Rule 1 alone: a service account, from anywhere but one block.
	rules := *gate.RBAC[2].Rules
	rules.Policies = rules.Policies[1:]
	second := &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "second", Rules: &rules}}}
	for from, want := range map[string]string{"198.18.1.10": other, "198.18.9.1": ""} {
		subject := subjectOf(t, call{sa: "dubbo-demo/consumer", from: from, to: "198.18.1.11:20880"})
		subject.Reset(nil)
		if p.Connection(second, subject, workload(), &v); v.Policy != want || (v.Why == rpc.WhyNone) != (want != "") {
			t.Errorf("from %s: %+v, want %q", from, v, want)
		}
	}
}
