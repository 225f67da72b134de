package sandbox

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/roster"
)

// stage is all that a Keeper asks.
type stage struct {
	entry   kube.Entry
	lost    error // of Find
	away    error // of Synced
	added   []roster.Sandbox
	removed []string

	mu      sync.Mutex
	state   enroll.Status
	known   bool
	in      *netns.Namespace // where the pod is enrolled, if not in its last sandbox
	changed chan struct{}
}

var (
	_ API      = (*stage)(nil)
	_ Roster   = (*stage)(nil)
	_ Enroller = (*stage)(nil)
)

func (s *stage) Synced() error { return s.away }

func (s *stage) Untouched(namespace string) bool { return namespace == "kube-system" }

func (s *stage) Find(context.Context, kube.Ref) (kube.Entry, error) { return s.entry, s.lost }

func (s *stage) Add(_ context.Context, _ *kube.Entry, one roster.Sandbox) error {
	s.added = append(s.added, one)
	return nil
}

func (s *stage) Remove(_ context.Context, id string) error {
	s.removed = append(s.removed, id)
	return nil
}

func (s *stage) Keep(_ context.Context, ids []string) error {
	s.removed = append(s.removed, ids...)
	return nil
}

func (s *stage) Holds(context.Context, string) (string, error) { return "", nil }

func (s *stage) State(string) (enroll.Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.known
}

func (s *stage) Workload(string) *enroll.Workload {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &enroll.Workload{Pod: s.state.Pod, Netns: s.in}
	if s.in == nil && len(s.added) > 0 {
		w.Netns = s.added[len(s.added)-1].Netns
	}
	return w
}

func (s *stage) Workloads() ([]*enroll.Workload, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil, s.changed
}

// becomes is the enroller's word on the pod.
func (s *stage) becomes(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.state = true, enroll.Status{Pod: &s.entry.Pod, Enrolled: err == nil}
	if r, ok := errors.AsType[*enroll.Refusal](err); ok {
		s.state.Class, s.state.Reason = r.Class, r.Error()
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func newStage() (*stage, *Keeper) {
	s := &stage{changed: make(chan struct{}), entry: kube.Entry{Wanted: true, Pod: pods.Pod{UID: "u", Name: "a", Namespace: "shop"}}}
	return s, &Keeper{API: s, Roster: s, Enroller: s}
}

// sandbox is one with an open namespace, as the plugin gives it.
func sandbox(t *testing.T, namespace string) cniserver.Sandbox {
	t.Helper()
	file, err := os.Open(netnstest.New(t).Path)
	if err != nil {
		t.Fatal(err)
	}
	return cniserver.Sandbox{ContainerID: "c", UID: "u", Namespace: namespace, Name: "a", Netns: file}
}

// closed tells whether a descriptor was closed, as each must be.
func closed(f *os.File) bool { return errors.Is(f.Close(), os.ErrClosed) }

func TestAdd(t *testing.T) {
	refused := func(class enroll.Class) error { return &enroll.Refusal{Class: class, Err: errors.New("because")} }
	for name, c := range map[string]struct {
		set   func(*stage)
		in    string // namespace
		added int
		want  string // in the error; "" for none
	}{
		"enrolled":         {func(s *stage) { s.becomes(nil) }, "shop", 1, ""},
		"not wanted":       {func(s *stage) { s.entry.Wanted = false }, "shop", 0, ""},
		"excluded":         {func(s *stage) { s.entry.Pod.Excluded = "sidecar" }, "shop", 0, ""},
		"untouched":        {func(s *stage) { s.away, s.lost = errors.New("away"), errors.New("lost") }, "kube-system", 0, ""},
		"nothing is known": {func(s *stage) { s.away = errors.New("away") }, "shop", 0, "away"},
		"unknown pod":      {func(s *stage) { s.lost = errors.New("no such pod") }, "shop", 0, "no such pod"},
		"port taken":       {func(s *stage) { s.becomes(refused(enroll.ClassListener)) }, "shop", 1, "because"},
		"no data path":     {func(s *stage) { s.becomes(refused(enroll.ClassUnreached)) }, "shop", 1, "because"},
		"the mesh leaves":  {func(s *stage) { s.becomes(refused(enroll.ClassWithdrawn)) }, "shop", 1, ""},
		"never tried":      {func(*stage) {}, "shop", 1, "does not know of it"},
	} {
		t.Run(name, func(t *testing.T) {
			s, k := newStage()
			c.set(s)
			one := sandbox(t, c.in)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := k.Add(ctx, one)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if len(s.added) != c.added {
				t.Errorf("%d sandboxes are kept", len(s.added))
			}
			for _, a := range s.added {
				if a.ID != "c" || a.Netns.Close() != nil {
					t.Errorf("kept: %+v", a)
				}
			}
			if !closed(one.Netns) {
				t.Error("the descriptor stays open")
			}
		})
	}
}

// TestAddWaits: what passes by itself is waited for.
func TestAddWaits(t *testing.T) {
	s, k := newStage()
	s.becomes(&enroll.Refusal{Class: enroll.ClassNotEffective, Err: errors.New("another program")})
	done := make(chan error, 1)
	go func() { done <- k.Add(t.Context(), sandbox(t, "shop")) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	before, err := netns.Open(netnstest.New(t).Path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Close() }()
	s.mu.Lock()
	s.in = before
	s.mu.Unlock()
	s.becomes(nil)
	select {
	case err := <-done:
		t.Fatalf("it did not wait for its own sandbox: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.mu.Lock()
	s.in = nil
	s.mu.Unlock()
	s.becomes(nil)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCheckAndDelete(t *testing.T) {
	s, k := newStage()
	one := sandbox(t, "shop")
	s.becomes(&enroll.Refusal{Class: enroll.ClassBroken, Err: errors.New("its listener is gone")})
	if err := k.Check(t.Context(), one); err == nil || !strings.Contains(err.Error(), "its listener is gone") {
		t.Errorf("a broken pod: %v", err)
	}
	if !closed(one.Netns) {
		t.Error("the descriptor stays open")
	}
	s.becomes(nil)
	if err := k.Check(t.Context(), cniserver.Sandbox{ContainerID: "c", Namespace: "shop"}); err != nil {
		t.Errorf("an enrolled pod: %v", err)
	}
	s.entry.Wanted = false
	s.becomes(&enroll.Refusal{Class: enroll.ClassBroken, Err: errors.New("x")})
	if err := k.Check(t.Context(), cniserver.Sandbox{ContainerID: "c", Namespace: "shop"}); err != nil {
		t.Errorf("an unwanted pod: %v", err)
	}
	if err := errors.Join(k.Delete(t.Context(), cniserver.Sandbox{ContainerID: "c"}), k.Keep(t.Context(), []string{"d"})); err != nil || strings.Join(s.removed, " ") != "c d" {
		t.Errorf("%v, removed %v", err, s.removed)
	}
	s.away = errors.New("away")
	if err := k.Delete(t.Context(), cniserver.Sandbox{ContainerID: "e"}); err != nil || len(s.removed) != 2 {
		t.Errorf("deleting must not fail: %v", err)
	}
	if k.Ready() == nil {
		t.Error("ready, although nothing is known")
	}
}
