// Package kernel asks the lane's programs, and waits for them.
package kernel

import (
	"errors"
	"fmt"
	"sync"

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

// Programs are those of the node's kernel.
type Programs struct{}

var _ Kernel = Programs{}

// Ask is part of Kernel.
func (Programs) Ask(c *sock.Conn, question, place int) (s lane.State, err error) {
	closed := c.Control(func(fd uintptr) { s, err = lane.Ask(int(fd), question, place) })
	if err = errors.Join(closed, err); err != nil {
		return s, fmt.Errorf("ask the kernel: %w", err)
	}
	return s, nil
}

// Quiesce is part of Kernel.
func (Programs) Quiesce() error {
	if err := lane.Quiesce(); err != nil {
		return fmt.Errorf("wait for the kernel: %w", err)
	}
	return nil
}

// Now is part of Kernel.
func (Programs) Now() uint64 { return lane.Now() }

// Barrier lets many wait for Quiesce, which takes milliseconds and a thread, at once.
type Barrier struct {
	Kernel Kernel

	mu      sync.Mutex
	running bool
	waiting []chan error
}

// Wait returns when a Quiesce that began later than Wait has ended.
func (b *Barrier) Wait() error {
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

func (b *Barrier) run() {
	for {
		b.mu.Lock()
		waiting := b.waiting
		b.waiting = nil
		b.running = len(waiting) > 0
		b.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		err := b.Kernel.Quiesce()
		for _, done := range waiting {
			done <- err
		}
	}
}
