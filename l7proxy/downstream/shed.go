package downstream

import (
	"errors"
	"time"

	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// fill waits for more bytes. Where the workload holds too many buffers already,
// the request that needs another one is refused.
func (s *Session) fill() error {
	if err := s.in.Conn.Fill(); !errors.Is(err, sock.ErrOver) {
		return err
	}
	return s.shed()
}

// shed refuses the request of which a part is buffered, and drops its rest as it
// comes. What is no request ends the connection.
func (s *Session) shed() error {
	s.again.Lock()
	defer s.again.Unlock()
	return s.drop()
}

// drop is shed under the lock.
func (s *Session) drop() error {
	first := s.in.Conn.Bytes()
	h, err := s.protocol.Frames.ParseHeader(first)
	if err != nil || !h.Request() || h.Event() {
		return sock.ErrOver
	}
	edge, _ := s.plans.Elsewhere(h, first[h.Head:]) // takes no tokens
	r := exchange.Request{
		Frame: first, Length: h.Len(), ID: h.ID, Edge: &edge.Edge, Start: time.Now(),
		OneWay: !h.TwoWay(), Serialization: h.Serialization(),
	}
	if !r.OneWay {
		s.pending.Add(1)
	}
	s.refuseRequest(r, rpc.WhyOverflow)
	return s.pump(nil, h.Len())
}
