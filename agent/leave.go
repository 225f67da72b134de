package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/internal/admin"
)

// Orders tells whether the mesh is to leave, and hears that it has left this node;
// package leave has it.
type Orders interface {
	// Watch calls say with what holds, at once and after each change, until ctx ends.
	Watch(ctx context.Context, say func(leave bool)) error
	// Report says whether this node is left.
	Report(ctx context.Context, left bool) error
}

// Step is something that is undone before the pods are withdrawn. Do is repeated until
// it returns nil, also after a restart.
type Step struct {
	Name string // as a sentence of the log
	Do   func(ctx context.Context) error
}

// Leave is how an agent leaves its node for good.
type Leave struct {
	Orders Orders // nil: it never does
	Steps  []Step // in their order
}

const (
	firstWord  = 5 * time.Second // of Orders, before the agent goes on without
	leaveRetry = 2 * time.Second
	// settle is how long a connect that was steered may take until the proxy has
	// accepted it.
	settle = time.Second
)

// order is the latest of Orders.
type order struct {
	mu      sync.Mutex
	leave   bool
	heard   bool
	changed chan struct{}
}

func newOrder() *order { return &order{changed: make(chan struct{})} }

func (o *order) say(leave bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heard && o.leave == leave {
		return
	}
	o.heard, o.leave = true, leave
	close(o.changed)
	o.changed = make(chan struct{})
}

// now returns whether to leave, and a channel that is closed when that changes.
func (o *order) now() (leave bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.leave, o.changed
}

// follow hears Orders until ctx ends. It returns after the first word, or soon: while
// nobody can be asked, what is enrolled stays so.
func (o *order) follow(ctx context.Context, orders Orders, log *slog.Logger) {
	if orders == nil {
		return
	}
	_, first := o.now()
	go func() {
		for ctx.Err() == nil {
			if err := orders.Watch(ctx, o.say); err != nil && ctx.Err() == nil {
				log.Warn("ask whether to leave the node", "error", err)
			}
			pause(ctx, leaveRetry)
		}
	}()
	select {
	case <-first:
	case <-time.After(firstWord):
	case <-ctx.Done():
	}
}

// until ends a context when the order changes.
func (o *order) until(ctx context.Context, leave bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			now, changed := o.now()
			if now != leave {
				cancel()
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, cancel
}

// leave does all that leaving is, in the only safe order, until it is done or ctx ends.
// Withdraw takes the pods out of the datapath.
func (l *Leave) leave(ctx context.Context, withdraw func() error, log *slog.Logger) error {
	steps := append([]Step(nil), l.Steps...)
	steps = append(steps,
		Step{"pods are withdrawn", func(context.Context) error { return withdraw() }},
		Step{"the node reports that it is left", func(ctx context.Context) error { return l.Orders.Report(ctx, true) }})
	for _, step := range steps {
		for {
			err := step.Do(ctx)
			if ctx.Err() != nil {
				return fmt.Errorf("leave the node: %w", ctx.Err())
			}
			if err == nil {
				log.Info("leaving", "done", step.Name)
				break
			}
			log.Error("leaving goes on when this is done", "step", step.Name, "error", err)
			pause(ctx, leaveRetry)
		}
	}
	return nil
}

// withdraw takes every pod out of the mesh and removes what is pinned. Connections that
// the proxy has accepted go on.
func (a *Agent) withdraw(ctx context.Context) error {
	a.turn.end(admin.RoleLeft)
	a.server.Freeze()
	err := a.enroller.Withdraw()
	if err == nil {
		err = datapath.Uninstall(a.opts.PinPath)
	}
	if err != nil {
		return err
	}
	pause(ctx, settle)
	a.server.Yield()
	a.enroller.Deafen()
	return nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// errLeaving is why nobody may take over.
var errLeaving = errors.New("the mesh leaves this node")
