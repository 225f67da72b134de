// Package deadline is the clock of requests that may not take longer than they are
// allowed: it looks, a few times while the shortest of them runs, at everything in
// flight on the connections that have any, so that a deadline costs a request nothing
// but a comparison. It ends nothing itself.
package deadline

import (
	"sync"
	"time"
)

// Every is how often a Clock looks, and so how late a deadline is noticed at most.
const Every = 5 * time.Millisecond

// Sweeper is a connection with deadlines.
type Sweeper interface {
	// Sweep ends what is overdue, and returns false if nothing has a deadline any
	// more: then the Clock looks no more, until the next Add. It is called by one
	// goroutine, which must not be kept waiting.
	Sweep(now time.Time) bool
}

// Clock sweeps. Its zero value is ready, and stands still while there is nothing to
// look at. Safe for concurrent use.
type Clock struct {
	mu      sync.Mutex
	list    []Sweeper
	running bool
	closed  bool
}

// Add makes the clock look at a Sweeper, which must not be added again before a Sweep
// of it has returned false.
func (c *Clock) Add(s Sweeper) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.list = append(c.list, s)
	if !c.running {
		c.running = true
		go c.run()
	}
}

// Close ends the clock.
func (c *Clock) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.list = true, nil
}

func (c *Clock) run() {
	t := time.NewTicker(Every)
	defer t.Stop()
	for now := range t.C {
		if !c.sweep(now) {
			return
		}
	}
}

// sweep looks once, and tells whether there is something left to look at.
func (c *Clock) sweep(now time.Time) bool {
	c.mu.Lock()
	list := c.list
	c.list = nil // what is added meanwhile comes behind it
	c.mu.Unlock()
	kept := list[:0]
	for _, s := range list {
		if s.Sweep(now) {
			kept = append(kept, s)
		}
	}
	clear(list[len(kept):])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.list = append(kept, c.list...)
	c.running = len(c.list) > 0
	return c.running
}
