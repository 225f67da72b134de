package plan

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

var pod4 = netip.MustParseAddrPort("192.0.2.4:20880")

// mixedRig is a rig whose cluster has pod1 and pod2 of this node and pod3 and pod4 elsewhere.
func mixedRig(t *testing.T, f func(*snapshot.Cluster)) *rig {
	t.Helper()
	r := laneRig(t, vip, pod1, pod2)
	r.configure(pod1, pod2)
	r.publish(onCluster(func(c *snapshot.Cluster) {
		for _, at := range []netip.AddrPort{pod3, pod4} {
			c.Localities[0].Endpoints = append(c.Localities[0].Endpoints, &snapshot.Endpoint{Address: at, Weight: 1, Healthy: true})
		}
		f(c)
	}))
	return r
}

func least(c *snapshot.Cluster) { c.Policy, c.Bias = snapshot.LeastRequest, 1 }

func random(c *snapshot.Cluster) { c.Policy = snapshot.Random }

// TestLaneOfElsewhere: endpoints elsewhere leave the others of their cluster to the lane.
func TestLaneOfElsewhere(t *testing.T) {
	h, body := call("echo")
	r := mixedRig(t, least)
	v := r.lane(t, h, body)
	if v.Reason != verdict.Lane || len(v.Shares) != 1 || !v.Stands() {
		t.Fatalf("%q, stands %t", v.Reason, v.Stands())
	}
	s := v.Shares[0]
	if s.Remote || len(s.Ends) != 2 || len(s.Elsewhere) != 2 || s.Draws != 2 || s.Elsewhere[0].Address != pod3 || s.Elsewhere[1].Edge != nil {
		t.Fatalf("%+v", s)
	}
	if n := testing.AllocsPerRun(10, func() { v.Stands() }); n != 0 {
		t.Errorf("%v allocations to ask whether it stands", n)
	}
	for _, at := range []netip.AddrPort{pod3, pod1, pod4} {
		for range 50 {
			r.Lead(router.Lead{Endpoint: at})
			if e, why := r.Edge(h, body); why != rpc.WhyNone || e.Remote.Endpoint != at {
				t.Fatalf("what is drawn for %s goes to %s: %q", at, e.Remote.Endpoint, why)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		r.Lead(router.Lead{Endpoint: pod3})
		r.Edge(h, body)
	}); n != 0 {
		t.Errorf("%v allocations for a request that is led", n)
	}
	// Each counts for itself, those of lanes too.
	r.Lead(router.Lead{Endpoint: pod3})
	e, _ := r.Edge(h, body)
	if s.Elsewhere[0].Active.Load() != 0 {
		t.Error("a request counts that is only planned")
	}
	e.Endpoint.Begin()
	if s.Elsewhere[0].Active.Load() != 1 || s.Elsewhere[1].Active.Load() != 0 {
		t.Error("a request in flight does not count")
	}
	e.Endpoint.End(rpc.OutcomeOK)
}

// TestLaneOfElsewhereStands: what endpoints elsewhere become ends the verdict, where it would be
// another.
func TestLaneOfElsewhereStands(t *testing.T) {
	h, body := call("echo")
	near := func(at netip.AddrPort) func(*rig) {
		return func(r *rig) {
			r.env.Workloads.Put(workload.New(handoff.Workload{
				UID: "shop/new", Name: "p", Namespace: "shop", Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{at.Port()},
			}))
		}
	}
	for _, tt := range []struct {
		name   string
		policy func(*snapshot.Cluster)
		change func(*rig)
		stands bool
		back   verdict.Reason // of the next one
		away   int            // its endpoints elsewhere
	}{
		{"one is of this node now", least, near(pod3), false, verdict.Lane, 1},
		{"another pod is", least, near(netip.MustParseAddrPort("192.0.2.77:20880")), true, verdict.Lane, 2},
		{"one of this node is gone", random, func(r *rig) { r.env.Workloads.Remove("shop/p1") }, false, verdict.Lane, 3},
		{"one cannot be reached", least, func(r *rig) { endpoint(r, pod3).Failed() }, false, verdict.Lane, 2},
		{"one cannot be reached, and nobody compares", random, func(r *rig) { endpoint(r, pod3).Failed() }, true, verdict.Lane, 2},
		{"one of this node cannot be reached", random, func(r *rig) { endpoint(r, pod1).Failed() }, false, verdict.Lane, 3},
		{"none of this node can be reached", random, func(r *rig) {
			endpoint(r, pod1).Failed()
			endpoint(r, pod2).Failed()
		}, false, verdict.Avoided, 0},
		{"one of this node judges", random, func(r *rig) {
			r.env.Lane.Guarded = func(w *workload.Workload, _ upstream.Key) bool { return w.UID == "shop/p0" }
		}, false, verdict.Lane, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mixedRig(t, tt.policy)
			v := r.lane(t, h, body)
			if v.Reason != verdict.Lane || !v.Stands() {
				t.Fatalf("%q, stands %t", v.Reason, v.Stands())
			}
			tt.change(r)
			for range 2 { // the second time less is asked
				if v.Stands() != tt.stands {
					t.Errorf("stands: %t", v.Stands())
				}
			}
			v = r.lane(t, h, body)
			if v.Reason != tt.back || tt.away > 0 && (len(v.Shares[0].Elsewhere) != tt.away || !v.Stands()) {
				t.Errorf("anew: %q, %+v", v.Reason, v.Shares)
			}
		})
	}
}

// TestLaneOfGuarded: a provider that judges is elsewhere until it does not.
func TestLaneOfGuarded(t *testing.T) {
	h, body := call("echo")
	judges := "shop/p1"
	r := laneRig(t, vip, pod1, pod2)
	r.configure(pod1, pod2)
	r.env.Lane.Guarded = func(w *workload.Workload, _ upstream.Key) bool { return w.UID == judges }
	v := r.lane(t, h, body)
	if v.Reason != verdict.Lane || len(v.Shares[0].Ends) != 1 || v.Shares[0].Ends[0].Address != pod1 || v.Shares[0].Elsewhere[0].Address != pod2 || !v.Stands() {
		t.Fatalf("%q: %+v", v.Reason, v.Shares)
	}
	if judges = ""; v.Stands() {
		t.Error("it judges no more, and the verdict stands")
	}
}

// TestLaneDrawsAnew: what was drawn for an endpoint that is avoided goes to the others, and in
// panic to one that is not fit.
func TestLaneDrawsAnew(t *testing.T) {
	h, body := call("echo")
	var r *rig
	led := func() map[netip.AddrPort]int {
		counts := make(map[netip.AddrPort]int)
		for range 300 {
			r.Lead(router.Lead{Endpoint: pod3})
			e, _ := r.Edge(h, body)
			counts[e.Remote.Endpoint]++
		}
		return counts
	}
	for _, policy := range []snapshot.Policy{snapshot.RoundRobin, snapshot.Random, snapshot.LeastRequest} {
		r = mixedRig(t, func(c *snapshot.Cluster) { c.Policy, c.ChoiceCount, c.Bias = policy, 2, 1 })
		endpoint(r, pod3).Draining()
		if got := led(); got[pod3] != 0 || got[pod1] < 50 || got[pod2] < 50 || got[pod4] < 50 {
			t.Errorf("policy %d, and it is avoided: %v", policy, got)
		}
	}
	ill := mixedRig(t, func(c *snapshot.Cluster) {
		for _, e := range c.Localities[0].Endpoints {
			e.Healthy = false
		}
		c.PanicThreshold = 50
	})
	if r = ill; led()[pod3] != 300 {
		t.Errorf("in panic: %v", led())
	}
	gone := mixedRig(t, random)
	gone.publish(onCluster(func(c *snapshot.Cluster) { c.Localities[0].Endpoints = c.Localities[0].Endpoints[:2] }))
	if r = gone; led()[pod3] != 0 {
		t.Errorf("it is an endpoint no more: %v", led())
	}
}

// TestLaneOfLoad: what least request asks for that the kernel does, and what it does not.
func TestLaneOfLoad(t *testing.T) {
	h, body := call("echo")
	for _, tt := range []struct {
		name    string
		choices uint32
		bias    float64
		weights []uint32
		want    verdict.Reason
		policy  snapshot.Policy
		draws   uint32
	}{
		{"two of equals", 2, 1, nil, verdict.Lane, snapshot.LeastRequest, 2},
		{"many of equals", lane.Draws, 7, nil, verdict.Lane, snapshot.LeastRequest, lane.Draws},
		{"too many", lane.Draws + 1, 1, nil, verdict.Weighted, 0, 0},
		{"unequal", 2, 1, []uint32{3, 1}, verdict.Lane, snapshot.LeastRequest, 0},
		{"unequal, whatever is in flight", 2, 0, []uint32{3, 1}, verdict.Lane, snapshot.RoundRobin, 0},
		{"unequal, with a bias", 2, 1.5, []uint32{3, 1}, verdict.Weighted, 0, 0},
		{"very unequal", 2, 1, []uint32{1 << 21, 1}, verdict.Weighted, 0, 0},
	} {
		r := mixedRig(t, func(c *snapshot.Cluster) {
			c.Policy, c.ChoiceCount, c.Bias = snapshot.LeastRequest, tt.choices, tt.bias
			for i, w := range tt.weights {
				c.Localities[0].Endpoints[i].Weight = w
			}
		})
		v := r.lane(t, h, body)
		if v.Reason != tt.want || v.Reason == verdict.Lane && (v.Shares[0].Policy != tt.policy || v.Shares[0].Draws != tt.draws) {
			t.Errorf("%s: %q, %+v", tt.name, v.Reason, v.Shares)
		}
	}
}
