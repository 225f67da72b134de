package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/internal/handoff"
)

// askDial queues a Dial for the workers, or answers at once that it is too many.
// A full queue makes the proxy wait.
func (s *session) askDial(m *handoff.Message) error {
	if err := s.server.dialer.begin(m.Dial.Workload); err != nil {
		return s.answerDial(m.Seq, -1, err)
	}
	s.dials <- m
	return nil
}

// dialAll is a worker: it dials until the queue is closed.
func (s *session) dialAll() {
	for m := range s.dials {
		fd, err := s.server.dialer.dial(m.Dial)
		s.server.dialer.end(m.Dial.Workload)
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
	s.server.counts.dial(err)
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
	if no := s.server.desk.Refuse(m); no != nil {
		return s.conn.Send(no)
	}
	s.signing.Go(func() {
		if err := s.conn.Send(s.server.desk.Answer(ctx, m)); err != nil {
			s.log.Warn("answer sign", "error", err)
			_ = s.conn.Close()
		}
	})
	return nil
}

// destinations collects the parts of a generation and publishes it with the
// last. Entries that may not be steered refuse the whole generation: half of
// what the proxy asked for would be something that nobody asked for.
func (s *session) destinations(m *handoff.Message) error {
	d := m.Destinations
	if s.next != 0 && s.next != d.Generation {
		return fmt.Errorf("receive destinations: part of generation %d within %d", d.Generation, s.next)
	}
	s.next = d.Generation
	if len(s.parts)+len(d.Entries) > maxDestinations {
		return fmt.Errorf("receive destinations: more than %d entries", maxDestinations)
	}
	for _, e := range d.Entries {
		s.parts = append(s.parts, datapath.Destination{Prefix: e.Prefix, Port: e.Port})
	}
	if !d.Last {
		return nil
	}
	all := s.parts
	s.parts, s.next = nil, 0
	err := checkDestinations(all)
	if err == nil {
		err = s.server.put(s, d.Generation, all)
	}
	if err != nil {
		s.log.Error("destinations refused", "generation", d.Generation, "entries", len(all), "error", err)
	} else {
		s.log.Info("destinations published", "generation", d.Generation, "entries", len(all))
		s.server.counts.published(d.Generation, len(all))
	}
	if m.Seq == 0 {
		return nil
	}
	return s.conn.Send(handoff.NewAck(m.Seq, err))
}

// neverSteered are ranges that no rule steers: a call to one of them is the
// pod's own business. A wider range around them is allowed; the programs leave
// loopback alone whatever the range says.
var neverSteered = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// checkDestinations refuses destinations that lie within what is never steered.
func checkDestinations(all []datapath.Destination) error {
	for _, d := range all {
		for _, n := range neverSteered {
			if n.Bits() <= d.Prefix.Bits() && n.Contains(d.Prefix.Addr()) {
				return fmt.Errorf("check destination %s port %d: %s is never steered", d.Prefix, d.Port, n)
			}
		}
	}
	return nil
}
