package cniserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/dubway/dubway/cni/wire"
)

// serve answers the one request of a connection.
func (s *Server) serve(ctx context.Context, u *net.UnixConn) {
	conn, err := wire.New(u)
	if err != nil {
		s.counts.refused()
		s.log.Warn("CNI plugin refused", "error", err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetReceiveDeadline(time.Now().Add(saying)) // a closed one says so below
	request, namespace, err := conn.Receive()
	if err != nil {
		// Somebody who looks whether we are there says nothing.
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			s.counts.refused()
			s.log.Warn("CNI plugin refused", "error", err)
			_ = conn.Answer(err) // it may have gone
		}
		return
	}
	_ = conn.SetReceiveDeadline(time.Time{})
	s.answer(ctx, conn, request, namespace)
}

// margin is what the answer's way may take at most: the plugin is told what was in the
// way while it still listens.
const margin = 500 * time.Millisecond

// answer does what a request asks for, for as long as the plugin waits.
func (s *Server) answer(ctx context.Context, conn *wire.Conn, r *wire.Request, namespace *os.File) {
	start := time.Now()
	done := s.counts.begin(r.Verb)
	there, cancel := context.WithCancel(ctx) // the plugin, and we
	defer cancel()
	go func() { // ends when the connection is closed, which serve does
		conn.Gone()
		cancel()
	}()
	limit := r.Timeout() - min(margin, r.Timeout()/10)
	within, cancelWithin := context.WithTimeout(there, limit)
	defer cancelWithin()
	err := s.do(within, r, namespace)
	if err != nil && within.Err() != nil {
		err = fmt.Errorf("not done within %s: %w", limit.Round(10*time.Millisecond), err)
	}
	waits := there.Err() == nil && conn.Answer(err) == nil
	took := time.Since(start)
	log := s.log.With("verb", r.Verb, "took", took)
	if b := r.Sandbox; b != nil {
		log = log.With("namespace", b.Namespace, "pod", b.Name, "uid", b.UID, "container", b.ContainerID)
	}
	switch {
	case !waits:
		done(gone, took)
		log.Warn("CNI request without an answer: the plugin or the agent was stopped", "error", err)
	case err != nil:
		done(failed, took)
		log.Warn("CNI request failed", "error", err)
	default:
		done(ok, took)
		log.Debug("CNI request answered")
	}
}

// do calls what the verb stands for. It hands the namespace on.
func (s *Server) do(ctx context.Context, r *wire.Request, namespace *os.File) error {
	var sandbox Sandbox
	if b := r.Sandbox; b != nil {
		sandbox = Sandbox{ContainerID: b.ContainerID, UID: b.UID, Namespace: b.Namespace, Name: b.Name,
			Netns: namespace, Addresses: b.Addresses}
	}
	switch r.Verb {
	case wire.Add:
		return s.pods.Add(ctx, sandbox)
	case wire.Check:
		return s.pods.Check(ctx, sandbox)
	case wire.Delete:
		return s.pods.Delete(ctx, sandbox)
	case wire.Keep:
		return s.pods.Keep(ctx, r.Containers)
	case wire.Ready:
		return s.pods.Ready()
	default:
		return fmt.Errorf("unknown verb %q", r.Verb)
	}
}
