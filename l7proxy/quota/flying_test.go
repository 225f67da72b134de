package quota

import (
	"net/netip"
	"testing"
)

// TestFlying: what is in flight is counted for the workload and for each of its clients,
// who has a part of it.
func TestFlying(t *testing.T) {
	n := NewNode(1, 1, 1)
	n.Fly(40)
	w := n.Workload()
	greedy, modest := w.Client(netip.MustParseAddr("10.0.0.1")), w.Client(netip.MustParseAddr("10.0.0.2"))
	greedy.Begin(9)
	if greedy.Crowded() {
		t.Error("crowded at 9 of 10")
	}
	greedy.Begin(1)
	if !greedy.Crowded() || modest.Crowded() || w.Crowded() {
		t.Error("one client has its part: another has it too")
	}
	w.Begin(30)
	if !modest.Crowded() || !w.Crowded() {
		t.Error("the workload has 40")
	}
	greedy.End(10)
	if greedy.Crowded() || modest.Crowded() {
		t.Error("10 have ended")
	}
	var none *Workload
	if none.Begin(1); none.Crowded() || NewNode(1, 1, 1).Workload().Crowded() {
		t.Error("crowded without a bound")
	}
}
