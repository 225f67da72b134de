package exchange

import (
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// Answer makes the frame that the consumer gets, and tells its status.
func (r *Refusal) Answer(p *codec.Protocol) (frame []byte, status byte) {
	req := codec.Asked{ID: r.ID, Serialization: r.Serialization, Method: r.Call.Method}
	text := "dubway: " + rpc.Explain(r.Why, r.Call)
	switch {
	case r.Unreached:
		return p.Replies.Unreached(req, text)
	case r.Abort != nil && (r.Why == rpc.WhyFault || r.Why == rpc.WhyDirect):
		return p.Replies.Abort(req, r.Abort, text)
	}
	return p.Replies.Local(req, r.Why, text)
}

// records are of Observe: tens of thousands of connections need none.
var records = sync.Pool{New: func() any { return new(rpc.Record) }}

// Observe records that the request ends now, with an answer of a status and a length.
func (r *Refusal) Observe(status byte, length int) {
	result := rpc.ResultLocal
	if r.Why == rpc.WhyDownstreamGone {
		result = rpc.ResultGone
	}
	took := time.Since(r.Start)
	rec, _ := records.Get().(*rpc.Record)
	*rec = rpc.Record{
		Call: r.Call, Result: result, Why: r.Why, Status: status, Serialization: r.Serialization,
		ID: r.ID, Start: r.Start, Duration: took, Overhead: 0,
		RequestBytes: r.Bytes, ResponseBytes: length, Downstream: r.Downstream, Capture: r.Capture,
		Policy: r.Policy, Shadow: r.Shadow, Delayed: r.Delayed,
	}
	r.Call.Observer.Observe(rec)
	*rec = rpc.Record{}
	records.Put(rec)
}

// Answered is the record, but for its duration, of a request that ends with the answer
// to its last try, and why there is no other.
func (r *Request) Answered(why rpc.Why) rpc.Record {
	answer := r.Last.Answer
	rec := rpc.Record{
		Call: r.Last.Call, Serialization: r.Serialization, ID: r.ID, Start: r.Start, RequestBytes: r.Bytes(),
		ResponseBytes: len(answer), Downstream: r.Edge.Downstream, Capture: r.Capture, Delayed: r.Held > 0,
	}
	if why == rpc.WhyRetryLimit {
		rec.Why = why
	}
	p := r.Edge.Protocol
	h, err := p.Frames.ParseHeader(answer)
	if err != nil {
		return rec // it was parsed before
	}
	rec.Result, rec.Status = p.Answers.Kind(h, answer[h.Head:]), h.Status
	if rec.Result == rpc.ResultException {
		rec.Exception = p.Answers.Class(h, answer[h.Head:])
	}
	return rec
}

// Overflow refuses the requests that got no slot and returns the frames of
// those that did: the first n.
func Overflow(owner Consumer, requests []Request, n int, sameNode bool) [][]byte {
	for i := range requests[n:] {
		owner.Refuse(requests[n+i].Refusal(sameNode, rpc.WhyOverflow))
	}
	spans := make([][]byte, 0, n)
	for i := range requests[:n] {
		spans = append(spans, requests[i].Frame)
	}
	return spans
}
