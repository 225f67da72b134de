package downstream

import (
	"bytes"
	"context"
	"time"

	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// holdSize is about what a delayed request costs beside its frame: itself, its timer,
// and a goroutine when many delays end at once.
const holdSize = 4 << 10

// hold is a request that waits: for the end of a fault's delay, or for the answers to
// questions about it.
type hold struct {
	session *Session
	request exchange.Request // whose frame is a copy
	plan    *plan.Held
	since   time.Time
	timer   *time.Timer        // of a delay; nil: there are questions
	cancel  context.CancelFunc // of questions
}

// hold keeps the request of the last Edge or Resume back, alone: those behind it on the
// connection go on. False: it cannot wait, because the workload has as many delayed
// requests as it may, or holds too much. A held request is pending, one-way or not.
func (s *Session) hold(r *exchange.Request, now time.Time) bool {
	h := &hold{session: s, request: *r, plan: s.plans.Held(), since: now}
	if !h.take() {
		return false
	}
	if r.OneWay {
		s.begin()
	}
	h.request.Frame = bytes.Clone(r.Frame)
	if s.holds == nil {
		s.holds = make(map[*hold]bool)
	}
	s.holds[h] = true
	if h.plan.Filter == nil {
		h.begin(r.Until)
		return true
	}
	s.env.Policies.Tally.Fault(h.plan.Filter, tally.Delayed).Add()
	wait := h.plan.Delay
	if !r.Until.IsZero() {
		wait = min(wait, r.Until.Sub(now))
	}
	h.timer = time.AfterFunc(wait, func() { h.end(refused{}) })
	return true
}

// take takes what a hold needs, or nothing and returns false.
func (h *hold) take() bool {
	s, f := h.session, h.plan.Filter
	if f == nil {
		return s.in.Quota.Remember(h.size())
	}
	uid, faults := s.in.Workload.UID, &s.env.Policies.Faults
	ok := !s.env.Stopping.Load() && faults.Begin(uid, f)
	if ok && !s.in.Quota.Remember(h.size()) {
		faults.End(uid, f)
		ok = false
	}
	if !ok {
		s.env.Policies.Tally.Fault(f, tally.Overflowed).Add()
	}
	return ok
}

// size is about what a hold costs, in bytes.
func (h *hold) size() int {
	if h.plan.Filter == nil {
		return len(h.request.Frame) + questionSize
	}
	return len(h.request.Frame) + holdSize
}

// end goes on with a request that waits no more, unless it is refused.
func (h *hold) end(after refused) {
	s := h.session
	s.again.Lock()
	defer s.again.Unlock()
	if !s.holds[h] {
		return // the consumer has gone
	}
	s.release(h)
	s.busy = true
	now, r := time.Now(), &h.request
	switch {
	case !r.Until.IsZero() && !now.Before(r.Until):
		s.refuseRequest(*r, rpc.WhyTimeout)
	case after.why != rpc.WhyNone:
		refusal := r.Refusal(false, after.why)
		refusal.Policy = after.by
		s.Refuse(refusal)
	case h.plan.Abort != nil:
		s.abort(*r, h.plan)
	default:
		header, err := s.protocol.Frames.ParseHeader(r.Frame)
		if err != nil {
			break // it was parsed before
		}
		edge, why := s.plans.Resume(header, r.Frame[header.Head:], h.plan)
		r.Edge = &edge.Edge
		s.forward(header, r, edge, why)
		s.flush()
	}
	if r.OneWay {
		s.Settled(1)
	}
	s.endDoomed()
}

// release gives back what a hold took. A delay is a fault's, the time of a question the
// mesh's own.
func (s *Session) release(h *hold) {
	delete(s.holds, h)
	s.in.Quota.Free(h.size())
	if h.plan.Filter != nil {
		h.request.Held += max(time.Since(h.since), 1)
		s.env.Policies.Faults.End(s.in.Workload.UID, h.plan.Filter)
	}
}

// dropHolds ends the held requests of a consumer that has gone. The caller locks.
func (s *Session) dropHolds() {
	for h := range s.holds {
		if h.timer != nil {
			h.timer.Stop()
		} else {
			h.cancel()
		}
		s.release(h)
		s.refuseRequest(h.request, rpc.WhyDownstreamGone)
		if h.request.OneWay {
			s.Settled(1)
		}
	}
}

// hurry ends all delays: a connection that is to end does not wait for them. It waits for
// answers, which come soon, or a limit would not hold while a proxy stops.
func (s *Session) hurry() {
	s.again.Lock()
	defer s.again.Unlock()
	for h := range s.holds {
		if h.timer != nil {
			h.timer.Reset(0)
		}
	}
}

// abort answers a request as a fault says.
func (s *Session) abort(r exchange.Request, held *plan.Held) {
	s.env.Policies.Tally.Fault(held.Filter, tally.Aborted).Add()
	refusal := r.Refusal(false, rpc.WhyFault)
	refusal.Policy, refusal.Abort = held.Filter.Name, held.Abort
	s.Refuse(refusal)
}
