package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/limit"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
)

const (
	greetTimeout = 5 * time.Second
	maxHeld      = 4096 // workloads that a proxy may claim to hold
	dialWorkers  = 16   // each keeps a thread busy while it dials
)

// session is one proxy's connection. Several parts run at once: what the proxy
// says is read and answered, what it asks to dial is dialled by a few workers,
// what it wants signed is asked for, and what is enrolled is told to it.
type session struct {
	server  *Server
	conn    *handoff.Conn
	log     *slog.Logger
	release string
	lanes   laneTalk
	dials   chan *handoff.Message
	signing sync.WaitGroup // certificates that are being asked for

	parts table.Parts // of the generation that is being received

	mu      sync.Mutex
	seq     uint64
	unacked map[uint64]string // uid by Seq
	refused map[string]string // what the proxy could not take, by uid
}

func newSession(s *Server, conn *handoff.Conn, log *slog.Logger) *session {
	return &session{
		server: s, conn: conn, log: log,
		dials:   make(chan *handoff.Message, limit.DialsOutstanding),
		unacked: make(map[uint64]string), refused: make(map[string]string),
		lanes: laneTalk{yields: s.yields, asked: make(map[uint64]func(text string))},
	}
}

// greet hears who the proxy is and what it holds, and answers Hello. What it
// returns is the caller's to close.
func (s *session) greet() (held map[string][]*netns.Socket, err error) {
	watchdog := time.AfterFunc(greetTimeout, func() { _ = s.conn.Close() })
	defer watchdog.Stop()
	held = make(map[string][]*netns.Socket)
	defer func() {
		if err != nil {
			for _, sockets := range held {
				closeAll(sockets)
			}
			held = nil
		}
	}()
	if err := s.hello(); err != nil {
		return held, err
	}
	for len(held) <= maxHeld {
		m, fds, err := s.conn.Receive()
		if err != nil {
			return held, err
		}
		switch m.Kind {
		case handoff.KindWorkload:
			closeAll(held[m.Workload.UID])
			held[m.Workload.UID] = keep(fds)
		case handoff.KindSnapshotEnd:
			return held, nil
		default:
			closeAll(keep(fds))
			return held, fmt.Errorf("greet proxy: unexpected %s", m.Kind)
		}
	}
	return held, fmt.Errorf("greet proxy: it claims to hold more than %d workloads", maxHeld)
}

// hello exchanges versions. Ours is sent also to a peer of another version: it
// shall be able to say why it was refused.
func (s *session) hello() error {
	m, fds, err := s.conn.Receive()
	if err != nil {
		return err
	}
	closeAll(keep(fds))
	if m.Kind != handoff.KindHello {
		return fmt.Errorf("greet proxy: got %s before hello", m.Kind)
	}
	s.release = m.Hello.Release
	s.lanes.proxy = lanes.Proxy{Instance: m.Hello.Instance, Maps: m.Hello.Maps}
	ours := &handoff.Hello{Version: handoff.Version, Release: version.Version, Node: s.server.Node}
	if m.Hello.Version != handoff.Version {
		return errors.Join(fmt.Errorf("greet proxy: release %s speaks version %d, not %d",
			m.Hello.Release, m.Hello.Version, handoff.Version),
			s.conn.Send(&handoff.Message{Kind: handoff.KindHello, Hello: ours}))
	}
	return nil
}

// sayHello says who we are, and lends the proxy the note of whose proxy serves.
func (s *session) sayHello() error {
	ours := &handoff.Hello{Version: handoff.Version, Release: version.Version, Node: s.server.Node}
	if s.server.Note == nil {
		return s.conn.Send(&handoff.Message{Kind: handoff.KindHello, Hello: ours})
	}
	file, err := s.server.Note.Lend()
	if err != nil {
		return err
	}
	defer file.Close()
	ours.Note = s.server.Note.Name()
	return s.conn.Send(&handoff.Message{Kind: handoff.KindHello, Hello: ours}, int(file.Fd()))
}

// run serves the connection until it ends.
func (s *session) run(ctx context.Context) error {
	if err := s.sayHello(); err != nil {
		return err
	}
	if s.server.yielded.Load() { // before it has a listener
		s.yield()
	}
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	for range dialWorkers {
		parts.Go(s.dialAll)
	}
	parts.Go(func() {
		if err := s.tellAll(ctx); err != nil {
			s.log.Warn("tell proxy", "error", err)
			_ = s.conn.Close()
		}
	})
	err := s.readAll(ctx)
	cancel()
	_ = s.conn.Close()
	close(s.dials)
	s.signing.Wait()
	parts.Wait()
	return err
}

// yield tells the proxy not to accept. A proxy that does not read does not hold
// anybody up: it loses its connection.
func (s *session) yield() {
	if err := s.conn.Send(&handoff.Message{Kind: handoff.KindYield}); err != nil {
		s.log.Warn("tell proxy to yield", "error", err)
		_ = s.conn.Close()
	}
}

// goodbye tells the proxy that another took its place. It returns at once: an old
// proxy that does not read does not hold the new one up.
func (s *session) goodbye() {
	s.lanes.replaced.Store(true)
	go func() {
		_ = s.conn.Send(&handoff.Message{Kind: handoff.KindGoodbye})
		// It hangs up when it has read that. To close first could reset the
		// connection with the Goodbye unread.
		time.AfterFunc(goodbyeTimeout, func() { _ = s.conn.Close() })
	}()
}

// readAll handles what the proxy says.
func (s *session) readAll(ctx context.Context) error {
	for {
		m, fds, err := s.conn.Receive()
		if err != nil {
			return err
		}
		switch m.Kind {
		case handoff.KindDial:
			err = s.askDial(m)
		case handoff.KindSign:
			err = s.askSign(ctx, m)
		case handoff.KindDestinations:
			err = s.destinations(m)
		case handoff.KindCertified:
			s.server.Desk.Certified(m.Certified)
		case handoff.KindLane:
			s.keepLane(m.Lane, keep(fds))
		case handoff.KindLaneGone:
			s.dropLane(m.LaneGone.Number)
		case handoff.KindAck:
			s.acked(m)
		default:
			closeAll(keep(fds))
			err = fmt.Errorf("receive message: unexpected %s", m.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// tellAll keeps the proxy's view equal to what is enrolled: lanes, everything else once,
// SnapshotEnd, then what changes.
func (s *session) tellAll(ctx context.Context) error {
	told := make(map[string]*enroll.Workload)
	for first := true; ; first = false {
		lanesChanged, err := s.tellLanes()
		if err != nil {
			return err
		}
		workloads, changed := s.server.Roster.Workloads()
		if err := s.tell(told, workloads); err != nil {
			return err
		}
		if first {
			if err := s.tellLeft(told); err != nil {
				return err
			}
			end := &handoff.Message{Kind: handoff.KindSnapshotEnd, Seq: s.expectAck("")}
			if err := s.conn.Send(end); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-lanesChanged:
		case <-s.lanes.yields:
			s.lanes.yields = nil // once
		}
	}
}

// tell sends the difference between what was told and what is. What left goes
// first: its address may be a new pod's.
func (s *session) tell(told map[string]*enroll.Workload, workloads []*enroll.Workload) error {
	now := make(map[string]*enroll.Workload, len(workloads))
	for _, w := range workloads {
		now[w.Pod.UID] = w
	}
	for uid := range told {
		if now[uid] != nil {
			continue
		}
		delete(told, uid)
		gone := &handoff.Message{Kind: handoff.KindWorkloadGone, Seq: s.expectAck(uid),
			WorkloadGone: &handoff.WorkloadGone{UID: uid}}
		if err := s.conn.Send(gone); err != nil {
			return err
		}
	}
	for uid, w := range now {
		if told[uid] == w {
			continue
		}
		if err := s.tellWorkload(w); err != nil {
			return err
		}
		told[uid] = w
	}
	return nil
}

// tellWorkload sends a pod with duplicates of its listeners. One that was closed
// meanwhile has left: the next difference says so.
func (s *session) tellWorkload(w *enroll.Workload) error {
	fds := make([]int, 0, len(w.Listeners))
	defer func() {
		for _, fd := range fds {
			closeFD(fd)
		}
	}()
	for _, l := range w.Listeners {
		fd, err := l.Socket.Duplicate()
		if err != nil {
			s.log.Debug("workload left before it was told", "uid", w.Pod.UID, "error", err)
			return nil
		}
		fds = append(fds, fd)
	}
	m := &handoff.Message{Kind: handoff.KindWorkload, Seq: s.expectAck(w.Pod.UID), Workload: w.Message()}
	return s.conn.Send(m, fds...)
}

// expectAck numbers a message whose ack is to be noted.
func (s *session) expectAck(uid string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.unacked[s.seq] = uid
	return s.seq
}

// acked notes what the proxy made of a message.
func (s *session) acked(m *handoff.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused, ok := s.lanes.asked[m.Seq]; ok {
		delete(s.lanes.asked, m.Seq)
		if m.Ack != nil && m.Ack.Error != "" {
			refused(m.Ack.Error)
		}
		return
	}
	uid, ok := s.unacked[m.Seq]
	if !ok {
		return
	}
	delete(s.unacked, m.Seq)
	delete(s.refused, uid)
	if m.Ack != nil && m.Ack.Error != "" {
		s.refused[uid] = m.Ack.Error
		s.log.Warn("proxy refused a workload", "uid", uid, "error", m.Ack.Error)
	}
}

// refusals returns what the proxy could not take, by uid.
func (s *session) refusals() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

func keep(fds []int) []*netns.Socket {
	sockets := make([]*netns.Socket, len(fds))
	for i, fd := range fds {
		sockets[i] = netns.Keep(fd)
	}
	return sockets
}

func closeAll(sockets []*netns.Socket) {
	for _, s := range sockets {
		_ = s.Close()
	}
}
