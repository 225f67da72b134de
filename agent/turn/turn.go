// Package turn is what an agent may do while it is the active one of its node, and when
// that ends.
package turn

import (
	"context"
	"sync"

	"github.com/dubway/dubway/internal/admin"
)

// Turn is one turn of an agent. Its methods may be called concurrently.
type Turn struct {
	over chan struct{}  // closed when the turn is
	away chan struct{}  // closed when it is another agent's
	acts sync.WaitGroup // parts that run until the former
	kept sync.WaitGroup // and until the latter

	mu    sync.Mutex
	role  admin.Role
	ended bool
}

// New makes a Turn that has begun.
func New() *Turn {
	return &Turn{role: admin.RoleActive, over: make(chan struct{}), away: make(chan struct{})}
}

// Run runs a part of the active agent until the turn is over, or ctx.
func (t *Turn) Run(ctx context.Context, part func(ctx context.Context) error) error {
	return t.until(ctx, t.over, part)
}

// Keep runs a part of the active agent until another one has the turn, or ctx: also while
// the mesh leaves the node. Such is what the CNI plugin asks.
func (t *Turn) Keep(ctx context.Context, part func(ctx context.Context) error) error {
	return t.until(ctx, t.away, part)
}

func (t *Turn) until(ctx context.Context, end <-chan struct{}, part func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil
	}
	if end == t.over {
		t.acts.Add(1)
		defer t.acts.Done()
	} else {
		t.kept.Add(1)
		defer t.kept.Done()
	}
	t.mu.Unlock()
	go func() {
		select {
		case <-end:
			cancel()
		case <-ctx.Done():
		}
	}()
	return part(ctx)
}

// End ends the parts of the active agent that are to end, and waits for them.
func (t *Turn) End(becomes admin.Role) {
	t.mu.Lock()
	t.role = becomes
	if !t.ended {
		t.ended = true
		close(t.over)
		if becomes == admin.RolePassive {
			close(t.away)
		}
	}
	t.mu.Unlock()
	t.acts.Wait()
	if becomes == admin.RolePassive {
		t.kept.Wait()
	}
}

// Now returns what the agent is.
func (t *Turn) Now() admin.Role {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.role
}
