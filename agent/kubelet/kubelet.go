// Package kubelet follows the node's kubelet: which process it is, which cgroup2
// directory it runs in, and whether its connections can be told by that from everybody
// else's. If they can, its probes pass the inbound listeners of pods (package
// datapath/probes); if not, it says why, and probes are taken as anybody's connections.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/datapath/probes"
)

// Off is what stands in the place of a cgroup's directory where nothing is to be attached.
const Off = "off"

// interval is how often it is looked whether kubelet is where it was: faster than a
// kubelet that restarts comes to its first probe.
const interval = 2 * time.Second

// trust is how long a cgroup that is kubelet's alone is not looked at again, and settle how
// long a container that is being made may be in it.
const (
	trust  = 30 * time.Second
	settle = time.Second
)

// notes is where kubelet's connections are written down.
type notes interface {
	Attach(cgroup string) error // and to no other; it may be there already
	Detach() error
	Program() (probes.Program, bool)
	Close() error
}

var _ notes = (*probes.Probes)(nil)

// Options of a Follower.
type Options struct {
	Cgroup   string          // kubelet's directory; "" to find it by its process; or Off
	Attached string          // where the datapath is attached: of several kubelets, the one below it is ours
	PinPath  string          // of the datapath, which is there already
	Pods     func() []string // the cgroups of the pods that the agent knows of
	Log      *slog.Logger
}

// State is what is known of kubelet.
type State struct {
	Cgroup string // its directory; "" if it was not found
	PID    int    // 0 if it was not looked for
	// Err says why probes do not pass. Nil if they do, or are not to.
	Err error
}

// ErrNone says that no process of this node is a kubelet.
var ErrNone = errors.New("no kubelet was found among the processes of this node: probes of enrolled ports are taken as anybody's " +
	"connections; fix: set hostPID for the agent's pod, or name kubelet's cgroup with --kubelet-cgroup")

// Follower attaches to kubelet's cgroup wherever that is. Its methods may be called
// concurrently, except Run.
type Follower struct {
	opts   Options
	finder *finder
	open   func() (notes, error)
	// alone is the directory that was found to be kubelet's alone, and until when that
	// is taken for granted.
	alone   string
	granted time.Time

	mu    sync.Mutex
	notes notes // nil: not opened yet, or the kernel refuses the program
	state State
}

// New makes a Follower; it changes nothing before Run.
func New(opts Options) *Follower {
	return &Follower{
		opts: opts, finder: newFinder("/proc", opts.Attached),
		open: func() (notes, error) { return probes.Open(opts.PinPath) },
	}
}

// State returns what is known now.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Run follows kubelet until ctx ends. What is attached then stays.
func (f *Follower) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer f.close()
	for {
		f.look()
		if f.opts.Cgroup == Off {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look finds kubelet and attaches or detaches.
func (f *Follower) look() {
	next := f.find()
	f.mu.Lock()
	next.Err = errors.Join(next.Err, f.put(next))
	old := f.state
	f.state = next
	f.mu.Unlock()
	switch {
	case next.Err != nil && (old.Err == nil || old.Err.Error() != next.Err.Error()):
		f.opts.Log.Warn("kubelet's probes do not pass", "cgroup", next.Cgroup, "error", next.Err)
	case next.Err == nil && (old.Err != nil || old.Cgroup != next.Cgroup):
		f.opts.Log.Info("kubelet's probes pass", "cgroup", next.Cgroup, "pid", next.PID)
	}
}

// put attaches to a state's cgroup, or to nothing. mu is held.
func (f *Follower) put(s State) error {
	if f.notes == nil {
		opened, err := f.open()
		if err != nil {
			return err
		}
		f.notes = opened
	}
	if s.Err == nil && s.Cgroup != "" {
		return f.notes.Attach(s.Cgroup)
	}
	return f.notes.Detach()
}

func (f *Follower) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.notes == nil {
		return
	}
	if err := f.notes.Close(); err != nil {
		f.opts.Log.Warn("let go of the program in kubelet's cgroup", "error", err)
	}
	f.notes = nil
}

// find returns kubelet's place, if it is one by which kubelet can be told.
func (f *Follower) find() State {
	var s State
	switch f.opts.Cgroup {
	case Off:
		return s
	case "":
		found, err := f.finder.find()
		if err != nil {
			return State{Err: err}
		}
		s.Cgroup, s.PID = found.cgroup, found.pid
	default:
		s.Cgroup = f.opts.Cgroup
	}
	if s.Cgroup == f.alone && time.Now().Before(f.granted) {
		return s
	}
	err := alone(s.Cgroup, f.opts.Pods())
	if err == nil {
		err = noContainers(f.finder.proc, s.Cgroup, func() { time.Sleep(settle) })
	}
	if err != nil {
		f.alone, s.Err = "", fmt.Errorf("kubelet cannot be told from others by its cgroup %s: %w", s.Cgroup, err)
		return s
	}
	f.alone, f.granted = s.Cgroup, time.Now().Add(trust)
	return s
}
