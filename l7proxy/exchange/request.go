package exchange

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/retry"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Request is one request frame on its way. Frame aliases the read buffer of the
// consumer's connection; its id is overwritten.
type Request struct {
	Frame  []byte
	Length int    // of a frame of which Frame is the beginning; 0: Frame is whole
	ID     uint64 // the consumer's
	Edge   *Edge
	Start  time.Time
	OneWay bool
	// Serialization is the frame's, for a refusal.
	Serialization byte
	Attempt       uint8   // connections that failed before this one
	Unmade        rpc.Why // of the last of them
	Capture       rpc.Capture
	Span          rpc.Span
	// Begun says that its endpoint counts it already, while its connection is made.
	Begun bool
	// Held is how long a fault has delayed it; 0: none.
	Held time.Duration
	// Until is when the request ends, whatever it waits for; zero: never.
	Until time.Time
	// Answers is what becomes of its answer; nil: it stays as it is.
	Answers *postscript.Edits
	Tries
}

// Asked is a request that came in a frame, of which there is the beginning at least.
func Asked(h codec.Header, frame []byte, at time.Time) Request {
	return Request{Frame: frame, ID: h.ID, Start: at, OneWay: !h.TwoWay(), Serialization: h.Serialization()}
}

// Tries is what a request remembers of its tries.
type Tries struct {
	Failed uint8            // by the policy of the route
	Tried  []netip.AddrPort // where
	Token  *retry.Token     // of the try in flight; nil: it is the first
	// Last is how the try before ended; nil: there was none.
	Last *Last
}

// Last is how a try ended. It is what the consumer gets if there can be no other.
type Last struct {
	Answer []byte    // the provider's frame, the consumer's id in it; nil: none came
	Why    rpc.Why   // none came
	Call   *rpc.Call // of the way to it
	// Unknown says that the provider did not know the interface: nothing has been
	// executed, and the same endpoint will not do.
	Unknown bool
}

// Refusal is a request that gets no answer from its provider.
type Refusal struct {
	ID            uint64
	Serialization byte
	OneWay        bool
	Call          *rpc.Call
	Why           rpc.Why
	Start         time.Time
	Bytes         int
	Downstream    netip.AddrPort
	Capture       rpc.Capture
	Span          rpc.Span
	Policy        string // that refuses it, and the filter whose shadow rules would have
	Shadow        string
	Delayed       bool            // by a fault
	Abort         *snapshot.Abort // of WhyFault and WhyDirect
	// Unreached says that the pod's own application could not be connected to, so that
	// a consumer's proxy may ask another pod: nothing has been executed.
	Unreached bool
}

// Bytes is the length of the frame.
func (r *Request) Bytes() int { return max(r.Length, len(r.Frame)) }

// PutID overwrites the frame's id.
func (r *Request) PutID(id uint64) { r.Edge.Protocol.Frames.PutID(r.Frame, id) }

// Refusal says that the request gets no answer by a way, and why.
func (r *Request) Refusal(sameNode bool, why rpc.Why) Refusal {
	var direct *snapshot.Abort
	if why == rpc.WhyDirect {
		direct = r.Edge.Direct
	}
	return Refusal{
		ID: r.ID, Serialization: r.Serialization, OneWay: r.OneWay,
		Call: r.Edge.Call(sameNode), Why: why, Start: r.Start, Bytes: r.Bytes(),
		Downstream: r.Edge.Downstream, Capture: r.Capture, Span: r.Span, Delayed: r.Held > 0, Abort: direct,
	}
}

// Sent records a one-way request: nothing comes back, so it ends here.
func (r *Request) Sent(sameNode bool) {
	took := time.Since(r.Start)
	rec := &rpc.Record{
		Call: r.Edge.Call(sameNode), Result: rpc.ResultNone, Serialization: r.Serialization, ID: r.ID, Start: r.Start,
		Duration: took, Overhead: took - r.Held, RequestBytes: r.Bytes(), Downstream: r.Edge.Downstream,
		Capture: r.Capture, Span: r.Span, Delayed: r.Held > 0,
	}
	rec.Call.Observer.Observe(rec)
}

// Due is when a try that begins now ends; zero: never.
func (r *Request) Due(now time.Time) time.Time {
	p := r.Edge.Retry
	if p == nil || p.PerTry == 0 {
		return r.Until
	}
	if try := now.Add(p.PerTry); r.Until.IsZero() || try.Before(r.Until) {
		return try
	}
	return r.Until
}

// Repeatable tells whether the request may be needed once more on a connection, which
// is named by its number: for another provider that knows the interface, or by the
// route's policy.
func (r *Request) Repeatable(conn uint64) bool {
	x, p := r.Edge.Export, r.Edge.Retry
	return x != nil && !x.Answers(conn) && (r.Last == nil || !r.Last.Unknown) || p != nil && uint32(r.Failed) < p.Num
}

// Excepted are the endpoints that another try is not for.
func (r *Request) Excepted() []netip.AddrPort {
	switch {
	case r.Last == nil:
		return nil
	case r.Last.Unknown:
		return append(slices.Clip(r.Tried), r.Last.Call.Endpoint)
	case r.Edge.Retry != nil && r.Edge.Retry.Elsewhere:
		return r.Tried
	}
	return nil
}

// copies are of requests that were answered, so that keeping one allocates nothing.
var copies = sync.Pool{New: func() any { return new(Request) }}

// Copy returns a copy that outlives the frame's buffer.
func (r *Request) Copy() *Request {
	k := copies.Get().(*Request)
	frame := slices.Grow(k.Frame[:0], len(r.Frame))[:len(r.Frame)]
	copy(frame, r.Frame)
	*k = *r
	k.Frame, k.Token, k.Begun = frame, nil, false
	return k
}

// drop lets a copy be used for another request. Nobody may have its frame any more.
func (r *Request) drop() {
	*r = Request{Frame: r.Frame[:0]}
	copies.Put(r)
}
