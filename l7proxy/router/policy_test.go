package router

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// guarded is the shop with policies: placing is for the web, strangers do not connect
// to redis, and the canary is for nobody.
func guarded() *snapshot.Snapshot {
	s := shop()
	condition := func(name, value string) snapshot.Term {
		return snapshot.Term{Kind: snapshot.TermHeader, Header: &snapshot.HeaderMatch{Name: name, Value: value}}
	}
	web := snapshot.Term{Kind: snapshot.TermPrincipal, Header: &snapshot.HeaderMatch{Name: "principal", Value: "spiffe://cluster.local/ns/shop/sa/web"}}
	not := func(t snapshot.Term) snapshot.Term {
		return snapshot.Term{Kind: snapshot.TermNot, Terms: []snapshot.Term{t}}
	}
	all := snapshot.Term{Kind: snapshot.TermAny}
	rules := func(action snapshot.RBACAction, name string, what, who snapshot.Term) *snapshot.Rules {
		return &snapshot.Rules{Action: action, Policies: []snapshot.RBACPolicy{{Name: name, Permission: what, Principal: who}}}
	}
	for _, l := range s.Listeners {
		switch l.Name {
		case "orders":
			l.RBAC = []*snapshot.RBAC{{
				Name: "rbac", Rules: rules(snapshot.RBACDeny, "web-places", condition("method", "place"), not(web)),
				Shadow: rules(snapshot.RBACAllow, "dry", condition("method", "find"), all),
			}}
			l.Limits = []*snapshot.Limit{{Name: "limit", Bucket: &snapshot.Bucket{Max: 10, Fill: 5, Interval: time.Second}, Enabled: million, Enforced: 500_000}}
			l.Globals = []*snapshot.Global{
				{Name: "global", Domain: "shop", Service: snapshot.RateService{Cluster: "limits"}, Enabled: million},
				{Name: "other", Stage: 1, Enabled: million},
			}
			l.Faults = []*snapshot.Fault{{Name: "idle"}, {
				Name: "fault", Delay: 2 * time.Second, Delayed: 500_000, Abort: &snapshot.Abort{Status: 80}, Aborted: 10_000,
				Cluster: "c", Headers: make([]snapshot.HeaderMatch, 1),
			}}
			for _, r := range l.Route.VirtualHosts[0].Routes {
				if r.Match.Fraction == million {
					r.Policies = &snapshot.RoutePolicies{Rates: []snapshot.Rate{
						{Actions: []snapshot.RateAction{{Key: "all", Value: "x"}, {Kind: snapshot.RateHeader, Key: "method", Headers: []snapshot.HeaderMatch{{Name: "method"}}}}},
						{Actions: []snapshot.RateAction{{Kind: snapshot.RateHeader, Key: "tier", Headers: []snapshot.HeaderMatch{{Name: "tier"}}}}},
					}}
				}
				if r.Match.Fraction < million { // the canary
					r.Policies = &snapshot.RoutePolicies{RBAC: map[string]*snapshot.RBAC{
						"rbac": {Name: "rbac", Rules: &snapshot.Rules{}},
					}, Abort: &snapshot.Abort{Class: "java.lang.IllegalStateException"}}
				}
			}
		case "redis":
			l.TCPGate = &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "tcp", Rules: rules(snapshot.RBACAllow, "web", all, web)}}}
		}
	}
	return s
}

func TestExplainPolicies(t *testing.T) {
	web := &subject.Consumer{Principal: "spiffe://cluster.local/ns/shop/sa/web"}
	for _, tt := range []struct {
		name    string
		method  string // "": an opaque connection to redis
		group   string
		from    *subject.Consumer
		outcome Outcome
		reason  string
		steps   []string
	}{
		{"placed by the web", "place", "", web, OutcomeRoute, "", []string{
			"rules rbac passes no DENY policy matches, for spiffe://cluster.local/ns/shop/sa/web",
			"shadow rules rbac denies no ALLOW policy matches, for spiffe://cluster.local/ns/shop/sa/web; not enforced",
			"rate limit limit limits of 100 %, refuses 50 % without a token; at most 10, 5 more each 1s",
			"global rate limit global asks cluster limits, which does not exist, domain shop: (all=x, method=place)",
			"global rate limit other passes no rate of stage 1 describes it: nobody is asked",
			"fault fault injects delays 50 % by 2s; aborts 1 % with status 80; of requests to cluster c; headers that must match: 1",
		}},
		{"placed by nobody", "place", "", nil, OutcomeRefuse, "denied by policy: web-places", []string{
			"rules rbac denies DENY policy web-places matches, for one who is not authenticated",
		}},
		{"found by nobody", "find", "", nil, OutcomeRoute, "", []string{
			"shadow rules rbac passes ALLOW policy dry matches, for one who is not authenticated; not enforced",
		}},
		{"the canary's share alone", "find", "blue", web, OutcomeRoute, "", []string{
			"rules rbac denies no ALLOW policy matches, for spiffe://cluster.local/ns/shop/sa/web",
			"rules rbac passes no DENY policy matches, for spiffe://cluster.local/ns/shop/sa/web",
		}},
		{"redis of nobody", "", "", nil, OutcomeRefuse, "denied by policy", []string{
			"connection: rules tcp denies no ALLOW policy matches, for one who is not authenticated",
		}},
		{"redis of the web", "", "", web, OutcomeTCP, "", []string{
			"connection: rules tcp passes ALLOW policy web matches, for spiffe://cluster.local/ns/shop/sa/web",
		}},
	} {
		q := Question{Destination: netip.MustParseAddrPort("198.19.0.21:6379"), Consumer: tt.from, Group: tt.group}
		if tt.method != "" {
			q.Destination, q.Interface, q.Method = netip.MustParseAddrPort("198.19.0.20:20880"), "org.shop.OrderService", tt.method
		}
		d := Explain(guarded(), q)
		if d.Outcome != tt.outcome || d.Reason != tt.reason {
			t.Errorf("%s: %s, %q; want %s, %q", tt.name, d.Outcome, d.Reason, tt.outcome, tt.reason)
		}
		var said []string
		for _, s := range d.Steps {
			said = append(said, s.Object+" "+s.Verdict+" "+s.Why)
		}
		all := "\n" + strings.Join(said, "\n") + "\n"
		for _, step := range tt.steps {
			if !strings.Contains(all, "\n"+step+"\n") {
				t.Errorf("%s: no step %q in%s", tt.name, step, all)
			}
		}
	}
}
