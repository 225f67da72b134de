package cniserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/cni/wire"
)

const (
	// maxRequests are in work at one time; more wait in the socket's queue. A node has
	// some hundred pods, and each of them one request.
	maxRequests = 512
	// saying is how long a plugin that connected may take to say its request. It says it
	// at once: only one that was stopped takes longer.
	saying = 5 * time.Second
)

// Server answers the plugin. It may serve once.
type Server struct {
	pods   Pods
	log    *slog.Logger
	counts *counts
}

// New makes a server for what pods does.
func New(pods Pods, log *slog.Logger) *Server {
	return &Server{pods: pods, log: log, counts: newCounts()}
}

// Serve answers the plugin at socket until ctx ends, or returns why it cannot.
func Serve(ctx context.Context, socket string, pods Pods, log *slog.Logger) error {
	return New(pods, log).Serve(ctx, socket)
}

// Serve answers the plugin at socket until ctx ends. The socket appears there by a
// rename, complete: a plugin meets the agent before or this one, and never none. From
// then on another agent that served it answers what it has accepted, and nothing new.
//
// Requests that are in work when ctx ends get no answer: the plugin asks whoever is
// there next.
func (s *Server) Serve(ctx context.Context, socket string) error {
	listener, err := s.listen(ctx, socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var requests sync.WaitGroup
	defer requests.Wait()
	room := make(chan struct{}, maxRequests)
	for {
		conn, err := listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return s.withdraw(socket, listener.own)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept CNI plugin: %w", err)
		case err != nil: // out of descriptors, most likely: it passes
			s.log.Error("accept CNI plugin", "error", err)
			wait(ctx, 100*time.Millisecond)
			continue
		}
		room <- struct{}{}
		requests.Go(func() {
			defer func() { <-room }()
			s.serve(ctx, conn)
		})
	}
}

// own is a socket that we made.
type own struct {
	*net.UnixListener

	own os.FileInfo
}

// listen makes the socket, under another name first.
func (s *Server) listen(ctx context.Context, socket string) (*own, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, fmt.Errorf("listen for the CNI plugin: %w", err)
	}
	fresh := fmt.Sprintf("%s.%d", socket, os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for the CNI plugin: %w", err)
	}
	// The name in the directory is ours to remove: the listener knows the wrong one.
	l, err := net.ListenUnix(wire.Network, &net.UnixAddr{Name: fresh, Net: wire.Network})
	if err != nil {
		return nil, fmt.Errorf("listen for the CNI plugin: %w", err)
	}
	l.SetUnlinkOnClose(false)
	// Root's file modes say who may connect; wire looks at who did.
	err = os.Chmod(fresh, 0o600)
	info, statErr := os.Lstat(fresh)
	if err = errors.Join(err, statErr); err == nil {
		s.announce(ctx, socket)
		err = os.Rename(fresh, socket)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(fresh)
		return nil, fmt.Errorf("listen for the CNI plugin: %w", err)
	}
	return &own{UnixListener: l, own: info}, nil
}

// announce says whose socket is about to be replaced.
func (s *Server) announce(ctx context.Context, socket string) {
	conn, err := wire.Dial(ctx, socket)
	if err != nil {
		s.log.Info("serves the CNI plugin", "socket", socket)
		return
	}
	s.log.Warn("serves the CNI plugin instead of another agent, which still runs", "socket", socket, "otherPid", conn.PeerPID())
	_ = conn.Close()
}

// withdraw removes the socket unless another agent has put its own there. It is moved
// away before it is looked at, or the other's could appear in between.
func (s *Server) withdraw(socket string, ours os.FileInfo) error {
	gone := fmt.Sprintf("%s.%d.gone", socket, os.Getpid())
	if info, err := os.Lstat(socket); err != nil || !os.SameFile(info, ours) {
		return nil //nolint:nilerr // removed by somebody: what we wanted
	}
	if err := os.Rename(socket, gone); err != nil {
		return fmt.Errorf("remove the CNI plugin's socket: %w", err)
	}
	if info, err := os.Lstat(gone); err == nil && !os.SameFile(info, ours) {
		err := unix.Renameat2(unix.AT_FDCWD, gone, unix.AT_FDCWD, socket, unix.RENAME_NOREPLACE)
		if err == nil {
			return nil
		}
	}
	if err := os.Remove(gone); err != nil {
		return fmt.Errorf("remove the CNI plugin's socket: %w", err)
	}
	return nil
}

// wait pauses, or returns when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
