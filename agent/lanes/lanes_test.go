package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// programs are Programs whose memory is pages.
type programs struct {
	mu     sync.Mutex
	on     map[uint64]bool
	marked int
	closed bool
	fail   error // of Workload
}

var _ Programs = (*programs)(nil)

func (*programs) Sizes() lane.Sizes {
	return lane.Sizes{Version: lane.Version, Lanes: 4, Routes: 4, Series: 2, CPUs: 1, Active: 3, Log: os.Getpagesize()}
}

func (*programs) Files() ([]*os.File, error) {
	files := make([]*os.File, lane.Files)
	for i := range files {
		fd, err := unix.MemfdCreate("lane", unix.MFD_CLOEXEC)
		if err == nil {
			err = unix.Ftruncate(fd, 1<<20)
		}
		if err != nil {
			return nil, err
		}
		files[i] = os.NewFile(uintptr(fd), "lane")
	}
	return files, nil
}

func (p *programs) Workload(netns uint64, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	if on {
		p.on[netns] = true
	} else {
		delete(p.on, netns)
	}
	return nil
}

func (p *programs) Mark(int) error { p.marked++; return nil }

func (p *programs) Close() error { p.closed = true; return nil }

func (*programs) Counts() (map[string]uint64, error) { return map[string]uint64{"laned": 7}, nil }

func (p *programs) Workloads() ([]uint64, error) { return slices.Collect(maps.Keys(p.on)), nil }

// node is one that lanes are decided on.
type node struct {
	*Lanes

	t *testing.T

	programs         *programs
	opens, tests     int
	openErr, testErr error
	listed           bool
	conflict         string
	pinned           bool
	mu               sync.Mutex
	workloads        []*enroll.Workload
	changed          chan struct{}
	withoutTest      bool
}

func newNode(t *testing.T, choice Choice, change func(*node)) *node {
	t.Helper()
	n := &node{t: t, programs: &programs{on: map[uint64]bool{}}, listed: true, changed: make(chan struct{})}
	if change != nil {
		change(n)
	}
	o := Options{
		Choice: choice, Log: slog.New(slog.DiscardHandler),
		Open:     func() (Programs, error) { n.opens++; return n.programs, n.openErr },
		Pinned:   func() bool { return n.pinned },
		SelfTest: func(context.Context) error { n.tests++; return n.testErr },
		Build:    func() (string, bool, error) { return "6.18.44 #1", n.listed, nil },
		Conflict: func() string { return n.conflict },
		Workloads: func() ([]*enroll.Workload, <-chan struct{}) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.workloads, n.changed
		},
	}
	if n.withoutTest {
		o.SelfTest = nil
	}
	n.Lanes = New(o)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) set(workloads ...*enroll.Workload) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.workloads = workloads
	close(n.changed)
	n.changed = make(chan struct{})
}

func workload(cookie uint64, annotation string) *enroll.Workload {
	pod := &pods.Pod{UID: fmt.Sprint(cookie)}
	if annotation != "" {
		pod.Annotations = map[string]string{Annotation: annotation}
	}
	return &enroll.Workload{Pod: pod, Cookie: cookie}
}

func (n *node) want(mode handoff.LaneMode, why string) {
	n.t.Helper()
	if s := n.Status(); s.Mode != string(mode) || !strings.Contains(s.Why, why) || (why == "") != (s.Why == "") {
		n.t.Errorf("mode %s: %q; want %s, %q", s.Mode, s.Why, mode, why)
	}
}

func TestDecide(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		choice  Choice
		change  func(*node)
		mode    handoff.LaneMode
		why     string
		opens   int
		tests   int
		problem string
	}{
		"auto":                     {Auto, nil, handoff.LaneOn, "", 1, 1, ""},
		"auto, build not listed":   {Auto, func(n *node) { n.listed = false }, handoff.LaneOff, "6.18.44 #1", 0, 0, ""},
		"auto, others":             {Auto, func(n *node) { n.conflict = "Beyla" }, handoff.LaneOff, "Beyla", 0, 0, ""},
		"auto, test fails":         {Auto, func(n *node) { n.testErr = boom }, handoff.LaneOff, "self-test failed on this kernel: boom", 0, 1, ""},
		"auto, no test":            {Auto, func(n *node) { n.withoutTest = true }, handoff.LaneOff, "no self-test", 0, 0, ""},
		"auto, not loaded":         {Auto, func(n *node) { n.openErr = boom }, handoff.LaneOff, "boom", 1, 1, ""},
		"on, build not listed":     {On, func(n *node) { n.listed = false; n.conflict = "Beyla" }, handoff.LaneOn, "", 1, 1, ""},
		"on, test fails":           {On, func(n *node) { n.testErr = boom }, handoff.LaneOff, "boom", 0, 1, "off although"},
		"on, no test":              {On, func(n *node) { n.withoutTest = true }, handoff.LaneOn, "", 1, 0, ""},
		"on, not loaded":           {On, func(n *node) { n.openErr = boom }, handoff.LaneOff, "boom", 1, 1, "off although"},
		"off":                      {ChooseOff, nil, handoff.LaneOff, "chosen", 0, 0, ""},
		"off, an agent left some":  {ChooseOff, func(n *node) { n.pinned = true }, handoff.LaneOff, "chosen", 1, 0, ""},
		"observe":                  {Observe, nil, handoff.LaneObserve, "chosen", 0, 0, ""},
		"auto, others, some there": {Auto, func(n *node) { n.conflict, n.pinned = "Beyla", true }, handoff.LaneOff, "Beyla", 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, test.choice, test.change)
			n.want(handoff.LaneOff, "not decided")
			n.Decide(t.Context())
			n.want(test.mode, test.why)
			if n.opens != test.opens || n.tests != test.tests {
				t.Errorf("opened %d times, tested %d times; want %d, %d", n.opens, n.tests, test.opens, test.tests)
			}
			if p := n.Problem(); !strings.Contains(p, test.problem) || (p == "") != (test.problem == "") {
				t.Errorf("problem %q, want %q", p, test.problem)
			}
			if strings.HasSuffix(name, "not loaded") { // it is tried again
				return
			}
			n.Decide(t.Context())
			if n.opens != test.opens || n.tests != test.tests {
				t.Errorf("at the second time: opened %d times, tested %d times", n.opens, n.tests)
			}
		})
	}
}

// eventually waits for what Run does.
func (n *node) eventually(what string, is func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatal(what)
		}
	}
}

func (n *node) on(cookies ...uint64) func() bool {
	return func() bool {
		n.programs.mu.Lock()
		defer n.programs.mu.Unlock()
		return slices.Equal(slices.Sorted(maps.Keys(n.programs.on)), cookies)
	}
}

// TestRun: enrolled workloads have lanes but those that want none, and only while the mode
// is on; a mode that is chosen meanwhile, and a conflict that comes and goes, are heard of.
func TestRun(t *testing.T) {
	n := newNode(t, Auto, nil)
	n.set(workload(1, ""), workload(2, Off), workload(3, "yes"))
	n.programs.on[77] = true // of a pod that left while no agent ran
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(done); n.Run(ctx, 5*time.Millisecond) }()
	defer func() { cancel(); <-done }()
	n.eventually("it is decided", func() bool { return n.Status().Mode == "on" })
	n.want(handoff.LaneOn, "")
	n.eventually("two have lanes", n.on(1, 3))
	if s := n.Status(); s.Workloads != 2 || s.Excluded != 1 || s.Outcomes["laned"] != 7 {
		t.Errorf("status %+v", s)
	}
	for cookie, want := range map[uint64]string{1: "", 2: "dubway.io/lane is off"} {
		annotation := ""
		if cookie == 2 {
			annotation = Off
		}
		if err := n.MarkLane(workload(cookie, annotation), 0); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mark for %d: %v", cookie, err)
		}
	}
	n.set(workload(2, ""), workload(3, Off), workload(4, ""))
	n.eventually("others have lanes", n.on(2, 4))
	n.Choose(ChooseOff)
	n.eventually("nobody has", n.on())
	if err := n.MarkLane(workload(1, ""), 0); err == nil || !strings.Contains(err.Error(), "lanes are off") {
		t.Errorf("marked while off: %v", err)
	}
	n.programs.mu.Lock()
	n.programs.fail = errors.New("full")
	n.programs.mu.Unlock()
	n.Choose(On)
	n.eventually("it is on", func() bool { return n.Status().Mode == "on" })
	n.programs.mu.Lock()
	n.programs.fail = nil
	n.programs.mu.Unlock()
	n.eventually("what failed is tried again", n.on(2, 4))
	if n.opens != 1 || n.programs.marked != 1 {
		t.Errorf("opened %d times, marked %d", n.opens, n.programs.marked)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []Choice{Auto, On, Observe, ChooseOff} {
		if got, err := Parse(string(c)); got != c || err != nil {
			t.Errorf("%s: %s, %v", c, got, err)
		}
	}
	for _, bad := range []string{"", "ON", "yes"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
