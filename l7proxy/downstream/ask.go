package downstream

import (
	"context"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Asker asks the services of global rate limits. It returns when there is an answer, or
// none and ctx has ended. Safe for concurrent use.
type Asker interface {
	Ask(ctx context.Context, q *global.Question) global.Answer
}

// questionSize is about what a request that services are asked about costs beside its
// frame: a goroutine, and a call by gRPC.
const questionSize = 16 << 10

// refused is a request that is refused after a question; why is WhyNone if it is not.
type refused struct {
	why rpc.Why
	by  string // the filter
}

// asked asks questions, one after the other, until the request is refused, or nobody
// waits any more.
func (s *Session) asked(ctx context.Context, questions []global.Question) refused {
	for i := range questions {
		answer := s.ask(ctx, &questions[i])
		if ctx.Err() != nil {
			break // which says nothing about the service
		}
		if r := s.answered(&questions[i], answer); r.why != rpc.WhyNone {
			return r
		}
	}
	return refused{}
}

func (s *Session) ask(ctx context.Context, q *global.Question) global.Answer {
	if s.env.Asker == nil {
		return global.NoAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, q.Filter.Timeout)
	defer cancel()
	return s.env.Asker.Ask(ctx, q)
}

// unasked is asked for a request that cannot wait for an answer.
func (s *Session) unasked(questions []global.Question) refused {
	for i := range questions {
		if r := s.answered(&questions[i], global.NoAnswer); r.why != rpc.WhyNone {
			return r
		}
	}
	return refused{}
}

// answered is what comes of an answer.
func (s *Session) answered(q *global.Question, a global.Answer) refused {
	return refused{s.env.Policies.Answered(q, a), q.Filter.Name}
}

// pass finds the way of a request that is to wait and cannot: it has no delay, and its
// questions are not answered. E is for its record if it is refused.
func (s *Session) pass(h codec.Header, r *exchange.Request, e *upstream.Edge) (*upstream.Edge, rpc.Why) {
	held := s.plans.Held()
	if r := s.unasked(held.Questions); r.why != rpc.WhyNone {
		s.plans.Limited(r.by)
		return e, r.why
	}
	return s.plans.Pass(h, r.Frame[h.Head:], held)
}

// observe asks about the request of the last Edge, which goes on meanwhile, if it is to
// be asked about and only observed.
func (s *Session) observe() {
	held, q := s.plans.Held(), s.in.Quota
	if held == nil {
		return
	}
	if !q.Remember(questionSize) {
		s.unasked(held.Questions)
		return
	}
	go func() {
		defer q.Free(questionSize)
		s.asked(context.Background(), held.Questions)
	}()
}

// begin asks about a held request. Until is when it ends whatever it waits for; zero:
// never.
func (h *hold) begin(until time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	if !until.IsZero() {
		cancel()
		ctx, cancel = context.WithDeadline(context.Background(), until)
	}
	h.cancel = cancel
	go func() {
		defer cancel()
		h.end(h.session.asked(ctx, h.plan.Questions))
	}()
}
