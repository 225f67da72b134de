package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/internal/admin"
)

// cluster is an API and an Enrolment that do what a test wants, and show what was written.
type cluster struct {
	found   []admin.Conflict
	mu      sync.Mutex
	entries map[string]*kube.Entry
	states  map[string]enroll.Status
	changed chan struct{}
	guard   error
	refuse  error // writes
	log     []string
}

var (
	_ API       = (*cluster)(nil)
	_ Enrolment = (*cluster)(nil)
)

func (c *cluster) Entries() (all []kube.Entry, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b kube.Entry) int { return len(a.Pod.UID) - len(b.Pod.UID) })
	return all, c.changed
}

func (c *cluster) Status() (all []enroll.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.states {
		all = append(all, s)
	}
	return all
}

func (c *cluster) Workloads() ([]*enroll.Workload, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return nil, c.changed
}

func (c *cluster) SetCondition(_ context.Context, pod kube.Ref, condition *kube.Condition) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return c.refuse
	}
	c.entries[pod.UID].Condition = condition
	text := "none"
	if condition != nil {
		text = fmt.Sprint(condition.Enrolled, " ", condition.Reason, ": ", condition.Message)
	}
	c.log = append(c.log, pod.Name+" "+text)
	return nil
}

func (c *cluster) SetMark(_ context.Context, pod kube.Ref, set bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[pod.UID].Marked = set
	c.log = append(c.log, fmt.Sprint(pod.Name, " mark ", set))
	return nil
}

func (c *cluster) conflicts() []admin.Conflict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found
}

func (c *cluster) Guarded(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guard
}

func (c *cluster) Tell(_ context.Context, e *kube.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, fmt.Sprint(e.Pod.Name, " event ", e.Reason, " ", e.Warning, ": ", e.Note))
	return nil
}

func (c *cluster) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// wrote returns what was written since it was called last.
func (c *cluster) wrote() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log
	c.log = nil
	return log
}

func (c *cluster) enrolled(uid string, cookie uint64, refused error) {
	s := enroll.Status{Pod: &c.entries[uid].Pod, Enrolled: refused == nil, Cookie: cookie}
	if r, ok := errors.AsType[*enroll.Refusal](refused); ok {
		s.Class, s.Reason = r.Class, r.Error()
	}
	c.states[uid] = s
}

// report runs f beside a Reporter of a cluster with the pod "a".
func report(t *testing.T, certified bool, f func(c *cluster, r *Reporter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{changed: make(chan struct{}), states: map[string]enroll.Status{}, entries: map[string]*kube.Entry{
			"a": {Wanted: true, Pod: pods.Pod{UID: "a", Name: "a", Namespace: "shop", ServiceAccount: "one"}},
		}}
		r := New(Options{
			Found: c.conflicts,
			API:   c, Enrolment: c, Own: kube.Ref{Namespace: "mesh", Name: "agent"}, Log: slog.New(slog.DiscardHandler),
			Holds: func(namespace, account string) bool { return certified && namespace == "shop" && account == "one" },
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.Run(ctx) })
		f(c, r)
		cancel()
		running.Wait()
	})
}

func expect(t *testing.T, c *cluster, want ...string) {
	t.Helper()
	if got := c.wrote(); !slices.Equal(got, want) {
		t.Errorf("written: %q, want %q", got, want)
	}
}

func refusal(class enroll.Class, text string) error {
	return &enroll.Refusal{Class: class, Err: errors.New(text)}
}

const yes = "a true Enrolled: its calls go through the mesh"

func TestCondition(t *testing.T) {
	report(t, false, func(c *cluster, r *Reporter) {
		time.Sleep(time.Minute)
		expect(t, c) // nothing is known yet
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		expect(t, c, yes)
		time.Sleep(time.Hour)
		expect(t, c) // it is there

		// Words that change at each attempt are not written each time.
		for i := range 100 {
			c.set(func() { c.enrolled("a", 1, refusal(enroll.ClassHostNetwork, fmt.Sprint("attempt ", i))) })
			time.Sleep(time.Second)
		}
		if n := len(c.wrote()); n < 2 || n > 6 {
			t.Errorf("%d writes in 100 seconds", n)
		}
		time.Sleep(time.Minute)
		c.wrote()

		c.set(func() { c.refuse = errors.New("forbidden"); c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		if p := r.Problems(); len(p) != 1 || p[0] != "report on pod shop/a: forbidden" {
			t.Errorf("problems: %q", p)
		}
		c.set(func() { c.refuse = nil })
		time.Sleep(time.Minute)
		expect(t, c, yes)
		if p := r.Problems(); len(p) != 0 {
			t.Errorf("problems that are over: %q", p)
		}
		// Withdrawn: nothing is said of it any more.
		c.set(func() { c.entries["a"].Wanted = false; delete(c.states, "a") })
		time.Sleep(time.Minute)
		expect(t, c, "a none")
	})
}

func TestEvents(t *testing.T) {
	report(t, false, func(c *cluster, _ *Reporter) {
		const no = "program 7 (other) runs before steer_connect4"
		c.set(func() { c.enrolled("a", 1, refusal(enroll.ClassNotEffective, no)) })
		time.Sleep(5 * time.Second)
		expect(t, c, "a false NotEffective: "+no)
		time.Sleep(time.Hour)
		expect(t, c, "a event NotEnrolled true: "+no, "agent event NodeConflict true: "+no+"; `dubwayctl doctor` on the node says more")
		// What passes is no event.
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		c.set(func() { c.enrolled("a", 1, refusal(enroll.ClassWaiting, "soon")) })
		time.Sleep(3 * time.Second)
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		expect(t, c, yes, "a false Waiting: soon", yes)
		c.set(func() { c.enrolled("a", 0, refusal(enroll.ClassExcluded, "host's network")) })
		time.Sleep(time.Minute)
		expect(t, c, "a false Excluded: host's network", "a event NotEnrolled false: host's network")
	})
}

// TestNode: a conflict of the node is an event of the agent's own pod, once while it is there.
func TestNode(t *testing.T) {
	report(t, false, func(c *cluster, _ *Reporter) {
		ipvs := admin.Conflict{Name: "kube-proxy", Detail: "mode ipvs", Fix: "use nftables"}
		const event = "agent event NodeConflict true: kube-proxy: mode ipvs; fix: use nftables"
		c.set(func() { c.found = []admin.Conflict{ipvs} })
		time.Sleep(time.Hour)
		expect(t, c, event)
		c.set(func() { c.found = nil })
		time.Sleep(time.Minute)
		expect(t, c)
		c.set(func() { c.found = []admin.Conflict{ipvs} })
		time.Sleep(time.Minute)
		expect(t, c, event)
	})
}

func TestMark(t *testing.T) {
	report(t, true, func(c *cluster, r *Reporter) {
		c.guard = errors.New("no policy")
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		expect(t, c, yes)
		if p := r.Problems(); !slices.Equal(p, []string{"no policy"}) {
			t.Errorf("problems: %q", p)
		}
		c.set(func() { c.guard = nil })
		time.Sleep(time.Minute)
		expect(t, c, "a mark true")
		if p := r.Problems(); len(p) != 0 {
			t.Errorf("problems: %q", p)
		}
		// What is still served keeps it; what is not loses it after a while.
		c.set(func() { c.enrolled("a", 1, refusal(enroll.ClassNotEffective, "x")) })
		time.Sleep(5 * time.Minute)
		if log := c.wrote(); slices.Contains(log, "a mark false") {
			t.Errorf("taken away while TLS is ended: %q", log)
		}
		c.set(func() { c.enrolled("a", 0, refusal(enroll.ClassListener, "x")) })
		time.Sleep(5 * time.Minute)
		if log := c.wrote(); !slices.Contains(log, "a mark false") {
			t.Errorf("not taken away: %q", log)
		}
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		expect(t, c, yes, "a mark true")
		c.set(func() { c.entries["a"].Wanted = false })
		time.Sleep(time.Minute)
		expect(t, c, "a mark false")
		c.set(func() { c.entries["a"].Wanted, c.entries["a"].Foreign = true, true })
		time.Sleep(time.Minute)
		expect(t, c) // somebody else's
	})
}

// TestLostCertificate: who can disturb the authority does not get plaintext by that.
func TestLostCertificate(t *testing.T) {
	report(t, false, func(c *cluster, _ *Reporter) {
		c.set(func() {
			c.entries["a"].Marked = true
			c.enrolled("a", 1, nil)
		})
		time.Sleep(time.Hour)
		expect(t, c, yes)
	})
}

// TestUndecided: while a namespace is not known nothing is taken away from its pods.
func TestUndecided(t *testing.T) {
	report(t, true, func(c *cluster, _ *Reporter) {
		c.set(func() {
			e := c.entries["a"]
			e.Wanted, e.Undecided, e.Marked, e.Condition = false, true, true, &kube.Condition{Enrolled: true, Reason: "Enrolled"}
		})
		time.Sleep(time.Hour)
		expect(t, c)
	})
}

func TestLeave(t *testing.T) {
	report(t, true, func(c *cluster, r *Reporter) {
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		expect(t, c, yes, "a mark true")
		begun := time.Now()
		if err := r.Leave(context.Background()); err != nil || time.Since(begun) < 30*time.Second || c.entries["a"].Marked {
			t.Errorf("left after %v: %v, %+v", time.Since(begun), err, c.entries["a"])
		}
		time.Sleep(time.Hour)
		expect(t, c, "a mark false")
	})
}

// TestLeaveUnlabelled: neighbours of pods that have had no label have nothing to hear of.
func TestLeaveUnlabelled(t *testing.T) {
	report(t, false, func(c *cluster, r *Reporter) {
		c.set(func() { c.enrolled("a", 1, nil) })
		time.Sleep(time.Minute)
		begun := time.Now()
		if err := r.Leave(context.Background()); err != nil || time.Since(begun) >= 30*time.Second {
			t.Errorf("left after %v: %v", time.Since(begun), err)
		}
		expect(t, c, yes)
	})
}
