// Package server is the agent's end of the handoff socket: it tells the proxy of
// what is enrolled, and does what the proxy asks for within limits (limits.go,
// dial.go). Who is enrolled, and what is in force, it does not decide.
//
// What the proxy says it takes as coming from somebody who may have been taken over.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/served"
)

// goodbyeTimeout is how long a replaced proxy may take to hang up.
const goodbyeTimeout = 5 * time.Second

// Roster is whom the proxy is told of; package enroll has it, and while an agent waits
// for its turn, package takeover.
type Roster interface {
	// Workloads returns all, and a channel that is closed when that changes.
	Workloads() ([]*enroll.Workload, <-chan struct{})
	// Adopt takes, and closes, what a proxy holds of an earlier agent's listeners.
	Adopt(held map[string][]*netns.Socket)
}

// Ledger is where the proxy's tables of destinations go; package table has it.
type Ledger interface {
	// Begin says that a proxy connected.
	Begin()
	Put(g *table.Generation) error
}

// Ways are the data paths that the proxy answers over; package enroll has them.
type Ways interface {
	// AskAgain has all of them asked at once: a proxy came or went.
	AskAgain()
	// AskMissing has those asked that lack something: a generation is in force, or refused,
	// and the proxy knows it.
	AskMissing()
}

// Options of a Server. All but Ways, Lanes and Note must be given.
type Options struct {
	Ways     Ways         // nil where nothing is enrolled
	Lanes    *lanes.Lanes // nil where there are none
	Node     string       // its name
	ProxyUID int          // the user that may connect
	Roster   Roster
	Ledger   Ledger
	Dialer   *Dialer
	Desk     *authority.Desk
	Note     *served.Note // of whose proxy serves, lent to ours; nil where no other agent is
	Counts   *Counts
	Log      *slog.Logger
}

// Server serves one proxy at a time: a newer one replaces the older, which is told to
// drain, because that is what an upgrade needs; a proxy that was merely forgotten
// cannot keep a healthy one out. Its methods may be called concurrently.
type Server struct {
	Options

	yielded atomic.Bool   // proxies are told not to accept
	yields  chan struct{} // closed then
	serving sync.Once
	served  chan struct{} // see Served

	// publishing is held while a generation is put in force, and while another proxy
	// takes over: or an older one could undo what the newer one published.
	publishing sync.Mutex
	frozen     bool // publishing guards it: nothing is put in force any more
	mu         sync.Mutex
	current    *session // the proxy that is served, nil for none
}

// New makes a Server. Nobody is served before Run.
func New(o *Options) *Server {
	return &Server{Options: *o, served: make(chan struct{}), yields: make(chan struct{})}
}

// Yield makes this the server of a proxy that does not accept: the one that is
// connected, and those that come.
func (s *Server) Yield() {
	if s.yielded.CompareAndSwap(false, true) {
		close(s.yields)
	}
	if p := s.proxy(); p != nil {
		p.yield()
	}
}

// Dismiss tells the connected proxy to drain and to end, as if a newer one had come.
func (s *Server) Dismiss() {
	if p := s.proxy(); p != nil {
		p.goodbye()
	}
}

// Freeze ends the server's writing: what proxies publish from now on is acknowledged
// and forgotten. When it returns nothing is being put in force.
func (s *Server) Freeze() {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.frozen = true
}

// Served is closed when a proxy has taken everything that it was told of, and all of its
// tables were put in force.
func (s *Server) Served() <-chan struct{} { return s.served }

// Connected tells of the proxy that is served, and what it could not take, by UID;
// false if there is none.
func (s *Server) Connected() (pid int, refused map[string]string, ok bool) {
	p := s.proxy()
	if p == nil {
		return 0, nil, false
	}
	return p.conn.PeerPID(), p.refusals(), true
}

// Run accepts proxies at path until ctx ends.
func (s *Server) Run(ctx context.Context, path string) error {
	acceptor, err := handoff.Listen(path, s.ProxyUID)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = acceptor.Close() })
	defer stop()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, err := acceptor.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors, most likely: it passes
			s.Log.Error("accept proxy", "error", err)
			time.Sleep(100 * time.Millisecond)
		default:
			sessions.Go(func() { s.serve(ctx, conn) })
		}
	}
}

// serve talks to one proxy until it leaves, is replaced or breaks the protocol.
func (s *Server) serve(ctx context.Context, conn *handoff.Conn) {
	log := s.Log.With("proxyPid", conn.PeerPID(), "proxyUid", conn.PeerUID())
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if uid := conn.PeerUID(); uid != s.ProxyUID {
		s.Counts.proxies.WithLabelValues("refused").Inc()
		log.Warn("proxy refused", "error", fmt.Errorf("it runs as user %d, not %d", uid, s.ProxyUID))
		return
	}
	session := newSession(s, conn, log)
	held, err := session.greet()
	if err != nil {
		s.Counts.proxies.WithLabelValues("refused").Inc()
		log.Warn("proxy refused", "error", err)
		return
	}
	s.Counts.proxies.WithLabelValues("accepted").Inc()
	s.replace(session)
	s.beginLanes(session)
	s.Roster.Adopt(held)
	s.askAgain()
	log.Info("proxy connected", "release", session.release, "holds", len(held))
	err = session.run(ctx)
	s.leave(session)
	s.endLanes(session)
	s.askAgain()
	log.Info("proxy gone", "error", err)
}

func (s *Server) askMissing() {
	if s.Ways != nil {
		s.Ways.AskMissing()
	}
}

func (s *Server) askAgain() {
	if s.Ways != nil {
		s.Ways.AskAgain()
	}
}

// replace makes the session the one that is served.
func (s *Server) replace(next *session) {
	s.publishing.Lock()
	s.mu.Lock()
	old := s.current
	s.current = next
	s.mu.Unlock()
	s.Ledger.Begin()
	s.Desk.Begin()
	s.publishing.Unlock()
	if old == nil {
		return
	}
	old.log.Info("proxy replaced by a newer one")
	old.goodbye()
}

// put puts a generation of a session in force, unless it was replaced.
func (s *Server) put(from *session, g *table.Generation) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	switch {
	case s.proxy() != from:
		return errors.New("a newer proxy took over")
	case s.frozen:
		return nil // another agent's proxy says what is in force
	}
	if err := s.Ledger.Put(g); err != nil {
		return err
	}
	if g.Number == 0 { // comes last, after it was told of every pod
		s.serving.Do(func() { close(s.served) })
	}
	return nil
}

func (s *Server) leave(gone *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == gone {
		s.current = nil
	}
}

// proxy returns the session that is served, or nil.
func (s *Server) proxy() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}
