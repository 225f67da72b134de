package netns

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is a descriptor that this process keeps but never waits on. Unlike an
// os.File it stays out of the runtime's poller, which a listener would wake at
// each connection that somebody else accepts, and never changes the file's
// blocking mode, which all duplicates share.
type Socket struct {
	mu sync.RWMutex
	fd int // -1 when closed
}

var (
	_ syscall.Conn    = (*Socket)(nil)
	_ syscall.RawConn = (*Socket)(nil)
)

// Keep takes ownership of a descriptor.
func Keep(fd int) *Socket { return &Socket{fd: fd} }

// Duplicate returns another descriptor of the same socket, the caller's to close.
func (s *Socket) Duplicate() (int, error) {
	result := -1
	err := s.use(func(fd int) error {
		var err error
		result, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("duplicate socket: %w", err)
	}
	return result, nil
}

// Close closes the descriptor. What is using it finishes first.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := s.fd
	if s.fd = -1; fd < 0 {
		return os.ErrClosed
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close socket: %w", err)
	}
	return nil
}

// SyscallConn returns s itself.
func (s *Socket) SyscallConn() (syscall.RawConn, error) { return s, nil }

// Control runs f with the descriptor, which stays open meanwhile.
func (s *Socket) Control(f func(fd uintptr)) error {
	return s.use(func(fd int) error { f(uintptr(fd)); return nil })
}

// Read is not possible: nobody waits on this descriptor.
func (s *Socket) Read(func(uintptr) bool) error { return errors.ErrUnsupported }

// Write is not possible: nobody waits on this descriptor.
func (s *Socket) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

func (s *Socket) use(f func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	return f(s.fd)
}
