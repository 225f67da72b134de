// Package bridge clears away what connects have left that nobody accepted: bridges are there
// from a connect to its accept, and where there is no accept, for as long as there is room.
package bridge

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/agent/datapath/walk"
	"github.com/dubway/dubway/bpf"
)

// Forget removes the bridges of a workload's network namespace.
func Forget(m *ebpf.Map, cookie uint64) error {
	err := walk.Delete[bpf.SteerBridgeKey, bpf.SteerFlow](m, func(key *bpf.SteerBridgeKey) bool { return key.Netns == cookie })
	if err != nil {
		return fmt.Errorf("forget bridges: %w", err)
	}
	return nil
}
