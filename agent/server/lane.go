package server

import (
	"sync/atomic"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// laneTalk is what a session knows of its proxy's lanes.
type laneTalk struct {
	proxy    lanes.Proxy
	replaced atomic.Bool     // by a newer proxy: it lives and drains
	yields   <-chan struct{} // closed when it is to close its lanes, as another proxy accepts
	last     *handoff.Lanes  // that it was told; tellAll's
	// asked are what is done if a message is refused, by Seq; the session's mu guards it.
	asked map[uint64]func(text string)
}

// beginLanes says that a proxy connected: what it had before it tells of anew.
func (s *Server) beginLanes(p *session) {
	if s.Lanes != nil {
		s.Lanes.Kept.Begin(p.lanes.proxy.Instance)
	}
}

// endLanes says that a proxy's connection ended. Whether the proxy did is not known: one
// that was replaced drains, any other one has most likely died, or comes back.
func (s *Server) endLanes(p *session) {
	if s.Lanes != nil {
		s.Lanes.Gone(p.lanes.proxy, p.lanes.replaced.Load())
	}
}

// tellLanes tells what of lanes is not told yet. The channel is closed when that may have
// changed; nil where there are no lanes.
func (s *session) tellLanes() (<-chan struct{}, error) {
	t := &s.lanes
	if s.server.Lanes == nil {
		return nil, nil
	}
	if s.server.yielded.Load() {
		off := handoff.Lanes{Mode: handoff.LaneOff, Why: "another proxy accepts"}
		if t.last != nil {
			off.Maps = t.last.Maps
		}
		return nil, s.sayLanes(&off, nil)
	}
	o := s.server.Lanes.Offer(t.proxy)
	fds := make([]int, len(o.Files))
	for i, f := range o.Files {
		fds[i] = int(f.Fd())
	}
	return o.Changed, s.sayLanes(&o.Lanes, fds)
}

// sayLanes sends a message that differs from the last, and the files once.
func (s *session) sayLanes(l *handoff.Lanes, fds []int) error {
	t := &s.lanes
	if t.last != nil && t.last.Maps == l.Maps {
		l.Sizes, fds = lane.Sizes{}, nil
	}
	if t.last != nil && t.last.Mode == l.Mode && t.last.Why == l.Why && t.last.Maps == l.Maps {
		return nil
	}
	t.last = l
	seq := s.expectRefusal(func(text string) {
		s.log.Error("proxy has no lanes", "error", text)
		s.server.Lanes.Refused(text)
	})
	return s.conn.Send(&handoff.Message{Kind: handoff.KindLanes, Seq: seq, Lanes: l}, fds...)
}

// expectRefusal numbers a message of lanes.
func (s *session) expectRefusal(refused func(text string)) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.lanes.asked[s.seq] = refused
	return s.seq
}

// tellLeft gives the proxy the lanes of one that is dead. Those of pods that are no more,
// and those of another memory than the proxy has, are let go of.
func (s *session) tellLeft(told map[string]*enroll.Workload) error {
	t := &s.lanes
	if s.server.Lanes == nil || t.last == nil || t.last.Maps == 0 || s.server.yielded.Load() {
		return nil
	}
	var err error
	for _, l := range s.server.Lanes.Kept.Inherit(t.proxy.Instance) {
		if err == nil && told[l.Workload] != nil && l.Maps == t.last.Maps {
			err = s.tellLane(l.Lane, l.Sockets)
		} else {
			s.dropLane(l.Number)
		}
		closeAll(l.Sockets)
	}
	return err
}

// tellLane gives the proxy one of them; what it does not take is let go of, see acked.
func (s *session) tellLane(l *handoff.Lane, sockets []*netns.Socket) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			closeFD(fd)
		}
	}()
	for _, socket := range sockets {
		fd, err := socket.Duplicate()
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	seq := s.expectRefusal(func(text string) {
		s.log.Warn("proxy refused a lane of the proxy before", "lane", l.Number, "uid", l.Workload, "error", text)
		s.dropLane(l.Number)
	})
	return s.conn.Send(&handoff.Message{Kind: handoff.KindLane, Seq: seq, Lane: l}, fds...)
}

// keepLane keeps a lane of the proxy. What cannot be kept ends with the proxy, as any
// connection of it does.
func (s *session) keepLane(l *handoff.Lane, sockets []*netns.Socket) {
	if s.server.Lanes == nil || s.lanes.proxy.Instance == 0 {
		closeAll(sockets)
		return
	}
	if err := s.server.Lanes.Kept.Put(s.lanes.proxy.Instance, l, sockets); err != nil {
		s.log.Warn("a lane would not outlive the proxy", "error", err)
	}
}

func (s *session) dropLane(number uint32) {
	if s.server.Lanes != nil {
		s.server.Lanes.Kept.Drop(s.lanes.proxy.Instance, number)
	}
}
