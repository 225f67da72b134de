package datapath

import (
	"testing"

	"github.com/dubway/dubway/bpf"
)

// TestBridgesLeaveWithTheirWorkload: what a connect has left that nobody accepted.
func TestBridgesLeaveWithTheirWorkload(t *testing.T) {
	d := newRig(t).open()
	for _, netns := range []uint64{1, 2} {
		for port := range uint16(40) {
			key := bpf.SteerBridgeKey{Netns: netns, Local: bpf.SteerEndpoint{Port: port + 1}}
			must(t, d.maps.Bridges.Put(&key, &bpf.SteerFlow{}))
		}
	}
	must(t, d.DeleteWorkload(1))
	left := map[uint64]int{}
	var key bpf.SteerBridgeKey
	var flow bpf.SteerFlow
	entries := d.maps.Bridges.Iterate()
	for entries.Next(&key, &flow) {
		left[key.Netns]++
	}
	must(t, entries.Err())
	if len(left) != 1 || left[2] != 40 {
		t.Errorf("bridges by workload: %v, want 40 of the other's", left)
	}
}
