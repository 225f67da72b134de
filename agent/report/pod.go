package report

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods/kube"
)

// condition writes what a pod's status is to say.
func (r *Reporter) condition(ctx context.Context, m *memo, e *kube.Entry, s *enroll.Status) error {
	want := wanted(e, s)
	if want == nil && e.Wanted && !e.Finished || equal(want, e.Condition) {
		m.unwritten = nil // nothing is known yet, or it is there
		return nil
	}
	pause := flips
	if want != nil && e.Condition != nil && want.Enrolled == e.Condition.Enrolled {
		pause = rewords
	}
	if !m.wrote.IsZero() && equal(want, m.written) {
		pause = rewords // the watch has not shown it yet
	}
	if time.Since(m.wrote) < pause {
		return m.unwritten
	}
	m.wrote, m.written = time.Now(), want
	m.unwritten = r.opts.API.SetCondition(ctx, e.Ref(), want)
	return m.unwritten
}

// wanted is what a pod's status is to say; nil for nothing.
func wanted(e *kube.Entry, s *enroll.Status) *kube.Condition {
	switch {
	case s == nil || e.Finished:
		return nil
	case s.Enrolled:
		return &kube.Condition{Enrolled: true, Reason: "Enrolled", Message: "its calls go through the mesh"}
	}
	return &kube.Condition{Reason: camel(string(s.Class)), Message: s.Reason}
}

func equal(a, b *kube.Condition) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// camel turns host_network into HostNetwork.
func camel(class string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(class, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// event tells once that a pod is refused, when that lasts; and of a conflict on the node
// on the agent's own pod, too.
func (r *Reporter) event(ctx context.Context, m *memo, e *kube.Entry, s *enroll.Status) {
	now := time.Now()
	if s == nil || s.Enrolled || e.Finished || m.told == s.Class || now.Sub(m.refused) < lasting {
		return
	}
	m.told = s.Class
	r.tell(ctx, &kube.Event{
		Pod: e.Ref(), Warning: s.Class != enroll.ClassExcluded, Reason: "NotEnrolled", Action: "Enrol", Note: s.Reason,
	})
	if s.Class != enroll.ClassNotEffective || r.opts.Own.Name == "" || now.Sub(r.conflict[s.Reason]) < again {
		return
	}
	r.conflict[s.Reason] = now
	r.tell(ctx, &kube.Event{
		Pod: r.opts.Own, Warning: true, Reason: "NodeConflict", Action: "Enrol",
		Note: s.Reason + "; `dubwayctl doctor` on the node says more",
	})
}

// node tells on the agent's own pod of what gets in the mesh's way: once for each that
// comes.
func (r *Reporter) node(ctx context.Context) {
	if r.opts.Found == nil || r.opts.Own.Name == "" {
		return
	}
	found := r.opts.Found()
	for _, c := range found {
		if !slices.Contains(r.found, c) {
			r.tell(ctx, &kube.Event{
				Pod: r.opts.Own, Warning: true, Reason: "NodeConflict", Action: "Look",
				Note: c.Name + ": " + c.Detail + "; fix: " + c.Fix,
			})
		}
	}
	r.found = found
}

// tell makes an event. One that cannot be made is logged, and not tried again: the
// condition says the same.
func (r *Reporter) tell(ctx context.Context, e *kube.Event) {
	if err := r.opts.API.Tell(ctx, e); err != nil {
		r.opts.Log.Warn("make event", "pod", e.Pod.Namespace+"/"+e.Pod.Name, "reason", e.Reason, "error", err)
	}
}

// mark sets or takes away the label that says that a pod speaks TLS.
func (r *Reporter) mark(ctx context.Context, m *memo, e *kube.Entry, s *enroll.Status) error {
	r.mu.Lock()
	leaving := r.leaving
	r.mu.Unlock()
	served := s != nil && s.Cookie != 0
	set := !e.Marked
	switch {
	case e.Foreign: // whoever set it knows why
		return nil
	case time.Since(m.marked) < look: // the watch has not shown it yet
		return m.unmarked
	case e.Marked && (leaving || !e.Wanted || !served && !m.refused.IsZero() && time.Since(m.refused) > unserved):
	case !e.Marked && !leaving && e.Wanted && !e.Finished && served && s.Enrolled &&
		r.opts.Holds(e.Pod.Namespace, e.Pod.ServiceAccount):
	default:
		m.unmarked = nil
		return nil
	}
	if !r.guarded(ctx) {
		return nil
	}
	m.marked = time.Now()
	m.unmarked = r.opts.API.SetMark(ctx, e.Ref(), set)
	r.mu.Lock()
	r.labelled = m.marked // the watch may not show it before it is taken away again
	r.mu.Unlock()
	return m.unmarked
}

// The guard is asked again after a while: a chart may be upgraded, and taken away.
const (
	askGuard      = 5 * time.Minute
	askGuardAgain = 30 * time.Second
)

// guarded tells whether pods may be labelled.
func (r *Reporter) guarded(ctx context.Context) bool {
	r.mu.Lock()
	guard, asked := r.guard, r.asked
	r.mu.Unlock()
	pause := askGuard
	if guard != nil {
		pause = askGuardAgain
	}
	if !asked.IsZero() && time.Since(asked) < pause {
		return guard == nil
	}
	guard = r.opts.API.Guarded(ctx)
	if guard != nil {
		r.opts.Log.Warn("pods are not labelled", "error", guard)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.guard, r.asked = guard, time.Now()
	return guard == nil
}
