package downstream

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// errLeft ends a connection whose consumer left in front of the end of a request.
var errLeft = errors.New("the consumer left inside a request")

// errFull: the workload may have no more connections.
var errFull = errors.New("the workload has as many connections as it may")

// large passes on one frame that is not held whole, or refuses it if it is over
// the limit. Its first bytes are buffered; the caller has flushed.
func (s *Session) large(h codec.Header, total int, now time.Time) error {
	switch {
	case h.Event():
		return errFraming
	case !h.Request():
		return s.pump(s.largeAnswer(h, total), total)
	}
	s.fresh = true
	// The prefix is short, but may not have arrived yet.
	for len(s.in.Conn.Bytes()) < min(total, h.Head+s.protocol.MaxPrefix) {
		if _, state := s.protocol.Requests.Prefix(h, s.in.Conn.Bytes()[h.Head:]); state != codec.More {
			break
		}
		if err := s.more(); errors.Is(err, sock.ErrOver) {
			return s.drop()
		} else if err != nil {
			return err
		}
	}
	r := exchange.Asked(h, s.first(total), now)
	r.Length = total
	if !r.OneWay {
		s.begin()
	}
	s.plans.Lead(s.ride.Drawn(h, r.Frame[h.Head:]))
	up, why, err := s.upload(h, &r, total)
	if up == nil {
		s.refuseRequest(r, why)
	}
	if err != nil {
		return err
	}
	return s.pump(up, total)
}

// first is what is buffered of a frame.
func (s *Session) first(total int) []byte {
	b := s.in.Conn.Bytes()
	return b[:min(total, len(b))]
}

// upload finds the connection for a large request and begins it. Without one it
// says why; the error is the consumer's, which has left.
func (s *Session) upload(h codec.Header, r *exchange.Request, total int) (*upstream.Upload, rpc.Why, error) {
	for attempt := 0; ; {
		s.plans.Sent() // the attempt before has ended
		find := s.plans.Edge
		if r.Edge != nil { // policies have let it pass
			find = func(h codec.Header, body []byte) (*upstream.Edge, rpc.Why) { return s.plans.Elsewhere(h, body) }
		}
		edge, why := find(h, r.Frame[h.Head:])
		r.Until = s.until(r.Start)
		for why == rpc.WhyNone && total <= s.env.MaxFrame && s.plans.Held().Waits() {
			edge, why = s.pass(h, r, edge) // it waits only since a moment ago: nothing to hold
		}
		r.Edge, r.Answers = &edge.Edge, s.plans.Answers(edge, r.Frame)
		if s.tapped && r.Capture == nil && !r.OneWay {
			r.Capture = s.env.Tap.Capture(r.Edge.Remote, r.Frame, total)
		}
		if total > s.env.MaxFrame {
			why = rpc.WhyTooLarge
		}
		if why != rpc.WhyNone {
			return nil, why, nil
		}
		up, err := s.start(edge, r)
		switch {
		case err == nil:
			return up, rpc.WhyNone, nil
		case errors.Is(err, upstream.ErrBusy):
			// Meanwhile nothing more is read: that is the back-pressure.
			if s.left(total) {
				return nil, rpc.WhyDownstreamGone, errLeft
			}
		case errors.Is(err, errFull):
			return nil, rpc.WhyOverflow, nil
		case attempt == maxAttempts:
			return nil, rpc.WhyConnectFailed, nil
		default:
			attempt++
		}
	}
}

// start begins a large request on a connection for those, or on the one that is
// this connection's alone. It may take a second, in which what waits for a
// connection may be routed anew.
func (s *Session) start(edge *upstream.Edge, r *exchange.Request) (*upstream.Upload, error) {
	var own *upstream.Conn
	if s.line.Any() || edge.Group.CallsBack() {
		if own = s.conn(edge, r.Frame); own == nil {
			return nil, errFull
		} else if !own.Dedicated() {
			own = nil // its route leads elsewhere
		}
	}
	s.again.Unlock()
	defer s.again.Lock()
	if own != nil {
		return own.Upload(s, *r)
	}
	return edge.Group.Upload(s, *r)
}

// left tells whether the consumer has gone, or will never complete a frame of
// which only a part is here. Its end is noticed while nothing is read, unless it
// waits behind more than the kernel takes for us: then it is met when reading
// goes on.
func (s *Session) left(total int) bool {
	missing := total - len(s.in.Conn.Bytes())
	waiting, err := s.in.Conn.Ended()
	return err != nil && (!errors.Is(err, io.EOF) || waiting < missing)
}

// largeAnswer begins an answer that is not held whole; nil: it is dropped.
func (s *Session) largeAnswer(h codec.Header, total int) *upstream.Upload {
	conn, id, ok := s.line.Answered(h.ID)
	if !ok {
		return nil
	}
	if h.ID = id; total > s.env.MaxFrame {
		conn.Answer(dubbo.AppendError(nil, h, dubbo.StatusBadResponse, "dubway: the answer is larger than the limit"))
		return nil
	}
	first := s.first(total)
	s.protocol.Frames.PutID(first, id)
	return conn.StartAnswer(first)
}

// pump moves the rest of a large frame; without an upload it is dropped. What
// waits for a connection may be routed anew meanwhile.
func (s *Session) pump(up *upstream.Upload, total int) error {
	s.again.Unlock()
	defer s.again.Lock()
	n := len(s.first(total))
	s.in.Conn.Discard(n)
	for n < total {
		if err := s.more(); err != nil {
			if up != nil {
				up.Abort()
			}
			return err
		}
		b := s.first(total - n)
		if up != nil {
			up.Write(b)
		}
		s.in.Conn.Discard(len(b))
		n += len(b)
	}
	if up != nil {
		up.End()
	}
	return nil
}

// more reads inside a frame: a connection that shall end does so behind it.
func (s *Session) more() error {
	err := s.in.Conn.Fill()
	for errors.Is(err, os.ErrDeadlineExceeded) {
		s.in.Conn.Resume()
		err = s.in.Conn.Fill()
	}
	return err
}
