// Package enroll makes the pods that a source tells of part of the mesh, and
// keeps them there: desired against actual. To enrol a pod is to open the mesh's
// listeners in its network namespace, to see that the programs are effective on
// its cgroup, and to put it into the datapath, in this order, so that nothing is
// ever steered to a port where nobody listens. It is enrolled when the proxy has
// answered over all of that (way.go).
//
// What cannot be enrolled is reported with its reason and tried again. It is
// never half enrolled.
package enroll

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
)

// Datapath is what enrolment needs of package datapath.
type Datapath interface {
	NetnsCookie(socket syscall.Conn) (uint64, error)
	Workloads() ([]uint64, error)
	Effective(cgroup string) error
}

// Tables puts workloads into the datapath, each with the table of destinations that
// is its own; package table has it.
type Tables interface {
	SetWorkload(uid string, w datapath.Workload) error
	DeleteWorkload(cookie uint64) error
}

// Options of an Enroller.
type Options struct {
	Datapath Datapath
	Tables   Tables
	Cgroup   string        // where the programs are attached
	Interval time.Duration // between checks of what is enrolled
	Retry    time.Duration // between attempts to enrol what is not
	// Patience is how long a pod that an earlier agent enrolled stays steered
	// while its listeners are still the proxy's, which has not come back yet.
	Patience time.Duration
	// Prober asks what is steered whether it works. Nil: whatever is steered is enrolled.
	Prober Prober
	// Grace is how long a pod that answered stays enrolled while it does not: new
	// connections wait while the proxy is away.
	Grace time.Duration
	// IsNode tells an address of the node; nil if none is known. A pod that has
	// one uses the host's network.
	IsNode func(netip.Addr) bool
	Log    *slog.Logger
}

// Enroller enrols pods. Its methods may be called concurrently.
type Enroller struct {
	opts    Options
	host    map[netns.ID]bool // namespaces that are never a pod's
	started time.Time

	// work serialises changes; mu guards what readers see, and is never held
	// while the kernel is asked.
	work    sync.Mutex
	desired []*pods.Pod
	// inherited are the cookies that an earlier agent enrolled and that this one
	// has not taken over yet.
	inherited map[uint64]bool
	proxySeen bool                       // a proxy has said which listeners it holds
	offers    map[string][]*netns.Socket // for the first Apply, by UID
	frozen    bool                       // another agent writes; see Freeze

	mu       sync.Mutex
	states   map[string]*state    // by UID, of every desired pod
	ways     map[string]*way      // by UID, of what is steered
	departed map[string]*Workload // by UID, of what is steered no more, and runs
	changed  chan struct{}        // closed at the next change of Workloads or Status
}

// state is what is known of one desired pod.
type state struct {
	pod      *pods.Pod
	workload *Workload // nil: not enrolled
	err      error     // why it is not, or not effectively
	broken   bool      // workload must be made anew
}

func (s *state) reason() string {
	if s.err == nil {
		return ""
	}
	return s.err.Error()
}

// Cgroups returns the cgroups of the desired pods, enrolled or not.
func (e *Enroller) Cgroups() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]string, 0, len(e.states))
	for _, s := range e.states {
		all = append(all, s.pod.Cgroup)
	}
	return all
}

// Status is how far a pod got.
type Status struct {
	Pod      *pods.Pod
	Enrolled bool
	Reason   string // why not
	Class    Class  // of Reason
	Cookie   uint64 // 0 if unknown
}

// New makes an Enroller. It changes nothing before Apply.
func New(opts Options) (*Enroller, error) {
	e := &Enroller{
		opts: opts, started: time.Now(), host: make(map[netns.ID]bool),
		inherited: make(map[uint64]bool),
		states:    make(map[string]*state), ways: make(map[string]*way), departed: make(map[string]*Workload),
		changed: make(chan struct{}),
	}
	// The agent's own namespace and the host's. The latter may be out of reach:
	// then IsNode tells.
	for _, path := range []string{netns.Self, "/proc/1/ns/net"} {
		if ns, err := netns.Open(path); err == nil {
			e.host[ns.ID()] = true
			_ = ns.Close()
		}
	}
	cookies, err := opts.Datapath.Workloads()
	if err != nil {
		return nil, err
	}
	for _, c := range cookies {
		e.inherited[c] = true
	}
	return e, nil
}

// Run checks and asks what is enrolled and retries what is not until ctx ends.
func (e *Enroller) Run(ctx context.Context) {
	if e.opts.Prober != nil {
		var asking sync.WaitGroup
		defer asking.Wait()
		asking.Go(func() { e.askAll(ctx) })
	}
	check, retry := time.NewTicker(e.opts.Interval), time.NewTicker(e.opts.Retry)
	defer check.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-check.C:
			e.Check()
		case <-retry.C:
			e.work.Lock()
			e.reconcile(nil)
			e.work.Unlock()
		}
	}
}

// Close lets go of all sockets. Steering stays as it is: the proxy holds the
// listeners, and the next agent takes over.
func (e *Enroller) Close() {
	e.work.Lock()
	defer e.work.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.states {
		if s.workload != nil {
			s.workload.close()
		}
	}
	for _, w := range e.departed {
		_ = w.Netns.Close()
	}
	clear(e.states)
	clear(e.departed)
	closeAll(e.offers)
	e.offers = nil
}

// Apply makes set the desired pods and returns when all of them have been tried.
func (e *Enroller) Apply(set pods.Set) {
	e.work.Lock()
	defer e.work.Unlock()
	e.desired = set.Pods
	offers := e.offers
	e.offers = nil
	e.reconcile(offers)
	closeAll(offers)
}

// Adopt offers the listeners that a proxy holds, by UID, and returns when those
// that are needed have been taken. Adopt closes all it is given; what it keeps
// are duplicates.
func (e *Enroller) Adopt(offers map[string][]*netns.Socket) {
	e.work.Lock()
	defer e.work.Unlock()
	e.proxySeen = true
	e.reconcile(offers)
	closeAll(offers)
}

// Workloads returns what is steered, and a channel that is closed when that or Status
// changes.
func (e *Enroller) Workloads() ([]*Workload, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Workload, 0, len(e.states))
	for _, s := range e.states {
		if s.workload != nil {
			all = append(all, s.workload)
		}
	}
	return all, e.changed
}

// Workload returns a steered pod, or nil.
func (e *Enroller) Workload(uid string) *Workload {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.states[uid]; s != nil {
		return s.workload
	}
	return nil
}

// Status returns the state of every desired pod, ordered by UID.
func (e *Enroller) Status() []Status {
	e.work.Lock()
	desired := e.desired
	e.work.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Status, 0, len(desired))
	for _, pod := range desired {
		if s := e.states[pod.UID]; s != nil {
			all = append(all, e.status(s))
		}
	}
	return all
}

// State returns the state of one pod; false for one that is not desired, or has not been
// tried. It waits for nothing.
func (e *Enroller) State(uid string) (Status, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.states[uid]
	if s == nil {
		return Status{}, false
	}
	return e.status(s), true
}

// status is a pod's state, by its way too. mu is held.
func (e *Enroller) status(s *state) Status {
	err := s.err
	if err == nil {
		err = e.wayError(s.pod.UID)
	}
	status := Status{Pod: s.pod, Enrolled: err == nil}
	if err != nil {
		status.Reason = err.Error()
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		status.Class = r.Class
	}
	if s.workload != nil {
		status.Cookie = s.workload.Cookie
	}
	return status
}
