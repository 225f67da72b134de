package verdict

import (
	"iter"
	"math"
	"net/netip"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// Node is what of the node a verdict asks. All of it is safe for concurrent use. The zero
// Node has no lanes.
type Node struct {
	// Guarded tells whether no neighbour may take the short cut to a provider: it judges
	// at its own listener who comes in, or the way is to be encrypted. Nil: all are.
	Guarded func(provider *workload.Workload, key upstream.Key) bool
	// Tapped tells whether somebody reads what calls say; nil: nobody ever does.
	Tapped func() bool
}

// Case is a request as its planner has just found a way for it. A Case is used once.
type Case struct {
	Node      *Node
	Workloads *workload.Registry
	Protocol  *codec.Protocol
	Header    codec.Header
	Body      []byte
	Prefix    codec.Prefix // complete
	Key       upstream.Key // of the consumer's connections, without an endpoint
	Original  netip.AddrPort
	Own       bool // Original is a provider's own
	Pinned    bool // the call asks about that provider
	Ending    bool // the consumer's connection is about to end
	Line      *callback.Line
	Mode      *mode.Cell
	Shed      func() bool
	// Now is what the workload sees, Snapshot what the way was found by, and Changes and
	// Domain are what else it hangs on: how often what anybody sees has changed, and the
	// trust domain. The functions are safe for concurrent use; Changes may be nil.
	Now      func() *snapshot.Snapshot
	Snapshot *snapshot.Snapshot
	Changes  func() uint64
	Domain   func() string
	Listener *snapshot.Listener
	// Let is what the policies on the connection said, and Access what those on requests
	// of these names did, that took the route Judged; nil: they were not asked.
	Let, Access    *filter.Verdict
	Judged         *snapshot.Route
	Policy, Shadow string
	// Rightful corrects a target of the route; Set finds a cluster's endpoints, nil if it
	// is gone, Stale tells whether the dialled address should not lead there, and Edge is
	// the way to an endpoint.
	Rightful func(*snapshot.Route, snapshot.WeightedCluster) snapshot.WeightedCluster
	Set      func(cluster string) *cluster.Set
	Stale    func(cluster string) bool
	Edge     func(*snapshot.Route, *cluster.Set, *cluster.Endpoint) *upstream.Edge

	// Edges are the planner's for requests of these names, also for those that Judge finds.
	Edges iter.Seq[*upstream.Edge]

	route    *snapshot.Route  // of all requests of these names
	numbered []netip.AddrPort // that are ends of the lane
	grounds  grounds
}

// Judge gives the verdict.
func (c *Case) Judge() Verdict {
	v := c.judge()
	for e := range c.Edges {
		v.Calls = append(v.Calls, e.SameNode, e.Remote)
	}
	return v
}

func (c *Case) judge() Verdict {
	c.grounds.begin(c)
	for _, judge := range [...]func() Reason{c.request, c.moment, c.match, c.policies} {
		if r := judge(); r != Lane {
			return proxy(r)
		}
	}
	if r := Way(c.Listener, c.route); r != Lane {
		return proxy(r)
	}
	shares, r := c.shares()
	if r != Lane {
		return proxy(r)
	}
	v := Verdict{
		Reason: Lane, Shares: shares, Timeout: c.route.Action.Timeout,
		Access: c.Access, Policy: c.Policy, Shadow: c.Shadow, grounds: c.grounds,
	}
	if t := c.Listener.Tracing; t.On() {
		v.Traced, v.Sampled = true, t.Share
	}
	return v
}

// Unread is the verdict for a request whose names cannot be read.
func Unread(h codec.Header) Verdict {
	if r := frame(h); r != Lane {
		return proxy(r)
	}
	return proxy(Undecodable)
}

// frame judges a frame by its header.
func frame(h codec.Header) Reason {
	switch {
	case !h.Request() || !h.TwoWay() || h.Event():
		return OneWay
	case h.Serialization() != lane.Hessian2 && h.Serialization() != lane.Fastjson2:
		return Serialization
	}
	return Lane
}

// request judges what the request is.
func (c *Case) request() Reason {
	switch {
	case c.Protocol.Name != rpc.ProtocolDubbo:
		return Protocol
	case c.Key.Inbound:
		return Inbound
	case frame(c.Header) != Lane:
		return frame(c.Header)
	case c.Prefix.Generic:
		return Generic
	case c.Prefix.Types > lane.Prefix:
		return LongNames
	case c.Pinned:
		return Pinned
	case c.Line.Any() || c.Protocol.Events != nil && c.Protocol.Events.DeclaresCallback(c.Body):
		return Callback
	}
	return Lane
}

// moment judges what may be otherwise in a moment.
func (c *Case) moment() Reason {
	switch {
	case c.Mode.Mode() != mode.Enforce:
		return Mode
	case c.Shed():
		return Overload
	case c.Ending || c.Line.Parted():
		return Ending
	case c.Node.Tapped != nil && c.Node.Tapped():
		return Tapped
	case c.Snapshot == nil || c.Now() != c.Snapshot:
		return Changing
	case c.Listener == nil || c.Listener.Route == nil:
		return NoRoute
	}
	return Lane
}

// policies judges what policies have said of the request, and whether that is so for all
// of its names.
func (c *Case) policies() Reason {
	needs := filter.Place{Listener: c.Listener, Route: c.route}.Needs(false)
	switch {
	case c.Listener.Gate != nil && c.Let == nil:
		return Changing
	case c.Let != nil && c.Let.Why == rpc.WhyLimited, needs.Limit, needs.Global:
		return Limited
	case c.Let != nil && c.Let.Why != rpc.WhyNone:
		return Denied
	case needs.PerRequest, needs.Body:
		return PolicyByBody
	case needs.Access && (c.Access == nil || c.Judged != c.route):
		return Changing
	case needs.Access && c.Access.Why != rpc.WhyNone:
		return Denied
	case !needs.Access:
		if c.Access = nil; c.Listener.Gate == nil {
			c.Policy, c.Shadow = "", ""
		}
	}
	return Lane
}

// Way judges the configuration of a way, whose listener and route are given. It is all
// that can be said without the node's state; policies are judged apart.
func Way(l *snapshot.Listener, r *snapshot.Route) Reason {
	a := &r.Action
	switch {
	case a.Direct != nil:
		return Direct
	case len(a.Edits)+len(a.Answers) > 0:
		return Edits
	case len(a.Mirrors) > 0:
		return Mirrored
	case a.Retry != nil:
		return Retried
	case l.Tracing.On() && l.Tracing.Share >= snapshot.Million:
		return Traced
	case l.Report.Asks():
		return Told
	}
	for i := range a.Clusters {
		if a.Clusters[i].Edits != nil {
			return Edits
		}
	}
	for f := range (filter.Place{Listener: l, Route: r}).Faults() {
		if !f.Idle() {
			return Fault
		}
	}
	return Lane
}

// clusterOf judges the configuration of a cluster.
func clusterOf(c *snapshot.Cluster) Reason {
	switch {
	case c == nil:
		return NoCluster
	case c.MaxRequests != nil && *c.MaxRequests == 0:
		return Breaker
	case c.Policy > snapshot.Maglev || c.Kind > snapshot.ClusterOriginalDst || c.Balancing > snapshot.BalancingCaller:
		return Unsupported
	}
	return Lane
}

// most is the largest sum of weights.
const most = math.MaxUint32
