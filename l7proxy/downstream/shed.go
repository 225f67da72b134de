package downstream

import (
	"errors"
	"os"
	"time"

	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// fill waits for more bytes. Where the workload holds too many buffers already, or
// is shed, the request that needs one is refused: then whole ones may be buffered.
func (s *Session) fill() error {
	err := s.in.Conn.Fill()
	switch {
	case err == nil:
		s.ride.Got()
		return nil
	case errors.Is(err, sock.ErrOver):
		return s.shed()
	case s.unloads(err):
		return s.lighten()
	}
	return err
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
	r := exchange.Asked(h, first, time.Now())
	r.Length, r.Edge = h.Len(), &edge.Edge
	if !r.OneWay {
		s.begin()
	}
	why := rpc.WhyOverflow
	if s.in.Quota.Shedding() {
		why = rpc.WhyOverload
	}
	s.refuseRequest(r, why)
	return s.pump(nil, h.Len())
}

// Unload has the reader give up the request of which it holds a part. One that waits
// for a connection's first bytes, or is a relay's, holds nothing.
func (s *Session) Unload() {
	s.mode.Lock()
	defer s.mode.Unlock()
	if s.serving.Load() && !s.relayed {
		s.unload.Store(true)
		s.in.Conn.Interrupt()
	}
}

// unloads tells whether the reader's wait ended because of Unload alone: a connection
// that is to end does so.
func (s *Session) unloads(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && s.unload.Swap(false) &&
		!s.env.Stopping.Load() && !s.dead.Load() && !s.line.Parted() && !s.plans.Off()
}

// lighten gives the part up.
func (s *Session) lighten() error {
	s.in.Conn.Resume()
	if _, err := s.protocol.Frames.ParseHeader(s.in.Conn.Bytes()); err == nil && s.in.Quota.Shedding() {
		return s.shed()
	}
	return nil // a header comes first
}

// yielding is how long a connection that waits does not look whether it is to end.
const yielding = 100 * time.Millisecond

// yield lets other workloads' bodies be read, where this one's have been read for too
// long. Meanwhile nothing more is read here, and nothing is refused.
func (s *Session) yield(wait time.Duration) {
	for wait > 0 && !s.env.Stopping.Load() && !s.plans.Off() && s.in.Conn.Err() == nil {
		d := min(wait, yielding)
		time.Sleep(d)
		wait -= d
	}
}
