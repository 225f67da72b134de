package downstream

import (
	"bytes"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/filter/tally"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// holdSize is about what a delayed request costs beside its frame: itself, its timer,
// and a goroutine when many delays end at once.
const holdSize = 4 << 10

// hold is a request that a fault delays.
type hold struct {
	session *Session
	request exchange.Request // whose frame is a copy
	plan    *plan.Faulted
	timer   *time.Timer
}

// hold delays the request of the last Edge or Resume, alone: those behind it on the
// connection go on. False: it goes on too, because the workload has as many delayed
// requests as it may, or holds too much. A delayed request is pending, one-way or not.
func (s *Session) hold(r *exchange.Request, now time.Time) bool {
	held := s.plans.Fault()
	uid, faults := s.in.Workload.UID, &s.env.Policies.Faults
	ok := !s.env.Stopping.Load() && faults.Begin(uid, held.Filter)
	if ok && !s.in.Quota.Remember(len(r.Frame)+holdSize) {
		faults.End(uid, held.Filter)
		ok = false
	}
	if !ok {
		s.env.Policies.Tally.Fault(held.Filter, tally.Overflowed).Add()
		return false
	}
	s.env.Policies.Tally.Fault(held.Filter, tally.Delayed).Add()
	if r.OneWay {
		s.begin()
	}
	wait := held.Delay
	if !r.Until.IsZero() {
		wait = min(wait, r.Until.Sub(now))
	}
	h := &hold{session: s, request: *r, plan: held}
	h.request.Frame = bytes.Clone(r.Frame)
	if s.holds == nil {
		s.holds = make(map[*hold]bool)
	}
	s.holds[h] = true
	h.timer = time.AfterFunc(wait, h.end)
	return true
}

// delayed tells whether the request of the last Edge or Resume is to be delayed.
func (s *Session) delayed() bool {
	held := s.plans.Fault()
	return held != nil && held.Delay > 0
}

// end goes on with a request whose delay is over.
func (h *hold) end() {
	s := h.session
	s.again.Lock()
	defer s.again.Unlock()
	if !s.holds[h] {
		return // the consumer has gone
	}
	s.release(h)
	s.busy = true
	now, r := time.Now(), &h.request
	r.Held = max(now.Sub(r.Start), 1)
	switch {
	case !r.Until.IsZero() && !now.Before(r.Until):
		s.refuseRequest(*r, rpc.WhyTimeout)
	case h.plan.Abort != nil:
		s.abort(*r, h.plan)
	default:
		header, err := dubbo.ParseHeader(r.Frame)
		if err != nil {
			break // it was parsed before
		}
		edge, why := s.plans.Resume(header, r.Frame[dubbo.HeaderLen:], h.plan)
		r.Edge = &edge.Edge
		s.forward(header, r, edge, why)
		s.flush()
	}
	if r.OneWay {
		s.Settled(1)
	}
}

// release gives back what a hold took.
func (s *Session) release(h *hold) {
	delete(s.holds, h)
	s.in.Quota.Free(len(h.request.Frame) + holdSize)
	s.env.Policies.Faults.End(s.in.Workload.UID, h.plan.Filter)
}

// dropHolds ends the delayed requests of a consumer that has gone. The caller locks.
func (s *Session) dropHolds() {
	for h := range s.holds {
		h.timer.Stop()
		s.release(h)
		h.request.Held = max(time.Since(h.request.Start), 1)
		s.refuseRequest(h.request, rpc.WhyDownstreamGone)
		if h.request.OneWay {
			s.Settled(1)
		}
	}
}

// hurry ends all delays: a connection that is to end does not wait for them.
func (s *Session) hurry() {
	s.again.Lock()
	defer s.again.Unlock()
	for h := range s.holds {
		h.timer.Reset(0)
	}
}

// abort answers a request as a fault says.
func (s *Session) abort(r exchange.Request, held *plan.Faulted) {
	s.env.Policies.Tally.Fault(held.Filter, tally.Aborted).Add()
	refusal := r.Refusal(false, rpc.WhyFault)
	refusal.Policy, refusal.Abort = held.Filter.Name, held.Abort
	s.Refuse(refusal)
}
