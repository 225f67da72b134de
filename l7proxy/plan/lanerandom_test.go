package plan

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/dubway/dubway/internal/lane"
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
	n := 1 + rnd.IntN(4)
	if rnd.IntN(6) == 0 {
		n = of // more than a lane has numbers for
	}
	for _, at := range rnd.Perm(of)[:n] {
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

// drain has an endpoint of a random snapshot avoided, if it could be chosen.
func (r *rig) drain(rnd *rand.Rand) {
	if e := r.mgr.Of(r.snap.Clusters["c0"]).At(pods[rnd.IntN(len(pods))], nil); e != nil {
		e.Draining()
	}
}

// sum is what the weights of a share's endpoints sum to, of which some are elsewhere. Least
// request looks at none that is avoided.
func sum(s *verdict.Share) (sum float64) {
	for _, e := range slices.Concat(s.Ends, s.Elsewhere) {
		if !e.Avoided || s.Policy != snapshot.LeastRequest {
			sum += float64(e.Weight)
		}
	}
	return sum
}

// inVain is the part of a share for which the draws of least request fall on avoided ones alone.
func inVain(s *verdict.Share) float64 {
	n, avoided := float64(len(s.Ends)+len(s.Elsewhere)), 0.0
	for _, e := range s.Elsewhere {
		if e.Avoided {
			avoided++
		}
	}
	switch {
	case s.Policy != snapshot.LeastRequest:
		return 0
	case s.Draws > 0:
		return math.Pow(avoided/n, float64(s.Draws))
	case avoided == n:
		return 1
	}
	return 0
}

// promised is what a verdict says that each address gets of all requests that take the lane.
func promised(v *verdict.Verdict) map[netip.AddrPort]float64 {
	var all float64
	for _, s := range v.Shares {
		all += float64(s.Weight)
	}
	parts := make(map[netip.AddrPort]float64)
	for _, s := range v.Shares {
		for _, e := range s.Ends {
			parts[e.Address] += float64(s.Weight) / all * (1 - inVain(&s)) * float64(e.Weight) / sum(&s)
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
		r.sent(t, &s, float64(s.Weight)/all, draws, parts)
		part := inVain(&s)
		if s.Remote {
			part = 1
		}
		for i := 0; part > 0 && i < draws; i++ {
			r.Lead(router.Lead{Target: s.Target})
			e, why := r.Edge(h, body)
			if why != rpc.WhyNone {
				t.Fatalf("a request of share %d ends as %q", s.Target, why)
			}
			parts[e.Remote.Endpoint] += part * float64(s.Weight) / all / float64(draws)
		}
	}
	r.Lead(router.Lead{})
	return parts
}

// sent adds what each endpoint gets of what is drawn for those of a share that are elsewhere:
// nothing where it is avoided, in whose place others are drawn.
func (r *rig) sent(t *testing.T, s *verdict.Share, part float64, draws int, parts map[netip.AddrPort]float64) {
	t.Helper()
	h, body := call("echo")
	for _, at := range s.Elsewhere {
		n := 1
		switch {
		case at.Avoided && s.Policy == snapshot.LeastRequest:
			continue
		case at.Avoided:
			n = draws
		}
		each := part * (1 - inVain(s)) * float64(at.Weight) / sum(s) / float64(n)
		for range n {
			r.Lead(router.Lead{Target: s.Target, Endpoint: at.Address})
			e, why := r.Edge(h, body)
			if why != rpc.WhyNone || (e.Remote.Endpoint == at.Address) == at.Avoided {
				t.Fatalf("what is drawn for %s (avoided: %t) goes to %s: %q", at.Address, at.Avoided, e.Remote.Endpoint, why)
			}
			parts[e.Remote.Endpoint] += each
		}
	}
}

// TestLaneChoosesAsEdgeDoes: over random snapshots the kernel's choice is the proxy's: the
// same endpoints in the same shares, none of them elsewhere, whatever health, priorities,
// localities, zones, subsets and the consumer's own choice make of it. What is drawn for a
// cluster with endpoints elsewhere the proxy sends to that one.
func TestLaneChoosesAsEdgeDoes(t *testing.T) {
	const snapshots, draws = 400, 2000
	h, body := call("echo")
	lanes, mixed, avoided, many, reasons := 0, 0, 0, 0, make(map[verdict.Reason]int)
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
		if r.Edge(h, body); rnd.IntN(2) == 0 {
			r.drain(rnd)
		}
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
		for i := range v.Shares {
			s := &v.Shares[i]
			if slices.ContainsFunc(s.Elsewhere, func(e verdict.End) bool { return e.Avoided }) {
				avoided++
			}
			if len(s.Ends)+len(s.Elsewhere) > lane.Ends {
				many++
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
	t.Logf("%d of %d in the lane; %d endpoints are led to; %d shares with an avoided one, %d with many; %v", lanes, snapshots, mixed, avoided, many, reasons)
	if lanes < snapshots/5 || mixed < 10 || avoided < 10 || many < 10 || reasons[verdict.Remote] == 0 || reasons[verdict.Hashed] == 0 {
		t.Errorf("%d of %d in the lane, %v: this test looks at too little", lanes, snapshots, reasons)
	}
}
