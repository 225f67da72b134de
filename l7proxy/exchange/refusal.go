package exchange

import (
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Answer makes the frame that the consumer gets, and tells its status.
func (r *Refusal) Answer() (frame []byte, status byte) {
	h := dubbo.Header{Flags: dubbo.FlagRequest | dubbo.FlagTwoWay | r.Serialization, ID: r.ID}
	text := "dubway: " + rpc.Explain(r.Why, r.Call)
	if r.Unreached {
		status = dubbo.StatusChannelInactive
		return dubbo.AppendError(nil, h, status, text), status
	}
	if r.Why != rpc.WhyFault || r.Abort == nil {
		return dubbo.AppendLocal(nil, h, r.Why, text)
	}
	return aborted(h, r.Abort, text)
}

// aborted answers as a fault says. Text is for one that has none.
func aborted(h dubbo.Header, a *snapshot.Abort, text string) (frame []byte, status byte) {
	if a.Message != "" {
		text = a.Message
	}
	if a.Class != "" && dubbo.CanThrow(h.Serialization()) {
		e := dubbo.Exception{Class: a.Class, Code: dubbo.Code(a.Code), Message: text}
		return dubbo.AppendException(nil, h, e), dubbo.StatusOK
	}
	return dubbo.AppendError(nil, h, a.Status, text), a.Status
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
	h, err := dubbo.ParseHeader(answer)
	if err != nil {
		return rec // it was parsed before
	}
	rec.Result, rec.Status = dubbo.AnswerKind(h, answer[dubbo.HeaderLen:]), h.Status
	if rec.Result == rpc.ResultException {
		rec.Exception = dubbo.ExceptionClass(h.Serialization(), answer[dubbo.HeaderLen:])
	}
	return rec
}
