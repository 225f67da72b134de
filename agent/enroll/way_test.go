package enroll

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/netns/netnstest"
)

// oracle is a Prober that says what it is told to, by pod, and counts.
type oracle struct {
	mu    sync.Mutex
	says  map[string]error
	asked map[string]int
}

var _ Prober = (*oracle)(nil)

func (o *oracle) Reach(_ context.Context, w *Workload) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[w.Pod.Name]++
	return o.says[w.Pod.Name]
}

func (o *oracle) say(pod string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.says[pod] = err
}

func (o *oracle) count(pod string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[pod]
}

// asking is a world whose pods are asked, as Run does it.
func asking(t *testing.T, interval, grace time.Duration) (*world, *oracle) {
	t.Helper()
	o := &oracle{says: make(map[string]error), asked: make(map[string]int)}
	return probed(t, o, interval, grace), o
}

// probed is a world whose pods are asked by a Prober.
func probed(t *testing.T, p Prober, interval, grace time.Duration) *world {
	t.Helper()
	w := newWorld(t)
	w.e.opts.Prober, w.e.opts.Interval, w.e.opts.Grace = p, interval, grace
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { w.e.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return w
}

// status returns the state of the one pod.
func (w *world) status() Status {
	w.Helper()
	all := w.e.Status()
	if len(all) != 1 {
		w.Fatalf("%d pods, want 1", len(all))
	}
	return all[0]
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.Fatalf("waited in vain: %s; %+v", what, w.e.Status())
}

var errDeaf = errors.New("nobody answers")

// TestWay: what is steered is enrolled when it answers, not before.
func TestWay(t *testing.T) {
	w, o := asking(t, time.Hour, time.Hour)
	o.say("a", errDeaf)
	w.apply(w.pod("a", netnstest.New(t), 1))
	if s := w.status(); s.Enrolled || s.Class != ClassUnreached || s.Cookie == 0 {
		t.Errorf("before it answers: %+v", s)
	}
	w.until("a first question", func() bool { return strings.Contains(w.status().Reason, errDeaf.Error()) })
	if s := w.status(); s.Enrolled || s.Class != ClassUnreached || !strings.Contains(s.Reason, "its data path does not answer: nobody answers") {
		t.Errorf("after a question: %+v", s)
	}
	if all, _ := w.e.Workloads(); len(all) != 1 {
		t.Error("the proxy is not told of a pod that does not answer: it never will")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.e.Await(short, "shop/a"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errDeaf.Error()) {
		t.Errorf("await in vain: %v", err)
	}
	o.say("a", nil)
	w.must(w.e.Await(t.Context(), "shop/a")) // it is asked again by itself
	w.enrolled("shop/a")
}

// TestWayGrace: a pod that answered stays enrolled for a while, and only for a while.
func TestWayGrace(t *testing.T) {
	w, o := asking(t, time.Hour, time.Hour)
	w.apply(w.pod("a", netnstest.New(t), 1))
	w.must(w.e.Await(t.Context(), "shop/a"))
	o.say("a", errDeaf)
	n := o.count("a")
	w.e.AskMissing()
	w.e.AskAgain()
	w.until("three questions in vain", func() bool { return o.count("a") >= n+3 })
	if s := w.status(); !s.Enrolled || s.Reason != "" {
		t.Errorf("within the grace: %+v", s)
	}
	o.say("a", nil)
	w.until("an answer again", func() bool {
		w.e.mu.Lock()
		defer w.e.mu.Unlock()
		return w.e.ways["shop/a"].failing.IsZero()
	})

	w.e.mu.Lock()
	w.e.opts.Grace = 200 * time.Millisecond
	w.e.mu.Unlock()
	o.say("a", errDeaf)
	w.e.AskAgain()
	w.until("the end of the grace", func() bool { return !w.status().Enrolled })
	if s := w.status(); s.Class != ClassUnreached {
		t.Errorf("after the grace: %+v", s)
	}
	o.say("a", nil)
	w.e.AskMissing()
	w.must(w.e.Await(t.Context(), "shop/a"))
}

// TestWayInterval: an enrolled pod is asked again from time to time.
func TestWayInterval(t *testing.T) {
	w, o := asking(t, 20*time.Millisecond, time.Hour)
	w.apply(w.pod("a", netnstest.New(t), 1))
	w.until("three questions", func() bool { return o.count("a") >= 3 })
	w.enrolled("shop/a")
}

// TestWayOfAnother: a pod of the same name that is enrolled anew is asked anew, and what
// was asked of the one before is not its answer.
func TestWayOfAnother(t *testing.T) {
	w, o := asking(t, time.Hour, time.Hour)
	w.apply(w.pod("a", netnstest.New(t), 1))
	w.must(w.e.Await(t.Context(), "shop/a"))
	o.say("a", errDeaf)
	w.apply(w.pod("a", netnstest.New(t), 1))
	if s := w.status(); s.Enrolled || s.Class != ClassUnreached {
		t.Errorf("in another namespace: %+v", s)
	}
	o.say("a", nil)
	w.must(w.e.Await(t.Context(), "shop/a"))
	w.apply()
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if len(w.e.ways) != 0 {
		t.Error("the way of a pod that left is remembered")
	}
}

// TestUnconfigured: who is reached and has no configuration in force is not enrolled, by a
// class of its own, until a table is put.
func TestUnconfigured(t *testing.T) {
	w, o := asking(t, time.Hour, time.Hour)
	o.say("a", &Refusal{Class: ClassUnconfigured, Err: errors.New("its view is away")})
	w.apply(w.pod("a", netnstest.New(t), 1))
	w.until("what it lacks", func() bool { return w.status().Class == ClassUnconfigured })
	if s := w.status(); s.Enrolled || s.Reason != "its view is away" {
		t.Errorf("reported %+v", s)
	}
	o.say("a", nil)
	w.e.AskMissing()
	w.must(w.e.Await(t.Context(), "shop/a"))
}

// slow is a Prober whose questions end when they are told to.
type slow struct{ begun, end chan error }

func (s slow) Reach(ctx context.Context, _ *Workload) error {
	select {
	case s.begun <- nil:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-s.end:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestAskedMeanwhile: a table that is put while a question is on its way has another follow
// at once, since that one may be answered by what was before.
func TestAskedMeanwhile(t *testing.T) {
	s := slow{make(chan error), make(chan error)}
	w := probed(t, s, time.Hour, time.Hour)
	w.apply(w.pod("a", netnstest.New(t), 1))
	begun := func() {
		t.Helper()
		select {
		case <-s.begun:
		case <-time.After(30 * time.Second):
			t.Fatal("no question follows")
		}
	}
	for range 12 { // the last pauses of those that double would be minutes
		begun()
		w.e.AskMissing()
		s.end <- errDeaf
	}
	begun()
	s.end <- nil
	w.must(w.e.Await(t.Context(), "shop/a"))
}
