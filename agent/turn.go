package agent

import (
	"context"
	"sync"

	"github.com/dubway/dubway/internal/admin"
)

// turn is what an Agent may do while it is the active one of its node.
type turn struct {
	over chan struct{}  // closed when the turn is
	acts sync.WaitGroup // parts that only the active agent runs

	mu    sync.Mutex
	role  admin.Role
	ended bool
}

func newTurn() *turn { return &turn{role: admin.RoleActive, over: make(chan struct{})} }

// run runs a part of the active agent until the turn is over, or ctx.
func (t *turn) run(ctx context.Context, part func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil
	}
	t.acts.Add(1)
	t.mu.Unlock()
	defer t.acts.Done()
	go func() {
		select {
		case <-t.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return part(ctx)
}

// end ends the active agent's parts and waits for them.
func (t *turn) end(becomes admin.Role) {
	t.mu.Lock()
	t.role = becomes
	if !t.ended {
		t.ended = true
		close(t.over)
	}
	t.mu.Unlock()
	t.acts.Wait()
}

func (t *turn) now() admin.Role {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.role
}

// freeze ends the agent's turn: it writes nothing any more, and goes on serving the
// proxy that it has.
func (a *Agent) freeze(becomes admin.Role) {
	a.turn.end(becomes)
	a.enroller.Freeze()
	a.server.Freeze()
}
