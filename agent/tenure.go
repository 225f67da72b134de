package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/takeover"
	"github.com/dubway/dubway/internal/admin"
)

// lingerLimit is longer than proxies drain.
const lingerLimit = 2 * time.Minute

// tenure is one turn of an agent, as the one that takes over sees it, and as the order to
// leave ends it: one of the two ends it, whichever is first.
type tenure struct {
	agent  *Agent
	seat   *seat
	holder *takeover.Holder
	bereft chan struct{} // closed when the successor is gone
	work   sync.WaitGroup

	mu      sync.Mutex
	becomes admin.Role // what the agent is after its turn; "" during it
	lock    *takeover.Lock
	foreign bool // the successor's maps are others
}

var _ takeover.Incumbent = (*tenure)(nil)

func newTenure(s *seat, a *Agent, lock *takeover.Lock) *tenure {
	return &tenure{seat: s, agent: a, lock: lock, bereft: make(chan struct{})}
}

// hold lets other agents take over, as soon as what an agent before us enrolled is either
// ours or nobody's: what is neither, no successor would be told of.
func (t *tenure) hold(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-t.agent.server.Served():
	case <-time.After(patience + retryInterval):
	}
	holder, err := takeover.Hold(t.seat.opts.NodeDir, datapath.ABI, t, t.seat.log)
	if err != nil {
		return err
	}
	t.holder = holder // before anybody can ask to Yield
	return holder.Run(ctx)
}

// ends tells whether the caller ends the turn.
func (t *tenure) ends(becomes admin.Role) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.becomes != "" {
		return false
	}
	t.becomes = becomes
	return true
}

// Workloads is part of takeover.Incumbent.
func (t *tenure) Workloads() ([]*enroll.Workload, <-chan struct{}) {
	return t.agent.enroller.Workloads()
}

// Steered is part of takeover.Incumbent.
func (t *tenure) Steered(uid string) bool {
	return t.agent.tables.Steered(uid)
}

// Yield is part of takeover.Incumbent.
func (t *tenure) Yield(to takeover.Successor) error {
	if leave, _ := t.seat.order.Now(); leave || !t.ends(admin.RolePassive) {
		return errLeaving
	}
	t.agent.freeze(admin.RolePassive)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.foreign = to.ABI != datapath.ABI; t.foreign {
		t.agent.dialer.Halt()
	}
	t.holder.Shut() // before the successor makes its own
	lock := t.lock
	t.lock = nil
	t.seat.log.Info("another agent takes over", "release", to.Release, "agentPid", to.PID, "otherMaps", t.foreign)
	return lock.Release()
}

// Served is part of takeover.Incumbent.
func (t *tenure) Served() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seat.log.Info("another agent took over: our proxy goes on with what it has accepted")
	if t.foreign { // it can dial no more
		t.agent.server.Dismiss()
		return
	}
	t.agent.server.Yield()
}

// Bereft is part of takeover.Incumbent.
func (t *tenure) Bereft() { close(t.bereft) }

// serve waits until the turn is to begin anew, with the lock, or the agent is to end.
func (t *tenure) serve(ctx context.Context, stop <-chan struct{}, ran chan error) (again bool, err error) {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	var retry <-chan time.Time // once the successor is gone
	bereft := t.bereft
	leaving := false
	for {
		leave, changed := t.seat.order.Now()
		if leave && !leaving {
			leaving = true
			t.work.Go(func() { t.leave(ctx) })
		}
		if leaving && !leave && t.resumes(ctx) {
			return true, nil
		}
		leaving = leave
		select {
		case err := <-ran:
			ran <- nil // it has ended
			return false, err
		case <-stop:
			t.linger(tick.C)
			return false, nil
		case <-changed:
		case <-bereft:
			bereft, retry = nil, tick.C
		case <-retry:
			lock, err := takeover.Claim(t.seat.opts.NodeDir)
			if err == nil {
				t.mu.Lock()
				t.lock = lock
				t.mu.Unlock()
				t.seat.log.Warn("the agent that took over is gone: ours is active again")
				return true, nil
			}
			if !errors.Is(err, takeover.ErrHeld) {
				t.seat.log.Error("take the turn back", "error", err)
			}
		}
	}
}

// linger lets the proxy of a passive agent drain before the agent ends: both are told to
// end at the same time, and what the proxy still serves may need another connection.
func (t *tenure) linger(tick <-chan time.Time) {
	if t.agent.turn.Now() == admin.RoleActive {
		return // who comes next waits for the lock
	}
	for end := time.Now().Add(lingerLimit); time.Now().Before(end); <-tick {
		if _, _, ok := t.agent.server.Connected(); !ok {
			return
		}
	}
}

// leave withdraws what is enrolled, or reports only, if another agent's turn it is.
func (t *tenure) leave(ctx context.Context) {
	ctx, cancel := t.seat.order.Until(ctx, true)
	defer cancel()
	l := t.seat.opts.Leave
	l.Steps = slices.Concat(t.agent.steps(), l.Steps)
	withdraw := func() error { return t.agent.withdraw(ctx) }
	if !t.ends(admin.RoleLeft) {
		l.Steps, withdraw = nil, func() error { return nil }
	}
	if err := l.Leave(ctx, withdraw, t.seat.log); err != nil {
		t.seat.log.Info("not left", "reason", err)
	}
}

// resumes takes back what leave reported, and tells whether the agent is to begin anew.
func (t *tenure) resumes(ctx context.Context) bool {
	t.work.Wait() // it ends with the order
	t.seat.opts.Leave.Unreport(ctx, t.seat.order, t.seat.log)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.becomes == admin.RoleLeft
}

// finish waits for what the turn began.
func (t *tenure) finish() { t.work.Wait() }
