package rpc

import (
	"iter"
	"net/netip"
	"time"
)

// Record tells how one request ended. Each request ends in exactly one.
type Record struct {
	Call   *Call
	Result Result
	Why    Why
	Status uint8 // Dubbo status; 0 when nothing was answered
	// Serialization is the id of the request's serialization; 0 for none.
	Serialization uint8
	// Exception is the class of a business exception; "" if there is none or it
	// cannot be read. It may alias a read buffer: it is valid until Observe
	// returns.
	Exception string
	ID        uint64
	Start     time.Time // when the request's last byte was read
	// Duration runs from Start to the moment when the answer was written (or
	// the one-way request was). Overhead is the part of it that the mesh spent; the
	// delay of a fault is none.
	Duration      time.Duration
	Overhead      time.Duration
	RequestBytes  int // frame length
	ResponseBytes int
	// Downstream is the consumer's address as its application sees it.
	Downstream netip.AddrPort
	// Policy is the name of the policy that decided about the call, or of the limit
	// that refused it; "" for none. Shadow is that of the filter whose shadow rules
	// would have refused it. Both come from the configuration.
	Policy, Shadow string
	// Delayed says that a fault delayed the request.
	Delayed bool
	// Lane says that the call took the lane both ways: it is one of an Aggregate.
	Lane bool
	// Capture is what a tap keeps of the call's bytes. Nil: nobody asked.
	Capture Capture
	// Span is the call's part of a trace, which ends with the Record. Nil: it is not
	// sampled.
	Span Span
}

// Span is what a call is in a trace, from when it is planned to its Record. One
// goroutine at a time uses it: whoever has the request.
type Span interface {
	// Context lists the attachments by which the request tells its provider of the span.
	Context() iter.Seq2[string, string]
	// Again notes that the call is sent once more: by which way the try before went, and
	// how it ended. Call is nil if it went no way.
	Again(call *Call, why Why)
	// End is told the call's Record, which it does not keep.
	End(r *Record)
}

// Capture keeps the first bytes of one call's frames for a tap, which began it
// with the request's and finds it again in the call's Record.
type Capture interface {
	// Answer copies what it wants of an answer of size bytes, of which frame is
	// the beginning. It is called once at most, before the Record is observed.
	Answer(frame []byte, size int)
}
