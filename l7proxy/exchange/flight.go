package exchange

import (
	"slices"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/retry"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// Flight is one request in flight on a connection: what its end needs.
type Flight struct {
	Owner Consumer
	Edge  *Edge
	ID    uint64 // the consumer's
	Start time.Time
	Spent time.Duration // in the proxy, on the way to the provider; not what a fault held it for
	Bytes int
	// Serialization is the request's.
	Serialization byte
	Delayed       bool        // by a fault
	Capture       rpc.Capture // of a tap; nil: none
	Span          rpc.Span    // nil: it is not sampled
	Kept          *Request    // for another try; nil: there is none
	Due           time.Time   // when the try ends; zero: never
	Token         *retry.Token
	Answers       *postscript.Edits // of its answer; nil: it stays as it is
}

// FlightOf is a request that is sent now.
func FlightOf(owner Consumer, r *Request, now time.Time) Flight {
	return Flight{
		Owner: owner, Edge: r.Edge, ID: r.ID, Start: r.Start, Spent: now.Sub(r.Start) - r.Held, Bytes: r.Bytes(),
		Serialization: r.Serialization, Delayed: r.Held > 0, Capture: r.Capture, Span: r.Span, Due: r.Due(now), Token: r.Token,
		Answers: r.Answers,
	}
}

// Answer is what a record needs of the frame that answers a request.
type Answer struct {
	Flight    Flight
	Status    byte
	Result    rpc.Result
	Bytes     int
	Exception string // may alias the frame
}

// Answered is the answer in a frame, or in one's beginning of its protocol's AnswerLen bytes of body.
func (f *Flight) Answered(h codec.Header, frame []byte) Answer {
	answers, body := f.Edge.Protocol.Answers, frame[h.Head:]
	a := Answer{Flight: *f, Status: h.Status, Result: answers.Kind(h, body), Bytes: h.Len()}
	if a.Result == rpc.ResultException {
		a.Exception = answers.Class(h, body)
	}
	return a
}

// Record is the answer's record, but for when it was given.
func (a *Answer) Record(sameNode bool) rpc.Record {
	f := &a.Flight
	return rpc.Record{
		Call: f.Edge.Call(sameNode), Result: a.Result, Status: a.Status, Serialization: f.Serialization,
		Exception: a.Exception, ID: f.ID, Start: f.Start, RequestBytes: f.Bytes, ResponseBytes: a.Bytes,
		Downstream: f.Edge.Downstream, Capture: f.Capture, Span: f.Span, Delayed: f.Delayed,
	}
}

// Refusal says that the request gets no answer, and why.
func (f *Flight) Refusal(sameNode bool, why rpc.Why) Refusal {
	return Refusal{
		ID: f.ID, Serialization: f.Serialization, Call: f.Edge.Call(sameNode), Why: why,
		Start: f.Start, Bytes: f.Bytes, Downstream: f.Edge.Downstream, Capture: f.Capture, Span: f.Span, Delayed: f.Delayed,
	}
}

// Gone records that the consumer left before the answer.
func (f *Flight) Gone(sameNode bool) {
	rec := rpc.Record{
		Call: f.Edge.Call(sameNode), Result: rpc.ResultGone, Why: rpc.WhyDownstreamGone,
		Serialization: f.Serialization, ID: f.ID, Capture: f.Capture, Span: f.Span,
		Start: f.Start, Duration: time.Since(f.Start), Overhead: f.Spent, RequestBytes: f.Bytes,
		Downstream: f.Edge.Downstream, Delayed: f.Delayed,
	}
	rec.Call.Observer.Observe(&rec)
}

// Unknown tells whether an answer says that the provider on a connection does not know
// the interface that it was asked for, and remembers what it says. A bulk connection
// carries one request, so that its number says nothing of the next one's provider.
func (f *Flight) Unknown(h codec.Header, frame []byte, conn uint64, bulk bool) bool {
	x, answers := f.Edge.Export, f.Edge.Protocol.Answers
	if x != nil && answers.Unreached(h) {
		x.Unknown() // so says the proxy at a provider whose application is not there
		return f.Kept == nil || f.Kept.Last == nil || !f.Kept.Last.Unknown
	}
	if x == nil || f.Kept == nil && x.Answers(conn) || f.Kept != nil && f.Kept.Last != nil && f.Kept.Last.Unknown {
		return false
	}
	if answers.NotServed(h, frame[h.Head:], f.Edge.Remote.Interface) {
		x.Unknown()
		return true
	}
	if answers.Outcome(h.Status) == rpc.OutcomeOK && !bulk {
		x.Answered(conn)
	}
	return false
}

// Retriable tells whether the route's policy wants another try after an answer.
func (f *Flight) Retriable(h codec.Header, frame []byte) bool {
	p := f.Edge.Retry
	if p == nil || f.Kept == nil || uint32(f.Kept.Failed) >= p.Num {
		return false
	}
	class, answers := "", f.Edge.Protocol.Answers
	if len(p.Exceptions) > 0 && answers.Kind(h, frame[h.Head:]) == rpc.ResultException {
		class = answers.Class(h, frame[h.Head:])
	}
	return retry.Answer(p, h.Status, answers.Outcome(h.Status), class)
}

// RetriableLoss tells whether it wants one after an end without an answer, while the
// request's own time is not over.
func (f *Flight) RetriableLoss(why rpc.Why, now time.Time) bool {
	p := f.Edge.Retry
	if p == nil || f.Kept == nil || uint32(f.Kept.Failed) >= p.Num || !retry.Lost(p, why) {
		return false
	}
	return f.Kept.Until.IsZero() || f.Kept.Until.After(now)
}

// Drop lets the copy go that was kept for another try: there will be none.
func (f *Flight) Drop() {
	if f.Kept != nil {
		f.Kept.drop()
		f.Kept = nil
	}
}

// Again returns the request for another try, and how long to wait before it.
func (f *Flight) Again(last *Last) (r Request, wait time.Duration) {
	r = *f.Kept
	r.Last = last
	if last.Unknown {
		return r, 0
	}
	r.Failed++
	r.Tried = append(slices.Clip(r.Tried), f.Edge.Remote.Endpoint)
	return r, retry.Wait(f.Edge.Retry, r.Failed)
}
