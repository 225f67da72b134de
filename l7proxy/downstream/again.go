package downstream

import (
	"cmp"
	"strconv"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// maxAttempts bounds the connections that are tried for one try of a request.
const maxAttempts = 3

// Again sends a request whose connection could not be made, or whose try has failed,
// once more, or ends it. Part of upstream.Owner.
func (s *Session) Again(r exchange.Request) {
	s.protocol.Frames.PutID(r.Frame, r.ID)
	s.again.Lock()
	defer s.again.Unlock()
	s.route(r)
	s.plans.Sent()
	s.endDoomed()
}

// endDoomed ends a connection that is doomed: its reader waits. The caller locks.
func (s *Session) endDoomed() {
	if s.doomed() {
		s.in.Conn.Within(s.env.lastLook())
	}
}

// route is Again under its lock.
func (s *Session) route(r exchange.Request) {
	h, err := s.protocol.Frames.ParseHeader(r.Frame)
	if err != nil {
		return // it was parsed before
	}
	edge, why := s.another(h, &r)
	if why == rpc.WhyNone {
		c := s.conn(edge, r.Frame)
		switch {
		case c == nil:
			why = rpc.WhyOverflow
		case c.Send(s, []exchange.Request{r}, [][]byte{r.Frame}):
			return
		default:
			why = rpc.WhyConnectFailed
		}
	}
	r.Token.End()
	s.giveUp(r, why)
}

// another finds the way of one more try, or says why there can be none.
func (s *Session) another(h codec.Header, r *exchange.Request) (*upstream.Edge, rpc.Why) {
	body := r.Frame[h.Head:]
	switch {
	case s.gone.Load(), r.Attempt >= maxAttempts:
		return nil, cmp.Or(r.Unmade, rpc.WhyConnectFailed)
	case !r.Until.IsZero() && !time.Now().Before(r.Until):
		return nil, rpc.WhyTimeout
	}
	edge, why := s.plans.Elsewhere(h, body, r.Excepted()...)
	if why == rpc.WhyNoEndpoint && r.Last != nil && !r.Last.Unknown {
		edge, why = s.plans.Elsewhere(h, body) // there is no other
	}
	if why != rpc.WhyNone {
		return nil, why
	}
	r.Edge, r.Answers = &edge.Edge, s.plans.Answers(edge, r.Frame)
	if r.Last == nil || r.Token != nil || r.Attempt > 0 && r.Last.Unknown {
		return edge, rpc.WhyNone // counted before
	}
	if r.Span != nil {
		r.Span.Again(r.Last.Call, r.Last.Why)
	}
	stats := s.env.Pool.Stats()
	if r.Last.Unknown {
		stats.DelayedExports.Add(1)
		return edge, rpc.WhyNone
	}
	if r.Token = s.plans.Retry(edge.Remote.Cluster); r.Token == nil {
		stats.RetriesRefused.Add(1)
		return nil, rpc.WhyRetryLimit
	}
	stats.Retries.Add(1)
	r.Frame = s.plans.Marked(r.Frame, strconv.Itoa(int(r.Failed)+1))
	return edge, rpc.WhyNone
}

// giveUp ends a request that cannot be sent again, with how its last try ended: the
// provider's answer, if there is one.
func (s *Session) giveUp(r exchange.Request, why rpc.Why) {
	if r.Last == nil || r.Last.Answer == nil {
		refusal := r.Refusal(false, why)
		switch {
		case why == rpc.WhyTimeout, why == rpc.WhyOverflow:
		case r.Last != nil:
			refusal.Call, refusal.Why = r.Last.Call, r.Last.Why
		default:
			refusal.Why = cmp.Or(r.Unmade, rpc.WhyConnectFailed)
		}
		s.Refuse(refusal)
		return
	}
	answer := r.Last.Answer
	rec := r.Answered(why)
	if r.Capture != nil {
		r.Capture.Answer(answer, len(answer))
	}
	if s.in.Conn.Send(answer) != nil {
		rec.Result, rec.Why = rpc.ResultGone, rpc.WhyDownstreamGone
	}
	rec.Duration = time.Since(r.Start)
	rec.Call.Observer.Observe(&rec)
	s.Settled(1)
}
