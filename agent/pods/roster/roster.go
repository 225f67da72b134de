// Package roster joins what the API server says of the node's pods (package kube) with
// where they are on the node: in a sandbox that the container runtime told of through the
// CNI plugin, or where their processes are found (package process). It is the pods.Source
// of a cluster.
//
// Who leaves it, and when:
//
//	labels say no                    at once; a pod that neighbours encrypt to after they
//	                                 had time to hear of it
//	Succeeded, Failed                at once: its address is another pod's soon
//	the runtime removes its sandbox  at once
//	deleted in the API               when it runs no process any more
//	the API server is away           nobody
package roster

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/process"
)

// API is what the roster needs of package kube.
type API interface {
	// Run follows the API server until ctx ends.
	Run(ctx context.Context)
	// Synced tells why it is not known yet which pods there are.
	Synced() error
	// Entries returns all pods, and a channel that is closed when they change.
	Entries() ([]kube.Entry, <-chan struct{})
}

var _ API = (*kube.API)(nil)

// Options of a Roster. API, Cgroup and Log must be given.
type Options struct {
	API    API
	Cgroup string // where the programs are attached; pods are looked for below it
	// Settle is how long a pod stays after neighbours could hear that it speaks TLS no
	// more; 30 seconds.
	Settle time.Duration
	// Kept is a file in which an agent that is started while the API server is away finds
	// what it was told before; "" for none.
	Kept string
	// Patience is how long such an agent waits first: a proxy that waits for it dials
	// nothing meanwhile. 5 seconds.
	Patience time.Duration
	Log      *slog.Logger
}

const (
	// check is how often pods are looked for on the node, and what they listen on; missed
	// how often while one is missing.
	check  = 10 * time.Second
	missed = time.Second
	// overdue is how long a pod may be without a process before that is a refusal.
	overdue = 10 * time.Second
	// fresh is how long a sandbox may be without a process: the runtime is still at it.
	fresh = 2 * time.Minute
)

// Roster is the source. Its methods may be called concurrently.
type Roster struct {
	opts     Options
	finder   *process.Finder
	requests chan *request

	// What follows is Run's goroutine's alone.
	records   map[string]*record // by UID
	looked    time.Time          // at the node's processes
	last      pods.Set           // that was published
	published bool
	// retired are namespaces that nobody names once the next set is in force.
	retired  []*netns.Namespace
	old      []kube.Entry // what an earlier agent was told, while this one has not been
	recalled bool         // old was looked for
}

var _ pods.Source = (*Roster)(nil)

// New makes a Roster. It does nothing before Run.
func New(opts Options) *Roster {
	if opts.Settle == 0 {
		opts.Settle = 30 * time.Second
	}
	if opts.Patience == 0 {
		opts.Patience = 5 * time.Second
	}
	return &Roster{
		opts: opts, finder: process.New(opts.Cgroup), requests: make(chan *request),
		records: make(map[string]*record),
	}
}

// Run follows the API server and the node until ctx ends. Nothing is published before
// the API server has told of everything: what it has not told of is not gone.
func (r *Roster) Run(ctx context.Context, publish func(pods.Set)) error {
	following := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(following)
		r.opts.API.Run(ctx)
	}()
	defer func() {
		cancel()
		<-following
		for _, one := range r.records {
			one.close()
		}
	}()
	timer := time.NewTimer(missed)
	defer timer.Stop()
	var waiting []*request
	for begun := time.Now(); ; {
		entries, changed := r.opts.API.Entries()
		pause := missed
		if err := r.opts.API.Synced(); err == nil {
			pause = r.round(entries, waiting, publish)
		} else {
			answer(waiting, err)
			if time.Since(begun) > r.opts.Patience {
				r.remember(err)
			}
			if r.old != nil {
				r.round(r.old, nil, publish)
			}
		}
		waiting = nil
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		case first := <-r.requests:
			waiting = r.drain(first)
		}
	}
}

// round brings the records up to date, publishes what they come to, and says how long
// until the next look. Who waits is answered when his change is in force.
func (r *Roster) round(entries []kube.Entry, waiting []*request, publish func(pods.Set)) time.Duration {
	now := time.Now()
	for _, q := range waiting {
		q.act(now)
	}
	r.learn(entries, now)
	r.look(now)
	r.hear(now)
	set := r.set(now)
	if len(waiting) > 0 || !r.same(set) {
		publish(set)
		r.last, r.published = set, true
		r.keep()
	}
	for _, one := range r.retired {
		_ = one.Close()
	}
	r.retired = nil
	answer(waiting, nil)
	if r.incomplete() {
		return missed
	}
	return check
}

// same tells whether a set says what the last one said.
func (r *Roster) same(set pods.Set) bool {
	alike := func(a, b pods.Problem) bool { return a.Name == b.Name && a.Err.Error() == b.Err.Error() }
	return r.published && slices.Equal(r.last.Pods, set.Pods) && slices.EqualFunc(r.last.Problems, set.Problems, alike)
}

// request is a change that somebody waits for.
type request struct {
	act  func(now time.Time)
	undo func()     // in place of act, where that cannot be done
	done chan error // has room
}

// ask has Run do something, and returns when its consequences are in force. One of act
// and undo is called, on Run's goroutine or before ask returns.
func (r *Roster) ask(ctx context.Context, act func(now time.Time), undo func()) error {
	q := &request{act: act, undo: undo, done: make(chan error, 1)}
	select {
	case <-ctx.Done():
		undo()
		return ctx.Err()
	case r.requests <- q:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-q.done:
		return err
	}
}

// drain takes everybody who asks at this moment.
func (r *Roster) drain(first *request) []*request {
	all := []*request{first}
	for {
		select {
		case q := <-r.requests:
			all = append(all, q)
		default:
			return all
		}
	}
}

func answer(waiting []*request, err error) {
	for _, q := range waiting {
		if err != nil {
			q.undo()
		}
		q.done <- err
	}
}
