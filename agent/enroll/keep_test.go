package enroll

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dubway/dubway/agent/netns/netnstest"
)

// TestKeepsWhatIsTheSame: a pod of which more is known by now (another path of the same
// namespace, its own cgroup in place of one above) is steered all the time by the same
// sockets; one whose namespace is another is not.
func TestKeepsWhatIsTheSame(t *testing.T) {
	w := newWorld(t)
	ns := netnstest.New(t)
	early := w.pod("a", ns, 1)
	early.Cgroup = w.cgroup
	w.apply(early)
	w.enrolled("shop/a")
	before := w.e.Workload("shop/a")

	later := *early
	later.Netns, later.Cgroup = ns.Link(), filepath.Join(w.cgroup, "pod")
	w.apply(&later)
	w.enrolled("shop/a")
	after := w.e.Workload("shop/a")
	if after == before || after.Pod != &later || after.Cookie != before.Cookie || after.Listeners[0].Socket != before.Listeners[0].Socket {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if slices.Contains(w.kernel.log, "delete") {
		t.Errorf("steering was interrupted: %v", w.kernel.log)
	}
	w.e.Check()
	w.enrolled("shop/a")

	// A cgroup in which another program goes first is told, and the sockets stay.
	w.kernel.ineffective = errors.New("another program is first")
	w.apply(early)
	w.refused("shop/a", ClassNotEffective, "another program")
	if w.e.Workload("shop/a") == nil || slices.Contains(w.kernel.log, "delete") {
		t.Errorf("live connections lost their workload: %v", w.kernel.log)
	}
	w.kernel.ineffective = nil
	w.apply(&later)
	w.enrolled("shop/a")

	moved := later
	moved.Netns = netnstest.New(t).Path
	w.apply(&moved)
	w.enrolled("shop/a")
	if w.e.Workload("shop/a").Cookie == before.Cookie || !slices.Contains(w.kernel.log, "delete") {
		t.Errorf("the pod is still enrolled in its old namespace: %v", w.kernel.log)
	}
}

// TestMissing: a pod whose namespace cannot be found says so.
func TestMissing(t *testing.T) {
	w := newWorld(t)
	pod := w.pod("a", netnstest.New(t), 1)
	pod.Netns, pod.Missing = "", "none of its processes runs on this node"
	w.apply(pod)
	w.refused("shop/a", ClassNetns, "none of its processes")
	if s, known := w.e.State("shop/a"); !known || s.Enrolled || s.Class != ClassNetns || s.Reason == "" {
		t.Errorf("state: %+v, %t", s, known)
	}
	if _, known := w.e.State("shop/b"); known {
		t.Error("a pod that nobody told of has a state")
	}
}
