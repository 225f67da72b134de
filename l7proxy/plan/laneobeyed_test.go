package plan

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/workload"
)

// TestLaneOfTraces: the kernel draws which calls have spans, where not all have, and only
// where somebody is told of them.
func TestLaneOfTraces(t *testing.T) {
	h, body := call("echo")
	for _, tt := range []struct {
		name    string
		tracing *tracing.Tracing
		traced  bool
		sampled uint32
	}{
		{"none", nil, false, 0},
		{"nobody is told", &tracing.Tracing{Share: 10_000}, false, 0},
		{"traces of others alone", &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}}, true, 0},
		{"one in a hundred", &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: 10_000}, true, 10_000},
		{"almost all", &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: snapshot.Million - 1}, true, snapshot.Million - 1},
	} {
		r := laneRig(t, vip, pod1, pod2, pod3)
		r.configure(pod1, pod2)
		r.publish(onListeners(func(l *snapshot.Listener) { l.Tracing = tt.tracing }))
		if v := r.lane(t, h, body); v.Reason != verdict.Lane || v.Traced != tt.traced || v.Sampled != tt.sampled {
			t.Errorf("%s: %q, traced %v, %d sampled", tt.name, v.Reason, v.Traced, v.Sampled)
		}
	}
}

// TestLaneOfLimits: a limit of requests in flight is each share's, counted where the
// planner's own requests are; an address in two clusters with limits has two counts.
func TestLaneOfLimits(t *testing.T) {
	h, body := call("echo")
	r := laneRig(t, vip, pod1, pod2, pod3)
	r.configure(pod1, pod2)
	r.publish(onCluster(func(c *snapshot.Cluster) { n := uint32(20); c.MaxRequests = &n }))
	v := r.lane(t, h, body)
	if v.Reason != verdict.Lane || len(v.Shares) != 1 || v.Shares[0].Limit != 20 || v.Shares[0].Breaker != r.env.Breakers.Of(r.source.Workload.UID, "c") {
		t.Fatalf("%q: %+v", v.Reason, v.Shares)
	}
	v.Shares[0].Ends[0].Succeeded(1) // whose endpoint is behind its breaker
	other := func(limit *uint32) change {
		return func(s *snapshot.Snapshot) {
			onCluster(func(c *snapshot.Cluster) { n := uint32(20); c.MaxRequests = &n })(s)
			two := *s.Clusters["c"]
			two.Name, two.MaxRequests = "d", limit
			s.Clusters["d"] = &two
			onRoute(func(r *snapshot.Route) {
				r.Action.Clusters, r.Action.Total = []snapshot.WeightedCluster{{Cluster: "c", Weight: 1}, {Cluster: "d", Weight: 1}}, 2
			})(s)
		}
	}
	many := uint32(30)
	for name, limit := range map[string]*uint32{"another": &many, "none": nil} {
		r.publish(other(limit))
		if v := r.lane(t, h, body); v.Reason != verdict.Breaker {
			t.Errorf("two clusters of the same pods, the second with %s: %q", name, v.Reason)
		}
	}
}

// TestLaneOfMixed: of clusters with weights those that have an endpoint elsewhere are the
// proxy's, until they have none.
func TestLaneOfMixed(t *testing.T) {
	h, body := call("echo")
	r := laneRig(t, vip, pod1, pod2)
	r.configure(pod1, pod2)
	r.publish(func(s *snapshot.Snapshot) {
		onCluster(func(*snapshot.Cluster) {})(s)
		there := *s.Clusters["c"]
		there.Name = "d"
		there.Localities = []*snapshot.Locality{{Endpoints: []*snapshot.Endpoint{{Address: pod3, Weight: 1, Healthy: true}}}}
		s.Clusters["d"] = &there
		onRoute(func(r *snapshot.Route) {
			r.Action.Clusters, r.Action.Total = []snapshot.WeightedCluster{{Cluster: "d", Weight: 1}, {Cluster: "c", Weight: 4}}, 5
		})(s)
	})
	v := r.lane(t, h, body)
	if v.Reason != verdict.Lane || len(v.Shares) != 2 || !v.Shares[0].Remote || v.Shares[0].Target != 1 || v.Shares[0].Weight != 1 ||
		v.Shares[1].Remote || v.Shares[1].Target != 2 || v.Shares[1].Weight != 4 || !v.Stands() {
		t.Fatalf("%q, stands %v: %+v", v.Reason, v.Stands(), v.Shares)
	}
	for target, want := range map[int]string{1: "d", 2: "c"} {
		for range 50 {
			r.Lead(router.Lead{Target: target})
			if e, _ := r.Edge(h, body); e.Remote.Cluster != want {
				t.Fatalf("target %d leads to %s", target, e.Remote.Cluster)
			}
		}
	}
	r.Lead(router.Lead{})
	r.env.Workloads.Put(workload.New(handoff.Workload{
		UID: "shop/p9", Name: "p", Namespace: "shop", Addresses: []netip.Addr{pod3.Addr()}, Ports: []uint16{pod3.Port()},
	}))
	if v.Stands() {
		t.Error("the pod is of this node now, and the verdict stands")
	}
	if v = r.lane(t, h, body); v.Reason != verdict.Lane || v.Shares[0].Remote || len(v.Shares[0].Ends) != 1 {
		t.Errorf("%q: %+v", v.Reason, v.Shares)
	}
}

// TestLaneIsCounted: what the lane has answered is counted by the policies that let its name pass,
// as often as that was; and nothing is where there are none.
func TestLaneIsCounted(t *testing.T) {
	h, body := call("echo")
	for name, tt := range map[string]struct {
		rules []*snapshot.RBAC
		want  uint64
	}{"no policies": {nil, 0}, "one": {[]*snapshot.RBAC{anything}, 5}, "two": {[]*snapshot.RBAC{anything, anything}, 10}} {
		r := laneRig(t, vip, pod1, pod2, pod3)
		r.configure(pod1, pod2)
		r.publish(onListeners(func(l *snapshot.Listener) { l.RBAC = tt.rules }))
		v := r.lane(t, h, body)
		if v.Reason != verdict.Lane {
			t.Fatalf("%s: %s", name, v.Reason)
		}
		counted := func() (n uint64) {
			for _, c := range r.env.Policies.Tally.All() {
				n += c.Total
			}
			return n
		}
		before := counted()
		ended := v.Ended(v.Shares[0].Ends[0].Edge)
		ended(2)
		ended(3)
		if got := counted() - before; got != tt.want {
			t.Errorf("%s: %d verdicts are counted of 5 calls, want %d", name, got, tt.want)
		}
	}
}
