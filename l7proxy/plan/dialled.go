package plan

import (
	"net/netip"
	"slices"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/recent"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// dialled is what a plan remembers of a request to a provider's own address.
type dialled struct {
	pinned bool // to the very address
	// rightful is the cluster that Rightful gave for a route, "" if that holds.
	route    *snapshot.Route
	rightful string
	// stale counts for a cluster; nil if the address is not stale.
	cluster string
	stale   *recent.Count
}

// pick chooses the endpoint: the consumer's choice, where it counts, or the
// cluster's.
func (p *Planner) pick(set *cluster.Set, route *snapshot.Route, target snapshot.WeightedCluster) (*cluster.Endpoint, error) {
	dst := p.source.Original
	if c := set.Config(); c != nil && p.dialled.Own && !slices.Contains(p.except, dst) && router.ByCaller(p.snap, route, c) {
		if e := set.At(dst, target.Subset); e != nil {
			return e, nil
		}
	}
	choice := cluster.Choice{Random: p.random.Uint64(), Hash: p.hash, Subset: target.Subset, Original: dst, Own: p.dialled.Own}
	if except := p.except; len(except) > 0 {
		choice.Exclude = func(a netip.AddrPort) bool { return slices.Contains(except, a) }
	}
	return p.lead.Pick(set, choice)
}

// rightful corrects a target that is the dialled stranger's.
func (p *Planner) rightful(pl *plan, route *snapshot.Route, target snapshot.WeightedCluster) snapshot.WeightedCluster {
	d := &pl.dialled
	if d.route != route {
		d.route = route
		d.rightful, _ = router.Rightful(p.snap, route, &rpc.Request{
			Protocol: p.protocol.Name, Interface: pl.iface, Method: pl.method, Version: pl.version,
			Authority: p.authority, Undecodable: pl.undecodable,
		}, p.source.Original)
	}
	if d.rightful != "" {
		return snapshot.WeightedCluster{Cluster: d.rightful, Weight: 1}
	}
	return target
}

// stale returns the counter for a request to a cluster, nil if the dialled address
// is not stale for it.
func (p *Planner) stale(pl *plan, name string) *recent.Count {
	d, dst := &pl.dialled, p.source.Original
	if d.cluster == name {
		return d.stale
	}
	d.cluster, d.stale = name, nil
	c, set := p.snap.Clusters[name], p.set(name)
	if c == nil || set != nil && set.Has(dst) || !p.dialled.Stale(p.snap, c, d.rightful != "") {
		return nil
	}
	w := p.source.Workload
	d.stale = p.env.Stale.Count(stale.Key{Address: dst, Interface: pl.iface, Consumer: w.Namespace + "/" + w.Name})
	return d.stale
}

// dead ends the connection, once nothing is pending on it, if its request can be
// served neither at the dialled address, which is no endpoint any more, nor
// elsewhere: what is dead looks dead.
func (p *Planner) dead(pl *plan, name string) {
	if d := &p.dialled; !d.Own || d.Live {
		return
	}
	p.stale(pl, name).Add()
	p.doomed = true
}

// pinnedEdge leads to the very address that was dialled.
func (p *Planner) pinnedEdge(pl *plan) *upstream.Edge {
	k := edgeKey{observed: p.observed, would: p.would}
	found := k
	if e := pl.edges[found]; e != nil {
		return e
	}
	dst := p.source.Original
	if at := p.snap.ClustersAt(dst); len(at) > 0 {
		k.cluster = at[0].Name
	}
	call := p.call(pl, k)
	call.Route, call.Endpoint = router.PinnedRoute, dst
	call.Destination = p.env.Workloads.Peer(dst.Addr(), nil)
	e := p.newEdge(call, herald.Nobody{}, router.TLSAt(p.snap, dst))
	pl.edges[found] = e
	return e
}
