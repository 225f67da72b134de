package verdict

import (
	"net/netip"

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
	away      []netip.AddrPort // endpoints of remote shares, by which those are
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
}

// begin notes what is known of a case before it is judged: what changes meanwhile must not
// be missed.
func (g *grounds) begin(c *Case) {
	*g = grounds{
		node: c.Node, workloads: c.Workloads, line: c.Line, mode: c.Mode, shed: c.Shed,
		now: c.Now, snapshot: c.Snapshot, changes: c.Changes, domain: c.Domain, known: c.Domain(),
	}
	if g.changes != nil {
		g.changed = g.changes()
	}
}

// holds judges what may change of an end.
func (g *ground) holds(n *Node) Reason {
	switch {
	case g.endpoint.Avoided():
		return Avoided
	case n.Guarded == nil || n.Guarded(g.provider, g.key):
		return Guarded
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
	for _, at := range g.away {
		if !away(g.workloads, at) {
			return false
		}
	}
	for i := range g.ends {
		e := &g.ends[i]
		if g.workloads.ByAddress(e.key.Endpoint.Addr()) != e.provider || e.holds(g.node) != Lane {
			return false
		}
	}
	return true
}
