package plan

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// pods are those that random snapshots have, of which the last are of another node.
var pods = func() (list []netip.AddrPort) {
	for i := range 12 {
		list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 20880))
	}
	return list
}()

const localPods = 10

// randomly makes a snapshot of a route to clusters of all sorts.
func randomly(rnd *rand.Rand) change {
	return func(s *snapshot.Snapshot) {
		a := &s.Routes["r"].VirtualHosts[0].Routes[0].Action
		a.Clusters, a.Total, s.Clusters = nil, 0, make(map[string]*snapshot.Cluster)
		for i := range 1 + rnd.IntN(3) {
			c := randomCluster(rnd, fmt.Sprint("c", i))
			s.Clusters[c.Name] = c
			w := snapshot.WeightedCluster{Cluster: c.Name, Weight: uint32(rnd.IntN(4))}
			if i == 0 {
				w.Weight++
			}
			if c.Subsets != nil && rnd.IntN(4) > 0 {
				w.Subset = snapshot.Metadata{"version": fmt.Sprintf("%q", fmt.Sprint("v", rnd.IntN(2)))}
			}
			a.Clusters, a.Total = append(a.Clusters, w), a.Total+uint64(w.Weight)
		}
	}
}

func randomCluster(rnd *rand.Rand, name string) *snapshot.Cluster {
	c := &snapshot.Cluster{
		Name: name, Policy: snapshot.Policy(rnd.IntN(5)), ChoiceCount: 2, Bias: float64(rnd.IntN(2)),
		Overprovision: 140, PanicThreshold: uint32(rnd.IntN(2) * 50), LocalityWeighted: rnd.IntN(3) == 0,
		Balancing: snapshot.Balancing(rnd.IntN(3)), Hashing: snapshot.Hashing{MinRing: 64, MaxRing: 64, TableSize: 251},
	}
	if rnd.IntN(4) > 0 {
		c.Policy = snapshot.Policy(rnd.IntN(3))
	}
	if rnd.IntN(4) == 0 {
		c.Subsets = &snapshot.Subsets{Selectors: [][]string{{"version"}}, Fallback: snapshot.SubsetFallback(rnd.IntN(2))}
	}
	if rnd.IntN(3) == 0 {
		c.ZoneAware = &snapshot.ZoneAware{Enabled: 1, MinSize: 1}
	}
	of := localPods
	if rnd.IntN(4) == 0 {
		of = len(pods)
	}
	places, weights := 1+rnd.IntN(3), rnd.IntN(3) == 0
	for _, at := range rnd.Perm(of)[:1+rnd.IntN(4)] {
		e := &snapshot.Endpoint{
			Address: pods[at], Weight: 1, Healthy: rnd.IntN(5) > 0, Draining: rnd.IntN(8) == 0,
			Metadata: snapshot.Metadata{"version": fmt.Sprintf("%q", fmt.Sprint("v", rnd.IntN(2)))},
		}
		if weights {
			e.Weight += uint32(rnd.IntN(3))
		}
		i := rnd.IntN(places)
		for len(c.Localities) <= i {
			c.Localities = append(c.Localities, &snapshot.Locality{
				Region: "r", Zone: fmt.Sprint("z", len(c.Localities)), Weight: uint32(rnd.IntN(3)), Priority: uint32(rnd.IntN(2)),
			})
		}
		c.Localities[i].Endpoints = append(c.Localities[i].Endpoints, e)
	}
	return c
}

// promised is what a verdict says that each address gets of all requests that take the lane.
func promised(v *verdict.Verdict) map[netip.AddrPort]float64 {
	var all float64
	for _, s := range v.Shares {
		all += float64(s.Weight)
	}
	parts := make(map[netip.AddrPort]float64)
	for _, s := range v.Shares {
		var sum float64
		for _, e := range slices.Concat(s.Ends, s.Elsewhere) {
			sum += float64(e.Weight)
		}
		for _, e := range s.Ends {
			parts[e.Address] += float64(s.Weight) / all * float64(e.Weight) / sum
		}
	}
	return parts
}

// led is what each address gets of all requests by the proxy, where it is led by what was drawn
// for the shares that are its own.
func (r *rig) led(t *testing.T, v *verdict.Verdict, draws int) map[netip.AddrPort]float64 {
	t.Helper()
	h, body := call("echo")
	var all float64
	for _, s := range v.Shares {
		all += float64(s.Weight)
	}
	parts := make(map[netip.AddrPort]float64)
	for _, s := range v.Shares {
		r.sent(t, &s, float64(s.Weight)/all, parts)
		if !s.Remote {
			continue
		}
		for range draws {
			r.Lead(router.Lead{Target: s.Target})
			e, why := r.Edge(h, body)
			if why != rpc.WhyNone {
				t.Fatalf("a request of share %d ends as %q", s.Target, why)
			}
			parts[e.Remote.Endpoint] += float64(s.Weight) / all / float64(draws)
		}
	}
	r.Lead(router.Lead{})
	return parts
}

// sent adds what each endpoint elsewhere of a share gets, where its part is drawn for it.
func (r *rig) sent(t *testing.T, s *verdict.Share, part float64, parts map[netip.AddrPort]float64) {
	t.Helper()
	h, body := call("echo")
	var sum float64
	for _, e := range slices.Concat(s.Ends, s.Elsewhere) {
		sum += float64(e.Weight)
	}
	for _, at := range s.Elsewhere {
		r.Lead(router.Lead{Target: s.Target, Endpoint: at.Address})
		if e, why := r.Edge(h, body); why != rpc.WhyNone || e.Remote.Endpoint != at.Address {
			t.Fatalf("what is drawn for %s goes to %s: %q", at.Address, e.Remote.Endpoint, why)
		}
		parts[at.Address] += part * float64(at.Weight) / sum
	}
}

// TestLaneChoosesAsEdgeDoes: over random snapshots the kernel's choice is the proxy's: the
// same endpoints in the same shares, none of them elsewhere, whatever health, priorities,
// localities, zones, subsets and the consumer's own choice make of it. What is drawn for a
// cluster with endpoints elsewhere the proxy sends to that one.
func TestLaneChoosesAsEdgeDoes(t *testing.T) {
	const snapshots, draws = 400, 2000
	h, body := call("echo")
	lanes, mixed, reasons := 0, 0, make(map[verdict.Reason]int)
	for seed := range uint64(snapshots) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		dst := vip
		if rnd.IntN(4) == 0 {
			dst = pod1
		}
		r := laneRig(t, dst, pods[:localPods]...)
		r.mgr.Close()
		r.mgr = cluster.NewManager(slog.New(slog.DiscardHandler), cluster.Options{Zone: []string{"r", "z0"}})
		r.env.Clusters = r.mgr
		r.publish(randomly(rnd))
		v := r.lane(t, h, body)
		if reasons[v.Reason]++; v.Reason != verdict.Lane {
			r.mgr.Close()
			continue
		}
		lanes++
		counts := make(map[netip.AddrPort]int)
		for range draws {
			e, why := r.Edge(h, body)
			if why != rpc.WhyNone {
				t.Fatalf("snapshot %d: the lane would have taken a request that ends as %q", seed, why)
			}
			counts[e.Remote.Endpoint]++
		}
		parts := promised(&v)
		for at := range parts {
			if r.env.Workloads.ByAddress(at.Addr()) == nil {
				t.Errorf("snapshot %d: %s is not of this node", seed, at)
			}
		}
		for at, part := range r.led(t, &v, draws) {
			parts[at] += part
			mixed++
		}
		for at, n := range counts {
			if parts[at] == 0 {
				t.Errorf("snapshot %d: %d of %d requests went to %s, which is not in %+v", seed, n, draws, at, parts)
			}
		}
		for at, part := range parts {
			// Eight standard deviations, and what a round of turns is off at its end.
			if got := float64(counts[at]) / draws; math.Abs(got-part) > 8*math.Sqrt(part*(1-part)/draws)+0.02 {
				t.Errorf("snapshot %d: %s gets %.3f of the requests from the proxy, %.3f in the lane", seed, at, got, part)
			}
		}
		if !v.Stands() {
			t.Errorf("snapshot %d: nothing has changed, and the verdict does not stand", seed)
		}
		r.mgr.Close()
	}
	t.Logf("%d of %d in the lane; %d endpoints are led to; %v", lanes, snapshots, mixed, reasons)
	if lanes < snapshots/5 || mixed < 10 || reasons[verdict.Remote] == 0 || reasons[verdict.Hashed] == 0 {
		t.Errorf("%d of %d in the lane, %v: this test looks at too little", lanes, snapshots, reasons)
	}
}
