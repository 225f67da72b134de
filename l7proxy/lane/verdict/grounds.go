package verdict

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// grounds are what a verdict was made of beside the request.
type grounds struct {
	node      *Node
	workloads *workload.Registry
	line      *callback.Line
	mode      *mode.Cell
	shed      func() bool
	now       func() *snapshot.Snapshot
	snapshot  *snapshot.Snapshot
	changes   func() uint64
	changed   uint64
	domain    func() string
	known     string // by domain
	moments   []cluster.Moment
	ends      []ground
	groups    []group
	pods      uint64 // workloads.Changes, of which near is known
	spared    []spared
}

// group is among whom a share chooses, of which so many are pods of this node.
type group struct {
	endpoints []*cluster.Endpoint
	near      int
}

// count counts those.
func (g *group) count(all *workload.Registry) (near int) {
	for _, e := range g.endpoints {
		if !away(all, e.Address) {
			near++
		}
	}
	return near
}

// spared is an endpoint elsewhere that least request leaves alone while it is avoided.
type spared struct {
	endpoint *cluster.Endpoint
	avoided  bool
}

// among notes what a share hangs on as a whole, whose odds are given.
func (g *grounds) among(o *cluster.Odds, s *Share) {
	if len(s.Elsewhere) == 0 {
		return // each is looked at for itself
	}
	all := group{endpoints: o.Endpoints}
	all.near = all.count(g.workloads)
	g.groups = append(g.groups, all)
	if s.Policy != snapshot.LeastRequest {
		return // what was drawn for one that is avoided is drawn anew
	}
	for _, e := range o.Endpoints {
		if i := slices.IndexFunc(s.Elsewhere, func(end End) bool { return end.Address == e.Address }); i >= 0 {
			g.spared = append(g.spared, spared{e, s.Elsewhere[i].Avoided})
		}
	}
}

// away tells whether an endpoint is no enrolled pod of this node.
func away(all *workload.Registry, at netip.AddrPort) bool {
	w := all.ByAddress(at.Addr())
	return w == nil || !w.Serves(at)
}

// ground is what one end hangs on.
type ground struct {
	endpoint *cluster.Endpoint
	provider *workload.Workload
	key      upstream.Key
	edge     *upstream.Edge
	says     Reason
}

// begin notes what is known of a case before it is judged: what changes meanwhile must not
// be missed.
func (g *grounds) begin(c *Case) {
	*g = grounds{
		node: c.Node, workloads: c.Workloads, line: c.Line, mode: c.Mode, shed: c.Shed,
		now: c.Now, snapshot: c.Snapshot, changes: c.Changes, domain: c.Domain, known: c.Domain(),
		pods: c.Workloads.Changes(),
	}
	if g.changes != nil {
		g.changed = g.changes()
	}
}

// holds judges what may change of an end.
func (g *ground) holds(n *Node) Reason {
	switch {
	case n.Guarded == nil || n.Guarded(g.provider, g.key):
		return Guarded
	case g.endpoint.Avoided():
		return Avoided
	case g.edge.Group.CallsBack():
		return Callback
	case g.edge.Export != nil && !g.edge.Group.Answers(g.edge.Export):
		return Unanswered
	}
	return Lane
}

// Stands tells whether a verdict for the lane is still what it would be if it were asked
// again, as far as this node knows: the configuration, the health of the endpoints, the
// workload's mode, the providers' own policies. It costs a few loads, and some for each end,
// allocates nothing and may be asked by any goroutine. Whether a witness lives it does not
// know. A verdict for the proxy stands for nothing: ask again with the next request.
func (v *Verdict) Stands() bool {
	g := &v.grounds
	if v.Reason != Lane || g.now() != g.snapshot || g.changes != nil && g.changes() != g.changed || g.domain() != g.known {
		return false
	}
	if g.mode.Mode() != mode.Enforce || g.shed() || g.line.Any() || g.line.Parted() || g.node.Tapped != nil && g.node.Tapped() {
		return false
	}
	for _, m := range g.moments {
		if !m.Stands() {
			return false
		}
	}
	for i := range g.ends {
		e := &g.ends[i]
		if g.workloads.ByAddress(e.key.Endpoint.Addr()) != e.provider || e.holds(g.node) != e.says {
			return false
		}
	}
	for _, e := range g.spared {
		if e.endpoint.Avoided() != e.avoided {
			return false
		}
	}
	return g.near()
}

// near tells whether as many endpoints are of this node as were: who is in the lane is asked
// for itself.
func (g *grounds) near() bool {
	pods := g.workloads.Changes()
	if pods == atomic.LoadUint64(&g.pods) {
		return true // there may be many of them
	}
	for i := range g.groups {
		if g.groups[i].count(g.workloads) != g.groups[i].near {
			return false
		}
	}
	atomic.StoreUint64(&g.pods, pods)
	return true
}
