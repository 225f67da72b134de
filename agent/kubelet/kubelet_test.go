package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/datapath/probes"
	"github.com/dubway/dubway/internal/admin"
)

// book is notes that remember.
type book struct {
	at     string // "" for nowhere
	fails  error
	closed bool
}

var _ notes = (*book)(nil)

func (b *book) Attach(cgroup string) error {
	if b.fails == nil {
		b.at = cgroup
	}
	return b.fails
}

func (b *book) Detach() error { b.at = ""; return nil }

func (b *book) Program() (probes.Program, bool) {
	return probes.Program{Name: "note_sockops", ID: 7, Tag: "t"}, b.at != ""
}

func (b *book) Close() error { b.closed = true; return nil }

// follow makes a Follower over notes that remember.
func follow(t *testing.T, cgroup string) (*Follower, *book) {
	t.Helper()
	b := &book{}
	f := New(Options{Cgroup: cgroup, Attached: t.TempDir(), Pods: func() []string { return nil }, Log: slog.New(slog.DiscardHandler)})
	f.finder = newProcs(t).finder()
	f.open = func() (notes, error) { return b, nil }
	return f, b
}

// report is what the agent's status says.
func report(f *Follower) admin.AgentStatus {
	var s admin.AgentStatus
	f.Report(&s)
	return s
}

// TestOff: nothing is attached, what an earlier agent attached is not any more, and
// nothing is said.
func TestOff(t *testing.T) {
	f, b := follow(t, Off)
	b.at = "somewhere"
	f.Run(t.Context()) // returns
	if s := report(f); b.at != "" || !b.closed || s.Kubelet != nil || len(s.Problems)+len(s.Programs) != 0 {
		t.Errorf("attached to %q, closed %t, status %+v", b.at, b.closed, s)
	}
}

// TestNamed: a directory that is named is attached to, if it is kubelet's alone.
func TestNamed(t *testing.T) {
	root, err := host.FindCgroupRoot()
	if err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and cgroup2: %v", err)
	}
	dir := filepath.Join(root, fmt.Sprintf("dubway-kubelet-named-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	f, b := follow(t, dir)
	if s := report(f); s.Kubelet == nil || s.Kubelet.Passes || s.Kubelet.Reason == "" {
		t.Errorf("before it was looked for: %+v", s.Kubelet)
	}
	f.look()
	s := report(f)
	if b.at != dir || !s.Kubelet.Passes || s.Kubelet.Cgroup != dir || s.Kubelet.Reason != "" || len(s.Problems) != 0 ||
		len(s.Programs) != 1 || s.Programs[0].Attached != "cgroup "+dir {
		t.Errorf("attached to %q, status %+v %+v", b.at, s, s.Kubelet)
	}
	b.fails = errors.New("the kernel says no")
	f.look()
	if s := report(f); s.Kubelet.Passes || !strings.Contains(strings.Join(s.Problems, "\n"), "the kernel says no") || len(s.Programs) != 0 {
		t.Errorf("with an error: %+v %+v", s, s.Kubelet)
	}

	f, b = follow(t, root)
	b.at = "where an earlier agent put it"
	f.look()
	if s := report(f); b.at != "" || s.Kubelet.Passes || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "every process of the node") {
		t.Errorf("at the root: attached to %q, status %+v", b.at, s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Run(ctx)
	if !b.closed {
		t.Error("the end of Run lets nothing go")
	}
}

// TestNobody: that there is no kubelet is told, and is no problem; that the kernel refuses
// the program is one.
func TestNobody(t *testing.T) {
	f, b := follow(t, "")
	b.at = "a kubelet that is gone"
	f.look()
	if s := report(f); b.at != "" || s.Kubelet.Passes || !strings.Contains(s.Kubelet.Reason, "no kubelet was found") || len(s.Problems) != 0 {
		t.Errorf("attached to %q, status %+v %+v", b.at, s, s.Kubelet)
	}
	f.open = func() (notes, error) { return nil, errors.New("refused") }
	f.notes = nil
	f.look()
	if s := report(f); s.Kubelet.Passes || !strings.Contains(s.Kubelet.Reason, "refused") {
		t.Errorf("a program that is refused: %+v", s.Kubelet)
	}
}
