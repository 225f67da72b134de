package lane

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Kernel is what the lane's programs answer.
type Kernel interface {
	// Ask is lane.Ask of a connection.
	Ask(c *sock.Conn, question, place int) (lane.State, error)
	// Quiesce is lane.Quiesce.
	Quiesce() error
	// Now is the programs' clock: CLOCK_MONOTONIC, in ns.
	Now() uint64
}

// programs are those of the node's kernel.
type programs struct{}

var _ Kernel = programs{}

// Ask is part of Kernel.
func (programs) Ask(c *sock.Conn, question, place int) (s lane.State, err error) {
	closed := c.Control(func(fd uintptr) { s, err = lane.Ask(int(fd), question, place) })
	if err = errors.Join(closed, err); err != nil {
		return s, fmt.Errorf("ask the kernel: %w", err)
	}
	return s, nil
}

// Quiesce is part of Kernel.
func (programs) Quiesce() error {
	if err := lane.Quiesce(); err != nil {
		return fmt.Errorf("wait for the kernel: %w", err)
	}
	return nil
}

// Now is part of Kernel.
func (programs) Now() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return uint64(now.Nano())
}

// barrier lets many wait for Quiesce, which takes milliseconds and a thread, at once.
type barrier struct {
	kernel Kernel

	mu      sync.Mutex
	running bool
	waiting []chan error
}

// wait returns when a Quiesce that began later than wait has ended.
func (b *barrier) wait() error {
	done := make(chan error, 1)
	b.mu.Lock()
	b.waiting = append(b.waiting, done)
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	return <-done
}

func (b *barrier) run() {
	for {
		b.mu.Lock()
		waiting := b.waiting
		b.waiting = nil
		b.running = len(waiting) > 0
		b.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		err := b.kernel.Quiesce()
		for _, done := range waiting {
			done <- err
		}
	}
}
