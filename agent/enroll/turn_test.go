package enroll

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/netns/netnstest"
)

// TestHandOver: a second agent enrols what the first one has, with the same listeners and
// at once, while the first one is frozen and still holds them. Nothing is unsteered.
func TestHandOver(t *testing.T) {
	w := newWorld(t)
	a, b := w.pod("a", netnstest.New(t), 1), w.pod("b", netnstest.New(t), 2)
	w.apply(a, b)
	old := w.e
	defer old.Close()
	old.Freeze()
	w.e = nil
	w.restart(30 * time.Second)
	w.e.Offer(old.Listeners())
	w.apply(a, b)
	w.enrolled("shop/a", "shop/b")
	if slices.Contains(w.kernel.log, "delete") {
		t.Errorf("it was unsteered meanwhile: %v", w.kernel.log)
	}

	// The frozen one makes sockets for those that stay, and writes nothing of those that
	// come and go.
	before := len(w.kernel.log)
	leaving := old.Workload("shop/b")
	old.Apply(set(a, w.pod("c", netnstest.New(t), 3)))
	old.Check()
	old.Adopt(nil)
	if now := w.kernel.log; len(now) != before {
		t.Errorf("a frozen agent wrote %v", now[before:])
	}
	if old.Workload("shop/a") == nil || old.Workload("shop/b") != nil || old.Workload("shop/c") != nil {
		t.Error("it knows others than the one that stays")
	}
	if _, err := leaving.Listeners[0].Socket.Duplicate(); err == nil {
		t.Error("it keeps the listeners of a pod that left")
	}
	w.enrolled("shop/a", "shop/b")
}

// TestWithdraw: everybody leaves the datapath, those of an earlier agent too; sockets for
// the connections that live are made all the same; and after Deafen nobody listens.
func TestWithdraw(t *testing.T) {
	w := newWorld(t)
	ns := netnstest.New(t)
	w.apply(w.pod("a", ns, 1))
	w.e.inherited[99] = true
	w.kernel.workloads[99] = datapath.Workload{Cookie: 99}
	w.must(w.e.Withdraw())
	if len(w.kernel.workloads) != 0 {
		t.Errorf("still in the datapath: %v", w.kernel.workloads)
	}
	w.refused("shop/a", ClassWithdrawn, "dubway.io/leave")
	if w.e.Workload("shop/a") == nil {
		t.Error("nobody can dial for it any more")
	}
	w.apply(w.pod("a", ns, 1), w.pod("b", netnstest.New(t), 2))
	if len(w.kernel.workloads) != 0 {
		t.Errorf("enrolled anew: %v", w.kernel.workloads)
	}
	w.e.Deafen()
	ns.Must(func() error {
		if c, err := net.Dial("tcp", "127.0.0.1:15001"); err == nil {
			c.Close()
			return errors.New("somebody listens after Deafen")
		}
		return nil
	})
	w.restart(time.Second) // the order was taken back
	w.apply(w.pod("a", ns, 1))
	w.enrolled("shop/a")
}
