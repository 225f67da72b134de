package plan

import (
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/workload"
)

// denying is an RBAC filter that denies what has a header of this value.
func denying(name, value string) *snapshot.RBAC {
	h := &snapshot.HeaderMatch{Name: name, Value: value}
	return &snapshot.RBAC{Name: "rbac", Rules: &snapshot.Rules{Action: snapshot.RBACDeny, Needs: h.Needs(), Policies: []snapshot.RBACPolicy{
		{Name: "p", Permission: snapshot.Term{Kind: snapshot.TermHeader, Header: h}, Principal: snapshot.Term{Kind: snapshot.TermAny}},
	}}}
}

// attached is call with the attachment tier.
func attached(method, tier string) (codec.Header, []byte) {
	h, body := call(method)
	body = append(body, '\x01', 'x') // the argument
	body = append(body, 'H', '\x04')
	body = append(append(body, "tier"...), byte(len(tier)))
	body = append(append(body, tier...), 'Z')
	h.Body = len(body)
	return h, body
}

func TestPoliciesRefuse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(l *snapshot.Listener)
		method string
		tier   string
		why    rpc.Why
		policy string
	}{
		{"nothing", func(*snapshot.Listener) {}, "drop", "", rpc.WhyNone, ""},
		{"a method", func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "drop")} }, "drop", "", rpc.WhyDenied, "p"},
		{"another method", func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "drop")} }, "find", "", rpc.WhyNone, ""},
		{"an attachment", func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("tier", "vip")} }, "drop", "vip", rpc.WhyDenied, "p"},
		{"another attachment", func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("tier", "vip")} }, "drop", "gold", rpc.WhyNone, ""},
		{"an echo, which is pinned", func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "$echo")} }, "$echo", "", rpc.WhyDenied, "p"},
		{"a gate", func(l *snapshot.Listener) {
			l.Gate = &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "tcp", Rules: &snapshot.Rules{}}}}
		}, "find", "", rpc.WhyDenied, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, pod1, pod1)
			for _, l := range r.snap.Listeners {
				tt.change(l)
			}
			h, body := attached(tt.method, tt.tier)
			for range 3 {
				e, why := r.Edge(h, body)
				policy, _ := r.Policy()
				if why != tt.why || policy != tt.policy || e.Remote.Method != tt.method {
					t.Errorf("%s: %q by %q", e.Remote.Method, why, policy)
				}
			}
			var total uint64
			for _, c := range r.env.Policies.Tally.All() {
				total += c.Total
			}
			if want := map[string]uint64{"nothing": 0, "a gate": 1}; total != 3 && total != want[tt.name] || total == 0 != (tt.name == "nothing") {
				t.Errorf("%d verdicts are counted", total)
			}
		})
	}
}

// TestLimitsCountRequests: one that is routed twice takes one token.
func TestLimitsCountRequests(t *testing.T) {
	r := newRig(t, vip, pod1, pod2)
	for _, l := range r.snap.Listeners {
		l.Limits = []*snapshot.Limit{{
			Name: "limit", Bucket: &snapshot.Bucket{Max: 2, Fill: 1, Interval: time.Hour}, Always: true, Enabled: 1_000_000, Enforced: 1_000_000,
		}}
	}
	h, body := call("echo")
	for i, want := range []rpc.Why{rpc.WhyNone, rpc.WhyNone, rpc.WhyLimited} {
		if _, why := r.Edge(h, body); why != want {
			t.Errorf("request %d: %q, want %q", i, why, want)
		}
		if _, why := r.Elsewhere(h, body, pod1); i < 2 && why != rpc.WhyNone {
			t.Errorf("request %d, again: %q", i, why)
		}
	}
}

// TestPrincipal: the pod of the connection is who calls.
func TestPrincipal(t *testing.T) {
	r := newRig(t, vip, pod1)
	r.source.Workload = workload.New(handoff.Workload{UID: "u", Name: "w", Namespace: "shop", ServiceAccount: "web"})
	web := snapshot.Term{Kind: snapshot.TermPrincipal, Header: &snapshot.HeaderMatch{Value: "spiffe://cluster.local/ns/shop/sa/web"}}
	for _, l := range r.snap.Listeners {
		l.RBAC = []*snapshot.RBAC{{Name: "rbac", Rules: &snapshot.Rules{Policies: []snapshot.RBACPolicy{
			{Name: "web", Permission: snapshot.Term{Kind: snapshot.TermAny}, Principal: web},
		}}}}
	}
	h, body := call("echo")
	if _, why := r.Edge(h, body); why != rpc.WhyNone {
		t.Error(why)
	}
}

func TestPoliciesAllocateNothing(t *testing.T) {
	for name, change := range map[string]func(l *snapshot.Listener){
		"none":      func(*snapshot.Listener) {},
		"by method": func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "drop")} },
		"by tier":   func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("tier", "vip")} },
		"with limit": func(l *snapshot.Listener) {
			l.Limits = []*snapshot.Limit{{Name: "limit", Bucket: &snapshot.Bucket{Max: 1e6, Fill: 1, Interval: time.Hour}, Enabled: 1e6, Enforced: 1e6}}
		},
	} {
		r := newRig(t, vip, pod1)
		for _, l := range r.snap.Listeners {
			change(l)
		}
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

func BenchmarkEdge(b *testing.B) {
	for name, change := range map[string]func(l *snapshot.Listener){
		"none":   func(*snapshot.Listener) {},
		"method": func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "drop")} },
		"tier":   func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("tier", "vip")} },
		"limited": func(l *snapshot.Listener) {
			l.Limits = []*snapshot.Limit{{Name: "limit", Bucket: &snapshot.Bucket{Max: 1 << 31, Fill: 1, Interval: time.Hour}, Always: true, Enabled: 1e6, Enforced: 1e6}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(new(testing.T), vip, pod1)
			for _, l := range r.snap.Listeners {
				change(l)
			}
			h, body := attached("find", "gold")
			for b.Loop() {
				r.Edge(h, body)
			}
		})
	}
}
