// Package report tells the cluster what became of its pods: a condition in each pod's
// status, events where something is wrong, and the label by which neighbours know that a
// pod speaks TLS (docs/mtls.md, "Who says that a pod speaks TLS"). It writes what differs
// from what is there, and no more often than people can read.
package report

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/internal/admin"
)

// API is where it is told, and what is there now.
type API interface {
	Entries() ([]kube.Entry, <-chan struct{})
	SetCondition(ctx context.Context, pod kube.Ref, c *kube.Condition) error
	SetMark(ctx context.Context, pod kube.Ref, set bool) error
	Guarded(ctx context.Context) error
	Tell(ctx context.Context, e *kube.Event) error
}

// Enrolment is what is told.
type Enrolment interface {
	Status() []enroll.Status
	Workloads() ([]*enroll.Workload, <-chan struct{})
}

var (
	_ API       = (*kube.API)(nil)
	_ Enrolment = (*enroll.Enroller)(nil)
)

// Options of a Reporter. API, Enrolment, Holds and Log must be given.
type Options struct {
	API       API
	Enrolment Enrolment
	Holds     func(namespace, account string) bool // whether the proxy has a certificate of an account
	Found     func() []admin.Conflict              // what gets in the mesh's way on the node; nil for nothing
	Own       kube.Ref                             // the agent's own pod, for what concerns the node
	Settle    time.Duration                        // see roster.Options; 30 seconds
	Log       *slog.Logger
}

const (
	breath   = 200 * time.Millisecond // between two looks
	look     = 5 * time.Second        // at what nobody tells of: certificates, times that are over
	flips    = time.Second            // between two writes of a condition
	rewords  = 30 * time.Second       // the same, where its words alone change
	lasting  = 10 * time.Second       // a refusal is an event when it has lasted so long
	unserved = 30 * time.Second       // a pod without listeners loses its label when it has been for so long
	again    = 10 * time.Minute       // between two events that say the same
)

// Reporter writes. Run is called once; other methods may be called concurrently.
type Reporter struct {
	opts Options

	memos    map[string]*memo     // by UID; Run's goroutine's alone
	conflict map[string]time.Time // events of the node, by note; the same
	found    []admin.Conflict     // of which there is an event; the same

	mu       sync.Mutex
	guard    error // of the last question whether pods may be labelled
	asked    time.Time
	failing  map[string]string // by pod: what could not be written
	leaving  bool
	labelled time.Time     // when a pod was last seen with the label; at first, when nobody had looked
	unmarked chan struct{} // closed when no pod has the label any more
	kicked   chan struct{} // has room for one
}

// memo is what is remembered of a pod.
type memo struct {
	wrote   time.Time
	written *kube.Condition // that the watch may not have shown yet
	refused time.Time       // since when; zero: it is not
	told    enroll.Class    // of the last event
	marked  time.Time       // when the label was written last
	// What could not be written at the last attempt, nil if it could.
	unwritten, unmarked error
}

// New makes a Reporter.
func New(opts Options) *Reporter {
	if opts.Settle == 0 {
		opts.Settle = 30 * time.Second
	}
	return &Reporter{
		opts: opts, memos: make(map[string]*memo), conflict: make(map[string]time.Time),
		failing: make(map[string]string), labelled: time.Now(), unmarked: make(chan struct{}), kicked: make(chan struct{}, 1),
	}
}

// Run reports until ctx ends. It must not be called before pods have been tried once.
func (r *Reporter) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		entries, news := r.opts.API.Entries()
		_, changed := r.opts.Enrolment.Workloads()
		r.pass(ctx, entries)
		select {
		case <-ctx.Done():
			return
		case <-time.After(breath):
		}
		timer.Reset(look)
		select {
		case <-ctx.Done():
			return
		case <-news:
		case <-changed:
		case <-r.kicked:
		case <-timer.C:
		}
	}
}

// Leave takes the label away from all pods of the node, and returns when neighbours have
// had time to hear of it: at once where none had it lately. From then on none is set.
func (r *Reporter) Leave(ctx context.Context) error {
	r.mu.Lock()
	r.leaving = true
	r.mu.Unlock()
	select {
	case r.kicked <- struct{}{}:
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.unmarked:
	}
	r.mu.Lock()
	settled := r.labelled.Add(r.opts.Settle)
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(settled)):
		return nil
	}
}

// Problems are sentences that an operator should act on.
func (r *Reporter) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	if r.guard != nil {
		list = append(list, r.guard.Error())
	}
	for _, pod := range slices.Sorted(maps.Keys(r.failing)) {
		list = append(list, "report on pod "+pod+": "+r.failing[pod])
	}
	return list
}

// pass writes what differs.
func (r *Reporter) pass(ctx context.Context, entries []kube.Entry) {
	states := make(map[string]*enroll.Status)
	all := r.opts.Enrolment.Status()
	for i := range all {
		states[all[i].Pod.UID] = &all[i]
	}
	now, here, marked := time.Now(), make(map[string]bool, len(entries)), false
	for i := range entries {
		if ctx.Err() != nil {
			return
		}
		e := &entries[i]
		here[e.Pod.UID], marked = true, marked || e.Marked
		if e.Undecided {
			continue // its namespace is not known: it is neither wanted nor unwanted
		}
		m := r.memos[e.Pod.UID]
		if m == nil {
			m = &memo{}
			r.memos[e.Pod.UID] = m
		}
		s := states[e.Pod.UID]
		m.age(s, now)
		err := r.condition(ctx, m, e, s)
		r.event(ctx, m, e, s)
		r.note(e, err, r.mark(ctx, m, e, s))
	}
	r.node(ctx)
	maps.DeleteFunc(r.memos, func(uid string, _ *memo) bool { return !here[uid] })
	r.mu.Lock()
	defer r.mu.Unlock()
	if marked {
		r.labelled = now
	}
	if r.leaving && !marked && !closed(r.unmarked) {
		close(r.unmarked)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// age notes since when a pod is refused.
func (m *memo) age(s *enroll.Status, now time.Time) {
	switch {
	case s == nil || s.Enrolled:
		m.refused, m.told = time.Time{}, ""
	case m.refused.IsZero():
		m.refused = now
	}
}

// note keeps in mind what could not be written.
func (r *Reporter) note(e *kube.Entry, errs ...error) {
	name := e.Pod.Namespace + "/" + e.Pod.Name
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.failing[name]
	delete(r.failing, name)
	for _, err := range errs {
		if err == nil {
			continue
		}
		r.failing[name] = err.Error()
		if before != err.Error() {
			r.opts.Log.Warn("report on pod", "pod", name, "error", err)
		}
	}
}
