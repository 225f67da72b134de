package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/takeover"
	"github.com/dubway/dubway/internal/handoff/served"
)

// turnEvery is how often an agent that is not the active one tries to be.
const turnEvery = 200 * time.Millisecond

// seat is a process's place among the agents of its node: it has its turns as the active
// one, each a new Agent, gets ready for them beside the active one, and serves on
// passively when another has taken over.
type seat struct {
	opts   Options
	log    *slog.Logger
	feed   *pods.Feed
	signer authority.Signer
	order  *leaving.Order
	served atomic.Bool // once, in any turn
	// heir is our end at the agent that we took over from. It hears from us as long as
	// we live; nil if there was none.
	heir *takeover.Heir
}

// Serve runs an agent until ctx ends or a part fails. With a NodeDir it takes over from
// an active agent of the node, if there is one, and is taken over from; without, it is
// the only one, and goes on at once with what a dead one left.
func Serve(ctx context.Context, opts Options) error {
	if opts.NodeDir == "" && opts.Leave.Orders == nil {
		a, err := New(opts)
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return a.Run(ctx)
	}
	signer, err := opts.prepare()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if opts.NodeDir == "" { // nobody else takes turns
		opts.NodeDir = opts.StateDir
	}
	if err := os.MkdirAll(opts.NodeDir, 0o755); err != nil {
		return fmt.Errorf("start: make node directory: %w", err)
	}
	if opts.note, err = served.Open(opts.NodeDir, opts.StateDir); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer opts.note.Close()
	s := &seat{opts: opts, log: opts.Logger, signer: signer, feed: pods.NewFeed(opts.Source), order: leaving.NewOrder()}
	s.opts.Source = s.feed
	return s.run(ctx)
}

// run has turns until ctx ends.
func (s *seat) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		if err := s.feed.Follow(ctx); err != nil {
			cancel(err)
		}
	}()
	defer func() { <-followed }()
	defer cancel(nil)
	defer s.disown()
	s.order.Follow(ctx, s.opts.Leave.Orders, s.log)
	for ctx.Err() == nil {
		if err := s.next(ctx); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("follow pods: %w", err)
	}
	return nil
}

// next has one turn, or prepares for it.
func (s *seat) next(ctx context.Context) error {
	lock, err := takeover.Claim(s.opts.NodeDir)
	if err != nil && !errors.Is(err, takeover.ErrHeld) {
		return err
	}
	if leave, _ := s.order.Now(); leave {
		return s.left(ctx, lock)
	}
	if lock != nil {
		return s.turns(ctx, lock, nil)
	}
	handed, err := s.standby(ctx)
	if err != nil || handed == nil {
		return err
	}
	// The one that yielded let go of the lock before it said so.
	if lock, err = takeover.Claim(s.opts.NodeDir); err != nil {
		handed.Close()
		return fmt.Errorf("take over: %w", err)
	}
	return s.turns(ctx, lock, handed)
}

// turns has turns until there is none left. One that another agent took over from gets
// the turn back when that one dies, and then it begins anew, as after a restart.
func (s *seat) turns(ctx context.Context, lock *takeover.Lock, begin takeover.Offers) error {
	for lock != nil && ctx.Err() == nil {
		var err error
		if lock, begin, err = s.turn(ctx, lock, begin); err != nil {
			return err
		}
	}
	begin.Close()
	if lock != nil {
		return lock.Release()
	}
	return nil
}

// turn runs an active agent until ctx ends, or until it is to begin anew, with the lock
// and with the listeners that it had. No lock: there is no turn left.
func (s *seat) turn(ctx context.Context, lock *takeover.Lock, begin takeover.Offers) (*takeover.Lock, takeover.Offers, error) {
	a, err := s.begin()
	if err != nil {
		begin.Close()
		return nil, nil, errors.Join(fmt.Errorf("start: %w", err), lock.Release())
	}
	a.served = &s.served
	a.enroller.Offer(begin)
	t := newTenure(s, a, lock)
	stop := ctx.Done()
	// The agent ends when serve says so: a passive one after its proxy.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	held, ran := make(chan error, 1), make(chan error, 1)
	go func() {
		err := t.hold(ctx)
		if err != nil {
			cancel()
		}
		held <- err
	}()
	go func() { ran <- a.Run(ctx) }()
	go s.announce(ctx, a, s.heir)
	var next takeover.Offers
	again, err := t.serve(ctx, stop, ran)
	if again {
		// Before our proxy is without an agent for a moment: who served is gone.
		next, err = a.enroller.Listeners(), s.opts.note.Clear()
	}
	cancel()
	err = errors.Join(err, <-ran, <-held)
	t.finish()
	if again && err == nil {
		return t.lock, next, nil
	}
	next.Close()
	if t.lock != nil {
		err = errors.Join(err, t.lock.Release())
	}
	return nil, nil, err
}

// begin makes the agent of a turn. Until its proxy serves, nobody's is known to.
func (s *seat) begin() (*Agent, error) {
	if err := s.opts.note.Clear(); err != nil {
		return nil, err
	}
	return New(s.opts)
}

// announce says that the agent serves, also to whom it took over from, and to the proxy of
// one that is gone.
func (s *seat) announce(ctx context.Context, a *Agent, heir *takeover.Heir) {
	select {
	case <-ctx.Done():
		return
	case <-a.server.Served():
	}
	s.served.Store(true)
	s.log.Info("agent serves")
	if err := s.opts.note.Write(); err != nil {
		s.log.Error("the proxy of an agent that is gone would go on accepting", "error", err)
	}
	if heir == nil {
		return
	}
	if err := heir.Serving(); err != nil { // it has ended by itself
		s.log.Debug("tell the agent before us that we serve", "error", err)
	}
}

// disown ends what connects us with whom we took over from.
func (s *seat) disown() {
	if s.heir != nil {
		s.heir.Close()
		s.heir = nil
	}
}
