package enroll

import (
	"os"
	"testing"

	"github.com/dubway/dubway/agent/netns/netnstest"
)

// TestDeparted: sockets are made for a pod that left the mesh, until it is back, or has ended.
func TestDeparted(t *testing.T) {
	w := newWorld(t)
	ns := netnstest.New(t)
	pod := w.pod("a", ns, 1)
	pod.ServiceAccount = "cart"
	pod.Netns = ns.Link()
	w.apply(pod)
	w.enrolled("shop/a")
	listener := w.e.Workload("shop/a").Listeners[0]

	w.apply()
	left := w.e.Known("shop/a")
	if left == nil || w.e.Workload("shop/a") != nil || len(w.kernel.workloads) != 0 {
		t.Fatalf("known as %+v, enrolled as %+v, in the kernel %v", left, w.e.Workload("shop/a"), w.kernel.workloads)
	}
	if _, err := left.Netns.Socket(); err != nil {
		t.Error("no socket for it: ", err)
	}
	if _, err := listener.Socket.Duplicate(); err == nil {
		t.Error("the agent keeps its listeners")
	}
	if !w.e.Runs("shop", "cart") {
		t.Error("its account is said not to run")
	}

	w.apply(pod)
	w.enrolled("shop/a")
	if now := w.e.Known("shop/a"); now != w.e.Workload("shop/a") || len(w.e.departed) != 0 {
		t.Errorf("back, it is known as %+v", now)
	}
	if _, err := left.Netns.Socket(); err == nil {
		t.Error("what was known of it before is not closed")
	}

	w.apply()
	left = w.e.Known("shop/a")
	w.must(os.Remove(pod.Netns)) // as when its sandbox is removed
	w.apply()
	if w.e.Known("shop/a") != nil || w.e.Runs("shop", "cart") {
		t.Error("a pod that has ended is known")
	}
	if _, err := left.Netns.Socket(); err == nil {
		t.Error("the network namespace of a pod that has ended is kept")
	}
}
