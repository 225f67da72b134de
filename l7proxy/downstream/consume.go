package downstream

import (
	"errors"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// errFraming ends a connection whose bytes are no frames: nobody can tell where
// the next one begins.
var errFraming = errors.New("the consumer's bytes are not frames of its protocol")

// batch is what one read has for one upstream connection.
type batch struct {
	conn     *upstream.Conn
	requests []exchange.Request
	spans    [][]byte // the requests; adjacent frames are one
	answers  [][]byte // to the provider's own requests
}

// consume walks the whole frames of what is buffered: of a protocol whose connections
// carry one request at a time, up to the first one that is pending. It returns their
// length, and the length of a frame of which only a part is there if a larger buffer is
// needed for it.
func (s *Session) consume(now time.Time) (used, need int, err error) {
	s.crowded = s.in.Quota.Crowded()
	b := s.in.Conn.Bytes()
	for len(b) > used && !s.occupied() {
		frame := b[used:]
		h, err := s.protocol.Frames.ParseHeader(frame)
		if errors.Is(err, codec.ErrShort) {
			break
		} else if err != nil {
			return used, 0, errFraming
		}
		total := h.Len()
		switch {
		case total > s.env.MaxFrame, total > len(frame) && total > sock.Largest && (!h.Request() || s.plans.Streamable()):
			s.flush()
			s.in.Conn.Discard(used)
			if err := s.large(h, total, now); err != nil {
				return 0, 0, err
			}
			used, b = 0, s.in.Conn.Bytes()
			continue
		case total > len(frame):
			return used, total, nil
		}
		s.frame(h, frame[:total], now)
		used += total
	}
	return used, 0, nil
}

// frame takes one whole frame.
func (s *Session) frame(h codec.Header, frame []byte, now time.Time) {
	switch {
	case h.Event():
		if events := s.protocol.Events; events != nil && h.Request() && h.TwoWay() {
			s.out = events.AppendReply(s.out, h)
		}
		return
	case !h.Request():
		if conn, id, ok := s.line.Answered(h.ID); ok {
			s.protocol.Frames.PutID(frame, id)
			b := s.batch(conn)
			b.answers = append(b.answers, frame)
		}
		return
	}
	s.fresh = true
	s.plans.Lead(s.ride.Drawn(h, frame[h.Head:]))
	edge, why := s.plans.Edge(h, frame[h.Head:])
	r := exchange.Asked(h, frame, now)
	r.Edge, r.Until, r.Span = &edge.Edge, s.until(now), s.plans.Span(frame)
	if !r.OneWay {
		s.begin()
		if s.crowded && why == rpc.WhyNone {
			why = rpc.WhyOverflow
		}
	}
	if s.forward(h, &r, edge, why); why == rpc.WhyNone {
		s.ride.Came(&s.plans, h, frame)
	}
}

// forward takes a request the way that was planned for it last, lets it wait, or refuses
// it. The caller flushes.
func (s *Session) forward(h codec.Header, r *exchange.Request, edge *upstream.Edge, why rpc.Why) {
	for why == rpc.WhyNone && s.plans.Held().Waits() {
		if s.hold(r, time.Now()) {
			return
		}
		edge, why = s.pass(h, r, edge)
		r.Edge = &edge.Edge
	}
	if why == rpc.WhyNone {
		s.observe()
	}
	r.Frame = s.plans.Edited(r.Frame, r.Span)
	if s.tapped {
		r.Capture = s.env.Tap.Capture(edge.Remote, r.Frame, len(r.Frame))
	}
	if why != rpc.WhyNone {
		s.refuseRequest(*r, why)
		return
	}
	for _, e := range s.plans.Mirrors() {
		s.env.Mirror.Send(e, r.Frame)
	}
	if c := s.conn(edge, r.Frame); c != nil {
		r.Answers = s.plans.Answers(edge, r.Frame)
		s.batch(c).add(*r)
	} else {
		s.refuseRequest(*r, rpc.WhyOverflow)
	}
}

// occupied tells whether the connection takes no more requests until what is pending
// has been answered: its answers have its requests' order.
func (s *Session) occupied() bool { return s.protocol.Serial && s.Pending() }

// begin says that one more request is pending.
func (s *Session) begin() {
	s.pending.Add(1)
	s.began++
}

// count has the workload's quota count what has begun, once for each read.
func (s *Session) count() {
	if s.began > 0 {
		s.in.Quota.Begin(s.began)
		s.began = 0
	}
}

// until returns when the request that was just planned ends; zero: never.
func (s *Session) until(now time.Time) time.Time {
	if limit := s.plans.Limit(); limit > 0 {
		return now.Add(limit)
	}
	return time.Time{}
}

// conn returns the connection that takes a request: the one that all of the
// workload share, or the one that is this connection's alone. Nil: it should be that
// one, and the workload has too many connections. It is for one request where the
// protocol's connections carry one at a time.
func (s *Session) conn(e *upstream.Edge, frame []byte) *upstream.Conn {
	declares := e.Group.CallsBack() || s.protocol.Events != nil && s.protocol.Events.DeclaresCallback(frame)
	if !declares && !s.line.Any() {
		return e.Group.Conn()
	}
	return s.line.Conn(s, e, declares)
}

// batch finds or adds the batch of a connection.
func (s *Session) batch(c *upstream.Conn) *batch {
	for i := s.used - 1; i >= 0; i-- {
		if s.batches[i].conn == c {
			return &s.batches[i]
		}
	}
	if s.used == len(s.batches) {
		s.batches = append(s.batches, batch{})
	}
	s.used++
	s.batches[s.used-1].conn = c
	return &s.batches[s.used-1]
}

func (b *batch) add(r exchange.Request) {
	b.requests = append(b.requests, r)
	b.spans = sock.Join(b.spans, r.Frame)
}

// flush sends what was collected: one write per upstream connection, then the
// replies to events.
func (s *Session) flush() {
	for i := range s.batches[:s.used] {
		b := &s.batches[i]
		if len(b.requests) > 0 && !b.conn.Send(s, b.requests, b.spans) {
			s.resend(b)
		}
		if len(b.answers) > 0 {
			b.conn.Answer(b.answers...)
		}
		clear(b.requests)
		clear(b.spans)
		clear(b.answers)
		*b = batch{requests: b.requests[:0], spans: b.spans[:0], answers: b.answers[:0]}
	}
	s.used = 0
	s.count()
	s.plans.Sent()
	if len(s.out) > 0 {
		_ = s.in.Conn.Send(s.out)
		s.out = s.out[:0]
	}
}

// resend sends requests whose connection ended before it took any of them.
func (s *Session) resend(b *batch) {
	if b.conn.Dedicated() {
		// It was another's, could not be made, or has ended.
		for _, r := range b.requests {
			r.Attempt++
			s.route(r)
		}
		return
	}
	for range maxAttempts {
		if c := b.conn.Group().Conn(); c != nil && c.Send(s, b.requests, b.spans) {
			return
		}
	}
	for _, r := range b.requests {
		s.refuseRequest(r, rpc.WhyConnectFailed)
	}
}
