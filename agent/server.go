package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/handoff"
)

// goodbyeTimeout is how long a replaced proxy may take to hang up.
const goodbyeTimeout = 5 * time.Second

// server is the agent's end of the handoff socket. It serves one proxy at a
// time: a newer one replaces the older, which is told to drain, because that is
// what an upgrade needs; a proxy that was merely forgotten cannot keep a healthy
// one out.
type server struct {
	node     string
	proxyUID int
	enroller *enroll.Enroller
	dialer   *dialer
	tables   *table.Tables
	desk     *authority.Desk
	counts   *counts
	log      *slog.Logger

	// publishing is held while a generation is put in force, and while another proxy
	// takes over: or an older one could undo what the newer one published.
	publishing sync.Mutex
	mu         sync.Mutex
	current    *session // the proxy that is served, nil for none
}

// run accepts proxies until ctx ends.
func (s *server) run(ctx context.Context, path string) error {
	acceptor, err := handoff.Listen(path, s.proxyUID)
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
			s.log.Error("accept proxy", "error", err)
			time.Sleep(100 * time.Millisecond)
		default:
			sessions.Go(func() { s.serve(ctx, conn) })
		}
	}
}

// serve talks to one proxy until it leaves, is replaced or breaks the protocol.
func (s *server) serve(ctx context.Context, conn *handoff.Conn) {
	log := s.log.With("proxyPid", conn.PeerPID(), "proxyUid", conn.PeerUID())
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if uid := conn.PeerUID(); uid != s.proxyUID {
		s.counts.connects.WithLabelValues("refused").Inc()
		log.Warn("proxy refused", "error", fmt.Errorf("it runs as user %d, not %d", uid, s.proxyUID))
		return
	}
	session := newSession(s, conn, log)
	held, err := session.greet()
	if err != nil {
		s.counts.connects.WithLabelValues("refused").Inc()
		log.Warn("proxy refused", "error", err)
		return
	}
	s.counts.connects.WithLabelValues("accepted").Inc()
	s.replace(session)
	s.enroller.Adopt(held)
	log.Info("proxy connected", "release", session.release, "holds", len(held))
	err = session.run(ctx)
	s.leave(session)
	log.Info("proxy gone", "error", err)
}

// replace makes the session the one that is served.
func (s *server) replace(next *session) {
	s.publishing.Lock()
	s.mu.Lock()
	old := s.current
	s.current = next
	s.mu.Unlock()
	s.tables.Begin()
	s.desk.Begin()
	s.publishing.Unlock()
	if old == nil {
		return
	}
	old.log.Info("proxy replaced by a newer one")
	go func() { // an old one that does not read does not hold the new one up
		_ = old.conn.Send(&handoff.Message{Kind: handoff.KindGoodbye})
		// It hangs up when it has read that. To close first could reset the
		// connection with the Goodbye unread.
		time.AfterFunc(goodbyeTimeout, func() { _ = old.conn.Close() })
	}()
}

// put puts a generation of a session in force, unless it was replaced.
func (s *server) put(from *session, g *table.Generation) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.proxy() != from {
		return errors.New("a newer proxy took over")
	}
	return s.tables.Put(g)
}

func (s *server) leave(gone *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == gone {
		s.current = nil
	}
}

// proxy returns the session that is served, or nil.
func (s *server) proxy() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}
