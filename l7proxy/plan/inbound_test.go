package plan

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/workload"
)

// provide makes the rig's connection one to a provider's own port, from another node or
// from a pod of this one, and gives the provider listeners.
func (r *rig) provide(local bool, in *snapshot.Inbound) {
	r.source.Inbound, r.source.Original = true, pod1
	r.source.Workload = workload.New(handoff.Workload{UID: "shop/provider", Name: "provider", Namespace: "shop", Addresses: []netip.Addr{pod1.Addr()}})
	r.authority = pod1.String()
	if local {
		r.env.Workloads.Put(workload.New(handoff.Workload{
			UID: "shop/web", Name: "web", Namespace: "shop", ServiceAccount: "web", Addresses: []netip.Addr{r.source.Remote.Addr()},
		}))
	}
	if in != nil {
		for _, l := range []**snapshot.Listener{&in.Known, &in.Plain, &in.TLS} {
			if *l == nil {
				*l = new(snapshot.Listener)
			}
		}
		r.snap.Inbounds = []*snapshot.Inbound{in}
	}
	r.snap.Seal()
}

// only is an RBAC filter that lets one principal pass.
func only(principal string) []*snapshot.RBAC {
	return []*snapshot.RBAC{{Name: "rbac", Rules: &snapshot.Rules{Policies: []snapshot.RBACPolicy{{
		Name: "p", Permission: snapshot.Term{Kind: snapshot.TermAny},
		Principal: snapshot.Term{Kind: snapshot.TermPrincipal, Header: &snapshot.HeaderMatch{Value: principal}},
	}}}}}
}

func TestInboundPolicies(t *testing.T) {
	drop := func() *snapshot.Listener {
		return &snapshot.Listener{Name: "l", RBAC: []*snapshot.RBAC{denying("method", "drop")}}
	}
	web := &snapshot.Listener{Name: "l", RBAC: only("spiffe://cluster.local/ns/shop/sa/web")}
	for _, tt := range []struct {
		name  string
		local bool
		in    *snapshot.Inbound
		why   rpc.Why
	}{
		{"nothing", false, nil, rpc.WhyNone},
		{"a stranger's method", false, &snapshot.Inbound{Workload: "shop/provider", Plain: drop()}, rpc.WhyDenied},
		{"not those of the node", true, &snapshot.Inbound{Workload: "shop/provider", Plain: drop()}, rpc.WhyNone},
		{"those of the node", true, &snapshot.Inbound{Workload: "shop/provider", Known: drop()}, rpc.WhyDenied},
		{"by address", false, &snapshot.Inbound{Address: pod1.Addr(), Port: 20880, Plain: drop()}, rpc.WhyDenied},
		{"another port", false, &snapshot.Inbound{Address: pod1.Addr(), Port: 20881, Plain: drop()}, rpc.WhyNone},
		{"another workload", false, &snapshot.Inbound{Workload: "shop/web", Plain: drop()}, rpc.WhyNone},
		{"whom the node knows", true, &snapshot.Inbound{Workload: "shop/provider", Known: web}, rpc.WhyNone},
		{"whom nobody knows", false, &snapshot.Inbound{Workload: "shop/provider", Plain: web}, rpc.WhyDenied},
		{"who may not connect", false, &snapshot.Inbound{Workload: "shop/provider", Plain: &snapshot.Listener{
			Gate: &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "tcp", Rules: &snapshot.Rules{}}}},
		}}, rpc.WhyDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, pod1, pod1)
			r.provide(tt.local, tt.in)
			h, body := attached("drop", "")
			for range 3 {
				e, why := r.Edge(h, body)
				if why != tt.why || e.Remote.Reporter != rpc.ReporterDestination || e.Remote.Endpoint != pod1 {
					t.Errorf("%q, %+v", why, e.Remote)
				}
				if again, why := r.Elsewhere(h, body, pod1); tt.why == rpc.WhyNone && (why != rpc.WhyNone || again != e) {
					t.Errorf("again: %q", why)
				}
			}
		})
	}
}

// TestTrustDomain: a connection that is older than the node's first certificate is judged by
// the name that its consumer has since then.
func TestTrustDomain(t *testing.T) {
	r := newRig(t, pod1, pod1)
	r.provide(true, &snapshot.Inbound{Workload: "shop/provider", Known: &snapshot.Listener{RBAC: only("spiffe://corp/ns/shop/sa/web")}})
	h, body := attached("find", "gold")
	if e, why := r.Edge(h, body); why != rpc.WhyDenied || e.Remote.SourcePrincipal != "spiffe://cluster.local/ns/shop/sa/web" {
		t.Errorf("before: %q, %+v", why, e.Remote)
	}
	r.ids.Put(&identity.Bundle{ID: identity.ID{TrustDomain: "corp", Account: identity.Account{Namespace: "shop", Name: "any"}}})
	if e, why := r.Edge(h, body); why != rpc.WhyNone || e.Remote.SourcePrincipal != "spiffe://corp/ns/shop/sa/web" {
		t.Errorf("after: %q, %+v", why, e.Remote)
	}
}

// TestInboundRoutes: a provider's routes change its policies, and lead nowhere else.
func TestInboundRoutes(t *testing.T) {
	r := newRig(t, pod1, pod1)
	table := &snapshot.RouteConfig{Name: "inline", Static: true, VirtualHosts: []*snapshot.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: []*snapshot.Route{{
			Match:    snapshot.Match{Path: "/", Fraction: 1_000_000},
			Policies: &snapshot.RoutePolicies{RBAC: map[string]*snapshot.RBAC{"rbac": denying("method", "find")}},
		}},
	}}}
	r.provide(false, &snapshot.Inbound{Workload: "shop/provider", Plain: &snapshot.Listener{
		RouteName: "inline", Route: table, RBAC: []*snapshot.RBAC{denying("method", "drop")},
	}})
	for method, want := range map[string]rpc.Why{"drop": rpc.WhyNone, "find": rpc.WhyDenied} {
		if e, why := r.Edge(attached(method, "")); why != want || e.Remote.Endpoint != pod1 {
			t.Errorf("%s: %q", method, why)
		}
	}
}

// TestInboundTrustsNoWord: a consumer that names one service before its arguments and
// another behind them is refused where the service matters; held whole, it can be.
func TestInboundTrustsNoWord(t *testing.T) {
	r := newRig(t, pod1, pod1)
	allow := denying("interface", "org.x.S")
	allow.Rules.Action = snapshot.RBACAllow
	r.provide(false, &snapshot.Inbound{Workload: "shop/provider", Plain: &snapshot.Listener{RBAC: []*snapshot.RBAC{allow}}})
	if r.Streamable() {
		t.Error("requests are judged by their beginning")
	}
	h, body := attached("find", "gold")
	if _, why := r.Edge(h, body); why != rpc.WhyNone {
		t.Errorf("%q", why)
	}
	const tier, path = "\x04tier\x04gold", "\x04path\x05org.y"
	other := []byte(string(body[:len(body)-len(tier)-1]) + path + "Z")
	h.Body = len(other)
	if _, why := r.Edge(h, other); why != rpc.WhyDenied {
		t.Errorf("a hidden path: %q", why)
	}
}

func TestInboundAllocatesNothing(t *testing.T) {
	for name, l := range map[string]*snapshot.Listener{
		"none": nil, "by method": {RBAC: []*snapshot.RBAC{denying("method", "drop")}}, "by tier": {RBAC: []*snapshot.RBAC{denying("tier", "vip")}},
	} {
		r := newRig(t, pod1, pod1)
		r.provide(false, &snapshot.Inbound{Workload: "shop/provider", Plain: l})
		h, body := attached("find", "gold")
		if n := testing.AllocsPerRun(100, func() {
			if _, why := r.Edge(h, body); why != rpc.WhyNone {
				t.Fatal(why)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestServedService: what comes to a provider's own port is counted for the service that
// istiod says the port is of.
func TestServedService(t *testing.T) {
	r := newRig(t, pod1, pod1)
	name, shop := "inbound|20880||", snapshot.Service{Host: "orders.shop.svc.cluster.local", Name: "orders", Namespace: "shop"}
	r.snap.Clusters[name] = &snapshot.Cluster{Name: name, Service: shop}
	r.provide(false, nil)
	h, body := attached("find", "gold")
	if e, _ := r.Edge(h, body); e.Remote.Service != rpc.Service(shop) {
		t.Errorf("the service is %+v, want %+v", e.Remote.Service, shop)
	}
	r.snap.Clusters[name].Service = snapshot.Service{Host: name, Name: name}
	if got := r.snap.Served(20880); got != (snapshot.Service{}) {
		t.Errorf("of a cluster that says nothing: %+v", got)
	}
}
