package downstream

import (
	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

var (
	_ callback.Host  = (*Session)(nil)
	_ lane.Host      = (*Session)(nil)
	_ plan.Host      = (*Session)(nil)
	_ upstream.Bound = (*Session)(nil)
)

// Deliver writes whole answers to the consumer. Part of upstream.Owner.
func (s *Session) Deliver(frames ...[]byte) error {
	return s.in.Conn.Send(frames...)
}

// Stream returns the consumer's connection for one large answer. Part of
// upstream.Owner. A broken one takes the whole connection with it.
func (s *Session) Stream() sock.Streamer { return s.in.Conn }

// Settled says that n requests have ended. Part of upstream.Owner.
func (s *Session) Settled(n int) {
	if n > 0 {
		s.in.Quota.End(n)
	}
	if n > 0 && s.pending.Add(int64(-n)) == 0 {
		if s.dead.Load() {
			s.in.Conn.Within(s.env.lastLook()) // not at once: as in Refuse
		}
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
}

// Pending tells whether a request has no answer yet. Part of plan.Host.
func (s *Session) Pending() bool { return s.pending.Load() != 0 }

// Flying is how many requests have no answer yet. Part of lane.Host.
func (s *Session) Flying() int64 { return s.pending.Load() }

// Asked says that a provider waits for an answer of the consumer. Part of
// callback.Host.
func (s *Session) Asked() {
	s.in.Quota.Begin(1)
	s.pending.Add(1)
}

// Interrupt makes the reader look at the line. Part of callback.Host.
func (s *Session) Interrupt() { s.in.Conn.Interrupt() }

// ReadOnly tells a consumer that the pod's application is about to stop. Part of
// plan.Host.
func (s *Session) ReadOnly() {
	if events := s.protocol.Events; events != nil {
		// Not here: who says it reads for others too.
		go func() { _ = s.in.Conn.Send(events.AppendReadOnly(nil)) }()
	}
}

// Connect takes a descriptor for a connection of the line's. Part of callback.Host.
func (s *Session) Connect() bool { return s.in.Quota.Connect() }

// Disconnect gives it back. Part of callback.Host.
func (s *Session) Disconnect() { s.in.Quota.Disconnect() }

// Call is part of upstream.Called.
func (s *Session) Call(c *upstream.Conn, h codec.Header) (uint64, bool) { return s.line.Call(c, h) }

// Adopt is part of upstream.Called.
func (s *Session) Adopt(c *upstream.Conn, e *exchange.Edge) bool { return s.line.Adopt(c, e) }

// Part is part of upstream.Called.
func (s *Session) Part(c *upstream.Conn, made bool) { s.line.Part(c, made) }

func (s *Session) refuseRequest(r exchange.Request, why rpc.Why) {
	if held := s.plans.Held(); why == rpc.WhyFault && held != nil {
		s.abort(r, held)
		return
	}
	refusal := r.Refusal(false, why)
	if why == rpc.WhyDenied || why == rpc.WhyLimited || why == rpc.WhyLimitUnknown {
		refusal.Policy, refusal.Shadow = s.plans.Policy()
	}
	s.Refuse(refusal)
}

// Refuse answers a request in the provider's stead. Part of upstream.Owner.
func (s *Session) Refuse(r exchange.Refusal) {
	if s.env.Stopping.Load() && r.Why == rpc.WhyUpstreamClosed {
		r.Why = rpc.WhyShuttingDown
	}
	r.Unreached = s.in.Inbound && r.Why == rpc.WhyConnectFailed
	var answer []byte
	var status byte
	if !r.OneWay {
		answer, status = r.Answer(s.protocol)
		if s.in.Conn.Send(answer) != nil {
			r.Why, answer, status = rpc.WhyDownstreamGone, nil, 0
		}
		if r.Capture != nil {
			r.Capture.Answer(answer, len(answer))
		}
	}
	r.Observe(status, len(answer))
	if r.Why == rpc.WhyShuttingDown {
		// The connection outlives its last answer a little: dubbo-go loses one that
		// comes together with the end.
		s.in.Conn.Within(s.env.lastLook())
	}
	if !r.OneWay {
		s.Settled(1)
	}
}
