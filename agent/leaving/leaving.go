// Package leaving is the order to leave a node for good, as it is heard, and the steps in
// which an agent obeys it. Who gives the order, and what the steps are, others know.
package leaving

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
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

// Plan is how an agent leaves its node for good.
type Plan struct {
	Orders Orders // nil: it never does
	Steps  []Step // in their order
}

const (
	firstWord = 5 * time.Second // of Orders, before the agent goes on without
	retry     = 2 * time.Second
)

// Order is the latest of Orders. Its methods may be called concurrently.
type Order struct {
	mu      sync.Mutex
	leave   bool
	heard   bool
	changed chan struct{}
}

// NewOrder makes an Order that was not heard yet: to stay.
func NewOrder() *Order { return &Order{changed: make(chan struct{})} }

func (o *Order) say(leave bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.heard && o.leave == leave {
		return
	}
	o.heard, o.leave = true, leave
	close(o.changed)
	o.changed = make(chan struct{})
}

// Now returns whether to leave, and a channel that is closed when that changes.
func (o *Order) Now() (leave bool, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.leave, o.changed
}

// Follow hears Orders until ctx ends. It returns after the first word, or soon: while
// nobody can be asked, what is enrolled stays so.
func (o *Order) Follow(ctx context.Context, orders Orders, log *slog.Logger) {
	if orders == nil {
		return
	}
	_, first := o.Now()
	go func() {
		for ctx.Err() == nil {
			if err := orders.Watch(ctx, o.say); err != nil && ctx.Err() == nil {
				log.Warn("ask whether to leave the node", "error", err)
			}
			Pause(ctx, retry)
		}
	}()
	select {
	case <-first:
	case <-time.After(firstWord):
	case <-ctx.Done():
	}
}

// Until ends a context when the order changes.
func (o *Order) Until(ctx context.Context, leave bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			now, changed := o.Now()
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

// Leave does all that leaving is, in the only safe order, until it is done or ctx ends.
// Withdraw takes the pods out of the datapath.
func (p *Plan) Leave(ctx context.Context, withdraw func() error, log *slog.Logger) error {
	steps := append([]Step(nil), p.Steps...)
	steps = append(steps,
		Step{"pods are withdrawn", func(context.Context) error { return withdraw() }},
		Step{"the node reports that it is left", func(ctx context.Context) error { return p.Orders.Report(ctx, true) }})
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
			Pause(ctx, retry)
		}
	}
	return nil
}

// Pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Unreport takes back that the node is left, unless the order stands again.
func (p *Plan) Unreport(ctx context.Context, o *Order, log *slog.Logger) {
	for ctx.Err() == nil {
		if leave, _ := o.Now(); leave {
			return
		}
		err := p.Orders.Report(ctx, false)
		if err == nil {
			return
		}
		log.Error("take back that the node is left", "error", err)
		Pause(ctx, retry)
	}
}
