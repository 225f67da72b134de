// Package verdict is the lane's compiler: it says of a request's names whether the kernel
// may route all requests of these names, and among whom, or why they stay with the proxy.
// It is closed by default: what of a configuration it has not been taught is a reason for
// the proxy (a test holds it against every field of snapshot.Snapshot). It routes nothing,
// opens no lane and knows no connection.
package verdict

import (
	"net/netip"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/gauge"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Verdict is what becomes of the requests that have the names of one that was looked at:
// the same interface, version, method and serialization, on the same connection.
type Verdict struct {
	// Reason is Lane, or why requests stay with the proxy; then there are no Shares, and what is
	// behind them is empty.
	Reason Reason
	// Calls are those by which requests of these names that reach an endpoint are recorded so
	// far, whatever Reason is.
	Calls []*rpc.Call
	// Shares is among whom the kernel chooses: one at least, lane.Shares at most, whose
	// Ends are at no more than lane.Ends addresses in all.
	Shares []Share
	// Timeout is how long a request may take, from its last byte to its answer; 0: as
	// long as its consumer waits. What a request says itself of how long its consumer
	// waits is not read: by then he waits no more.
	Timeout time.Duration
	// Access is what the policies on requests said, which is counted for each request
	// (filter.Verdict.CountMany); nil: there are none.
	Access *filter.Verdict
	// Policy and Shadow are those of the records of requests.
	Policy, Shadow string
	// Traced says that requests which are part of a trace go to the proxy, and that of the
	// others Sampled do, in millionths, drawn one by one: they begin one.
	Traced  bool
	Sampled uint32

	grounds grounds
}

// Share is a group of endpoints among which only a policy decides, as package cluster
// does: those of one weighted cluster, of one of its priorities or localities.
type Share struct {
	// Target is of the route's clusters the one that it is of, from 1 on; 0: there is no other.
	Target int
	// Remote says that the proxy chooses among all endpoints of the target: it has none here.
	Remote bool
	// Weight is its part of the sum of all shares' weights. Never 0.
	Weight uint32
	// Policy is RoundRobin, Random, or LeastRequest.
	Policy snapshot.Policy
	// Draws is how many endpoints LeastRequest draws, all alike, of which it takes the one with
	// the least in flight; 0: it draws one, by weight / (requests in flight + 1).
	Draws uint32
	// Limit is how many requests may be in flight to the cluster, of lanes and of the proxy
	// together, and Breaker counts them; 0 and nil: any number. Shares that have an end in
	// common have the same Breaker.
	Limit   uint32
	Breaker *breaker.Breaker
	// Ends are at different addresses. Elsewhere are the other endpoints, to which the proxy
	// sends what is drawn for them: not of this node, or the proxy's for a reason of their own.
	Ends, Elsewhere []End
}

// End is an endpoint that may be chosen.
type End struct {
	// Edge is the planner's for requests of these names to the endpoint, by which they are
	// recorded: always as Edge.SameNode. It is valid as long as its planner's plans are. Nil: it
	// is elsewhere.
	Edge    *upstream.Edge
	Address netip.AddrPort
	Weight  uint32 // among all of its share. Never 0
	// Active counts the requests that are in flight to it. Nil: nobody does.
	Active *gauge.Gauge
	// Avoided says of one elsewhere that it is left alone at present.
	Avoided bool
}

// Turns are the weights of Ends among themselves, without a common divisor. False: they sum to
// more than lane.Choices.
func (s *Share) Turns() (turns []uint32, ok bool) {
	unit, sum := uint32(0), uint64(0)
	for i := range s.Ends {
		a := s.Ends[i].Weight
		for a != 0 {
			unit, a = a, unit%a
		}
	}
	for i := range s.Ends {
		n := s.Ends[i].Weight / unit
		turns, sum = append(turns, n), sum+uint64(n)
	}
	return turns, sum <= lane.Choices
}

// Succeeded says that n requests have ended well in the lane, for whoever judges endpoints
// by how they fare. It is said before the end of a request that the proxy counts: errors in
// a row are not in a row with successes between them.
func (e *End) Succeeded(n uint64) {
	at := e.Edge.Endpoint
	if g, ok := at.(*breaker.Guarded); ok {
		at = g.Endpoint
	}
	if judged, ok := at.(*cluster.Endpoint); ok {
		judged.Succeeded(n)
	}
}

// Ended returns what is told how many more requests to the end of an edge the lane has
// answered, whose Records nobody makes: policies count them, and whoever judges the endpoint.
func (v *Verdict) Ended(of *upstream.Edge) func(n uint64) {
	access, end := v.Access, End{Edge: of}
	return func(n uint64) {
		if access != nil {
			access.CountMany(n)
		}
		end.Succeeded(n)
	}
}

// proxy is the verdict for a reason.
func proxy(r Reason) Verdict { return Verdict{Reason: r} }
