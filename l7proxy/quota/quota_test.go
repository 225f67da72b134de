package quota

import (
	"math"
	"net/netip"
	"sync"
	"testing"
)

// connects takes descriptors until there is none and returns how many it got.
func connects(w *Workload) (n int) {
	for w.Connect() {
		n++
	}
	return n
}

func TestDescriptors(t *testing.T) {
	n := NewNode(16_000, 100_000, 0)
	greedy, second, third := n.Workload(), n.Workload(), n.Workload()
	if got := connects(greedy); got != 15_000 {
		t.Errorf("a workload alone gets %d, want 15000", got)
	}
	if got := connects(second); got != 938 {
		t.Errorf("the second gets %d, want 938", got)
	}
	if got := connects(third); got != 59 {
		t.Errorf("the third gets %d, want 59", got)
	}
	for range 15_000 {
		greedy.Disconnect()
	}
	if got := connects(third); got < 14_000-59 {
		t.Errorf("after the greedy one has gone, the third gets %d more", got)
	}
	if got := connects(NewNode(math.MaxInt64, 3, 0).Workload()); got != 3 {
		t.Errorf("a workload with a number of its own gets %d, want 3", got)
	}
}

func TestBytes(t *testing.T) {
	w := NewNode(1, 1, 100).Workload()
	for _, step := range []struct {
		what string
		ok   bool
		want bool
	}{
		{"half may be remembered", w.Remember(50), true},
		{"not more", w.Remember(1), false},
		{"the rest may be held", w.Hold(50), true},
		{"not more than all", w.Hold(1), false},
	} {
		if step.ok != step.want {
			t.Errorf("%s: %v", step.what, step.ok)
		}
	}
	w.Free(100)
	if !w.Hold(100) {
		t.Error("what was freed cannot be held")
	}
}

// TestClients: one client of a workload leaves three quarters to the others, and
// nothing of it stays.
func TestClients(t *testing.T) {
	n := NewNode(1000, 400, 1000)
	w := n.Workload()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	greedy, other := w.Client(a), w.Client(b)
	if w.Client(a) != greedy || greedy == other {
		t.Error("a client's part is its address's")
	}
	if got := connects(greedy); got != 100 {
		t.Errorf("a client gets %d descriptors, want 100", got)
	}
	if !greedy.Remember(125) || greedy.Remember(1) || !greedy.Hold(125) || greedy.Hold(1) || !other.Hold(250) {
		t.Error("a client may have a quarter of the bytes, and remember an eighth")
	}
	if !w.Hold(500) || w.Hold(1) || other.Hold(1) {
		t.Error("what clients have is the workload's")
	}
	for range 100 {
		greedy.Disconnect()
	}
	greedy.Free(250)
	other.Free(250)
	w.Free(500)
	for range 2 {
		w.Leave(a)
	}
	w.Leave(b)
	if d, b, u, c := w.descriptors.Load(), w.bytes.Load(), n.used.Load(), len(w.clients); d != 0 || b != 0 || u != 0 || c != 0 {
		t.Errorf("%d descriptors of %d, %d bytes and %d clients are left", d, u, b, c)
	}
}

// TestConcurrent: whatever the order, what is taken and given back leaves nothing.
func TestConcurrent(t *testing.T) {
	n := NewNode(40, 30, 1000)
	w := n.Workload()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if w.Connect() {
					w.Disconnect()
				}
				if w.Hold(300) {
					w.Free(300)
				}
			}
		})
	}
	all.Wait()
	if d, b, u := w.descriptors.Load(), w.bytes.Load(), n.used.Load(); d != 0 || b != 0 || u != 0 {
		t.Errorf("%d descriptors of %d and %d bytes are left", d, u, b)
	}
}

func TestNoQuota(t *testing.T) {
	var w *Workload
	if w.Client(netip.Addr{}) != nil || !w.Connect() || !w.Hold(1<<40) || !w.Remember(1<<40) {
		t.Error("no quota is a limit")
	}
	w.Disconnect()
	w.Free(1)
	w.Leave(netip.Addr{})
}

// TestConnectTogether: no connection is refused where there is no bound.
func TestConnectTogether(t *testing.T) {
	w := NewNode(math.MaxInt64, math.MaxInt64, 0).Workload()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20_000 {
				if !w.Connect() {
					t.Error("a connection is refused")
					return
				}
				w.Disconnect()
			}
		})
	}
	all.Wait()
}
