package plan

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// headless publishes a headless service as istiod sends it: a listener for a pod's own
// address, a route for one method to the cluster of v2 and a catch-all, all of type
// ORIGINAL_DST, with what is known of their providers.
func (r *rig) headless(all, v2 []netip.AddrPort) {
	to := func(name string, headers ...snapshot.HeaderMatch) *snapshot.Route {
		return &snapshot.Route{
			Name: name, Match: snapshot.Match{Path: "/", Fraction: snapshot.Million, Headers: headers},
			Action: snapshot.Action{Clusters: []snapshot.WeightedCluster{{Cluster: name, Weight: 1}}, Total: 1},
		}
	}
	route := &snapshot.RouteConfig{Name: "r", Static: true, VirtualHosts: []*snapshot.VirtualHost{{
		Name: "v", Domains: []string{"*"},
		Routes: []*snapshot.Route{to("v2", snapshot.HeaderMatch{Name: "method", Value: "news"}), to("all")},
	}}}
	cluster := func(name string, at []netip.AddrPort) *snapshot.Cluster {
		loc := &snapshot.Locality{Weight: 1}
		for _, a := range at {
			loc.Endpoints = append(loc.Endpoints, &snapshot.Endpoint{Address: a, Weight: 1, Healthy: true})
		}
		return &snapshot.Cluster{
			Name: name, Kind: snapshot.ClusterOriginalDst, Overprovision: 140, Localities: []*snapshot.Locality{loc},
			Service: snapshot.Service{Host: "provider"},
		}
	}
	r.snap = (&snapshot.Snapshot{
		Generation: 2, Listeners: []*snapshot.Listener{{Name: "pod1", Prefix: netip.PrefixFrom(pod1.Addr(), 32), Port: 20880, RouteName: "r", Route: route}},
		Routes:   map[string]*snapshot.RouteConfig{"r": route},
		Clusters: map[string]*snapshot.Cluster{"all": cluster("all", all), "v2": cluster("v2", v2)},
	}).Seal()
	r.mgr.Update(r.snap)
}

// TestHeadless: what a VirtualService leads elsewhere is balanced over the providers that
// are known there; anything else keeps to the pod that the consumer dialled, as Envoy's
// original destination does.
func TestHeadless(t *testing.T) {
	pod3 := netip.MustParseAddrPort("192.0.2.3:20880")
	both := []netip.AddrPort{pod1, pod2}
	cases := []struct {
		name    string
		all, v2 []netip.AddrPort
		method  string
		want    []netip.AddrPort // any of
	}{
		{"the consumer's choice", []netip.AddrPort{pod1, pod2, pod3}, []netip.AddrPort{pod2, pod3}, "echo", []netip.AddrPort{pod1}},
		{"the route's subset", []netip.AddrPort{pod1, pod2, pod3}, []netip.AddrPort{pod2, pod3}, "news", []netip.AddrPort{pod2, pod3}},
		{"a subset with the dialled pod", both, both, "news", both},
		{"the dialled pod is gone", []netip.AddrPort{pod2}, []netip.AddrPort{pod2}, "echo", []netip.AddrPort{pod2}},
		{"nothing is known", nil, nil, "echo", []netip.AddrPort{pod1}},
		{"nothing is known of the subset", both, nil, "news", []netip.AddrPort{pod1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pod1)
			h, body := call(c.method)
			r.headless(append(c.all, pod1), c.v2) // the connection is older than what holds
			r.Edge(h, body)
			r.headless(c.all, c.v2)
			seen := make(map[netip.AddrPort]bool)
			for range 100 {
				e, why := r.Edge(h, body)
				if why != rpc.WhyNone {
					t.Fatalf("refused: %v", why)
				}
				seen[e.Remote.Endpoint] = true
			}
			for _, a := range c.want {
				if !seen[a] {
					t.Errorf("%v never went to %s", seen, a)
				}
			}
			if len(seen) != len(c.want) {
				t.Errorf("went to %v, want %v", seen, c.want)
			}
		})
	}
}
