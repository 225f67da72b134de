package server

import (
	"context"
	"errors"

	"github.com/dubway/dubway/internal/handoff"
)

// askDial queues a Dial for the workers, or answers at once that it is too many.
// A full queue makes the proxy wait.
func (s *session) askDial(m *handoff.Message) error {
	if err := s.server.Dialer.begin(m.Dial.Workload); err != nil {
		return s.answerDial(m.Seq, -1, err)
	}
	s.dials <- m
	return nil
}

// dialAll is a worker: it dials until the queue is closed.
func (s *session) dialAll() {
	for m := range s.dials {
		fd, err := s.server.Dialer.dial(m.Dial)
		s.server.Dialer.end(m.Dial.Workload)
		if err := s.answerDial(m.Seq, fd, err); err != nil {
			// A proxy that does not read its answers is of no use; without the
			// connection, what is queued ends at once.
			s.log.Warn("answer dial", "error", err)
			_ = s.conn.Close()
		}
	}
}

// answerDial sends the result and closes fd, of which the proxy has a duplicate.
func (s *session) answerDial(seq uint64, fd int, err error) error {
	defer closeFD(fd)
	s.server.Counts.dial(err)
	if err != nil {
		if d, ok := errors.AsType[*handoff.DialError](err); ok && d.Code == handoff.DialDenied {
			s.log.Warn("dial denied", "error", err)
		}
		return s.conn.Send(handoff.NewDialResult(seq, err))
	}
	return s.conn.Send(handoff.NewDialResult(seq, nil), fd)
}

// askSign asks for a certificate beside what else the proxy says, or refuses at once.
func (s *session) askSign(ctx context.Context, m *handoff.Message) error {
	if no := s.server.Desk.Refuse(m); no != nil {
		return s.conn.Send(no)
	}
	s.signing.Go(func() {
		if err := s.conn.Send(s.server.Desk.Answer(ctx, m)); err != nil {
			s.log.Warn("answer sign", "error", err)
			_ = s.conn.Close()
		}
	})
	return nil
}

// destinations collects the parts of a generation and puts it in force with the last.
func (s *session) destinations(m *handoff.Message) error {
	g, err := s.parts.Add(m.Destinations)
	if err != nil || g == nil {
		return err
	}
	err = s.server.put(s, g)
	log := s.log.With("table", g.Number, "generation", g.Generation, "entries", len(g.Destinations),
		"workloads", len(g.Workloads), "unknown", g.Unknown.String())
	if err != nil {
		log.Error("destinations refused", "error", err)
	} else {
		log.Info("destinations published")
	}
	defer s.server.askMissing() // after the ack: the proxy answers by what it knows
	if m.Seq == 0 {
		return nil
	}
	return s.conn.Send(handoff.NewAck(m.Seq, err))
}
