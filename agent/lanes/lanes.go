// Package lanes decides whether same-node calls of this node may take lanes, and says it
// to whom it concerns: the lanes' programs (package datapath/lane), which of the pods'
// sockets are theirs, and the proxy, which gets their memory. It opens no lane; and nothing
// that fails here touches steering.
//
// The memory is one proxy's at a time: two of them would write the same routes. A proxy that
// takes over from one which lives gets it when that one has closed its lanes.
package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/lanes/kept"
	"github.com/dubway/dubway/agent/lanes/shortage"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// Annotation of a pod: with the value Off it has no lanes, neither as a consumer nor as a
// provider. It is for applications that depend on what a lane does not do: FIONREAD,
// MSG_WAITALL (docs/enrolment.md).
const (
	Annotation = "dubway.io/lane"
	Off        = "off"
)

// Choice is what the operator wants.
type Choice string

// The choices.
const (
	Auto      Choice = "auto" // on where it is known to work
	On        Choice = "on"   // on, if the self-test passes
	Observe   Choice = "observe"
	ChooseOff Choice = "off"
)

// Parse reads a Choice.
func Parse(text string) (Choice, error) {
	switch c := Choice(text); c {
	case Auto, On, Observe, ChooseOff:
		return c, nil
	}
	return "", fmt.Errorf("%q is not auto, on, observe or off", text)
}

// Memory is that of the programs.
type Memory interface {
	Sizes() lane.Sizes
	Files() ([]*os.File, error) // in the order of package lane; the caller's
}

// Programs are the lane's, loaded and attached; package datapath/lane has them.
type Programs interface {
	Memory
	Workload(netns uint64, on bool) error
	Workloads() ([]uint64, error) // that are on, also by an earlier agent
	Mark(fd int) error            // before connect
	Close() error
}

// Options of Lanes. Choice, Open, Build, Workloads and Log must be given.
type Options struct {
	Choice Choice
	Open   func() (Programs, error) // loads the programs, or adopts those that are pinned
	Pinned func() bool              // tells whether an earlier agent left some; nil: none did
	// SelfTest tries on this kernel what lanes depend on, once. Without one there are no
	// lanes by Auto.
	SelfTest func(context.Context) error
	Build    func() (name string, listed bool, err error) // of the kernel that runs
	Conflict func() string                                // who else owns sockmaps here; "" for nobody
	// Workloads returns whom steering knows, and a channel that is closed when that changes.
	Workloads func() ([]*enroll.Workload, <-chan struct{})
	Log       *slog.Logger
}

// Lanes is the node's part in lanes. Its methods may be called concurrently; Run is called
// once.
type Lanes struct {
	Kept kept.Lanes // sockets of open lanes, for the next proxy

	opts Options
	wake chan struct{} // has room for one

	work    sync.Mutex      // one decision at a time
	tried   bool            // the self-test ran
	failed  error           // and so it ended
	applied map[uint64]bool // cookies of workloads whose sockets may take lanes
	memory  shortage.Shortage

	mu       sync.Mutex // guards what follows; never held while the kernel is asked
	over     bool       // Run has ended: another agent decides
	short    bool       // memory is
	choice   Choice
	verdict  verdict
	programs Programs // nil: not loaded
	shared   *shared  // of programs
	excluded int      // workloads that want no lanes
	lease    lease
	changed  chan struct{} // closed when something of what is offered changes
}

// verdict is the mode and why it is that one.
type verdict struct {
	mode handoff.LaneMode
	why  string
}

// New makes Lanes of which nothing is decided before Run.
func New(opts Options) *Lanes {
	l := &Lanes{
		opts: opts, choice: opts.Choice, verdict: verdict{handoff.LaneOff, "not decided yet"},
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
		applied: make(map[uint64]bool), lease: lease{began: time.Now()},
	}
	l.memory = shortage.Shortage{Log: opts.Log, Everywhere: l.everywhere}
	return l
}

// Choose changes what the operator wants. No call is lost: lanes that are to end are closed
// by the proxy.
func (l *Lanes) Choose(c Choice) {
	l.mu.Lock()
	l.choice = c
	l.mu.Unlock()
	l.opts.Log.Info("lanes chosen", "choice", c)
	l.kick()
}

func (l *Lanes) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *Lanes) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run decides and follows workloads until ctx ends; every interval it looks whether what it
// decided by has changed.
func (l *Lanes) Run(ctx context.Context, interval time.Duration) {
	tick, look := time.NewTicker(interval), time.NewTicker(shortage.Every)
	defer tick.Stop()
	defer look.Stop()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.over = true
	}()
	for ctx.Err() == nil {
		workloads, changed := l.opts.Workloads()
		l.Decide(ctx)
		l.follow(workloads)
		for waits := true; waits; {
			select {
			case <-look.C:
				waits = !l.relieve()
				continue
			case <-ctx.Done():
			case <-changed:
			case <-l.wake:
			case <-tick.C:
			case <-l.patience():
			}
			waits = false
		}
	}
}

// everywhere does something in the network namespace of each workload.
func (l *Lanes) everywhere(what func() error) error {
	var errs []error
	workloads, _ := l.opts.Workloads()
	for _, w := range workloads {
		errs = append(errs, w.Netns.Do(what))
	}
	return errors.Join(errs...)
}

// relieve looks whether memory is short, and tells whether that is new.
func (l *Lanes) relieve() bool {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	sockets, ok := l.programs.(shortage.Sockets)
	l.mu.Unlock()
	if !ok {
		return false
	}
	short := l.memory.Look(sockets)
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.short
	l.short = short
	return short != was
}

// Decide decides now, as Run does. A proxy that is told before the first time would close
// the lanes that it has.
func (l *Lanes) Decide(ctx context.Context) {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	choice, short := l.choice, l.short
	l.mu.Unlock()
	v := l.judge(ctx, choice)
	if short && v.mode == handoff.LaneOn {
		v = verdict{handoff.LaneOff, shortage.Why}
	}
	if v.mode == handoff.LaneOn {
		if err := l.open(); err != nil {
			v = verdict{handoff.LaneOff, err.Error()}
		}
	} else if l.opts.Pinned != nil && l.opts.Pinned() {
		// A proxy may have lanes in them still, which it is told to close.
		if err := l.open(); err != nil {
			l.opts.Log.Warn("lanes of an earlier agent are left alone", "error", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil {
		return // a test that was cut short says nothing
	}
	if v != l.verdict {
		l.opts.Log.Info("lanes decided", "choice", choice, "mode", v.mode, "why", v.why)
		l.verdict = v
	}
	l.signal()
}

// judge tells the mode by what is known of the node. work is held.
func (l *Lanes) judge(ctx context.Context, choice Choice) verdict {
	off := func(why string) verdict { return verdict{handoff.LaneOff, why} }
	switch choice {
	case Observe:
		return verdict{handoff.LaneObserve, "it was chosen"}
	case ChooseOff:
		return off("it was chosen")
	case Auto:
		name, listed, err := l.opts.Build()
		switch conflict := l.opts.Conflict(); {
		case err != nil:
			return off(err.Error())
		case !listed:
			return off(fmt.Sprintf("the soak has not passed on this build of the kernel (%s); --lane on has lanes nevertheless", name))
		case conflict != "":
			return off("others move what sockets send: " + conflict)
		case l.opts.SelfTest == nil:
			return off("this build of Dubway has no self-test")
		}
	case On:
	}
	if l.opts.SelfTest != nil && !l.tried {
		l.failed = l.opts.SelfTest(ctx)
		l.tried = ctx.Err() == nil
	}
	if l.failed != nil {
		return off(fmt.Sprintf("the self-test failed on this kernel: %v", l.failed))
	}
	return verdict{handoff.LaneOn, ""}
}

// open loads the programs, once. work is held.
func (l *Lanes) open() error {
	l.mu.Lock()
	loaded := l.programs != nil
	l.mu.Unlock()
	if loaded {
		return nil
	}
	programs, err := l.opts.Open()
	if err != nil {
		return err
	}
	earlier, err := programs.Workloads()
	if err != nil {
		return errors.Join(err, programs.Close())
	}
	s, err := share(programs)
	if err != nil {
		return errors.Join(err, programs.Close())
	}
	for _, cookie := range earlier {
		l.applied[cookie] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.programs, l.shared = programs, s
	// What is in use now is a proxy's that an earlier agent served.
	l.lease.inherited = s.inUse() > 0
	return nil
}

// Drain takes the node out of lanes and returns when no proxy has one any more, or after a
// limit. It is for who is about to remove the programs.
func (l *Lanes) Drain(ctx context.Context, limit time.Duration) {
	l.Choose(ChooseOff)
	l.Decide(ctx)
	for end := time.Now().Add(limit); l.Status().Open > 0 && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// Close lets go of everything; what is pinned stays, and lanes go on.
func (l *Lanes) Close() error {
	l.work.Lock()
	defer l.work.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Kept.Close()
	if l.programs == nil {
		return nil
	}
	err := errors.Join(l.shared.close(), l.programs.Close())
	l.programs, l.shared = nil, nil
	return err
}

// signal wakes who waits for what is offered. mu is held.
func (l *Lanes) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}
