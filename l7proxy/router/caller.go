package router

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Pinned tells whether a call asks about the very provider that was dialled, so
// that no policy may lead it to another one: the metadata that application-level
// discovery reads from each instance, and the echo that tests one. It is for
// dialled pod addresses; to a service's address such a call is like any other.
func Pinned(iface, method string) bool {
	switch iface {
	case "org.apache.dubbo.metadata.MetadataService", "org.apache.dubbo.metadata.MetadataServiceV2":
		return true
	}
	return method == "$echo"
}

// ByCaller tells whether a request to c keeps to the pod that its consumer
// dialled, if c has it: as the cluster's balancing says, else unless the route
// names the host. The route is one of s.
func ByCaller(s *snapshot.Snapshot, route *snapshot.Route, c *snapshot.Cluster) bool {
	switch c.Balancing {
	case snapshot.BalancingCaller:
		return true
	case snapshot.BalancingMesh:
		return false
	case snapshot.BalancingDefault:
	}
	return !s.NamesHost(route)
}

// Rightful finds the service of a request whose consumer dialled a pod that is
// not of it: an address that another pod has by now. A catch-all route leads there
// whatever is called; but where the snapshot names the interface, by a domain or as
// a service's host, it knows better. Dst is a provider's own address.
//
// False: the route holds, since it names its host or its cluster leaves the choice to
// the caller, or since dst may serve the interface, or no other pod can.
func Rightful(s *snapshot.Snapshot, route *snapshot.Route, req *rpc.Request, dst netip.AddrPort) (cluster string, ok bool) {
	if s.NamesHost(route) || req.Undecodable {
		return "", false
	}
	if c := s.Clusters[route.Action.Clusters[0].Cluster]; c != nil && c.Balancing == snapshot.BalancingCaller {
		return "", false // two services may export one interface: the consumer knows which
	}
	rc, c := s.ServiceOf(req.Interface)
	if rc != nil {
		if better := Match(rc, req, 0); better != nil && better.Action.Direct == nil {
			c = s.Clusters[better.Action.Clusters[0].Cluster]
		}
	}
	if c == nil || s.Serves(dst, c) || !c.LiveBut(dst) {
		return "", false
	}
	return c.Name, true
}

// pinned explains a call that goes to the very address that was dialled.
func (e *explanation) pinned() bool {
	q := &e.question
	dst := q.Destination.String()
	if !Pinned(q.Interface, q.Method) || !e.snapshot.IsOwn(q.Destination) {
		return false
	}
	e.step("address "+dst, "chosen", "a provider's own, and the call asks about that provider")
	t := Target{Weight: 1, Share: 100, Known: true, Endpoints: []Candidate{{Address: dst, Weight: 1, Healthy: true, Load: 100}}}
	if at := e.snapshot.ClustersAt(q.Destination); len(at) > 0 {
		t.Cluster = at[0].Name
	}
	e.Outcome, e.Way = OutcomeRoute, Way{Route: PinnedRoute, Share: 100, Clusters: []Target{t}}
	return true
}

// PinnedRoute is the name of the route of pinned calls, in logs and here.
const PinnedRoute = "pinned"

// dialled corrects where a route leads for a consumer that dialled a provider.
func (e *explanation) dialled(r *snapshot.Route, w *Way) {
	s, dst := e.snapshot, e.question.Destination
	if !s.IsOwn(dst) {
		return
	}
	if name, ok := Rightful(s, r, e.request(), dst); ok {
		e.step("cluster "+name, "chosen", "the interface is its service's, and "+dst.String()+" is another's")
		w.Clusters = e.way(&snapshot.Action{Clusters: []snapshot.WeightedCluster{{Cluster: name, Weight: 1}}, Total: 1}, w.Share).Clusters
	}
	for i := range w.Clusters {
		t := &w.Clusters[i]
		c := s.Clusters[t.Cluster]
		if c == nil || c.Dials() || !ByCaller(s, r, c) {
			continue
		}
		for _, candidate := range t.Endpoints {
			if candidate.Address == dst.String() && candidate.Healthy {
				e.step("cluster "+t.Cluster, "chosen", "the consumer's own choice holds: "+dst.String())
				t.Endpoints = []Candidate{candidate}
				break
			}
		}
	}
}
