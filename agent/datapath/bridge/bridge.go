// Package bridge clears away what connects have left that nobody accepted: bridges are there
// from a connect to its accept, and where there is no accept, for as long as there is room.
package bridge

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/bpf"
)

// Forget removes the bridges of a workload's network namespace. Others come and go meanwhile.
func Forget(m *ebpf.Map, cookie uint64) error {
	var key bpf.SteerBridgeKey
	var flow bpf.SteerFlow
	var gone []bpf.SteerBridgeKey
	entries := m.Iterate()
	for entries.Next(&key, &flow) {
		if key.Netns == cookie {
			gone = append(gone, key)
		}
	}
	var err error
	for i := range gone {
		if deleted := m.Delete(&gone[i]); deleted != nil && !errors.Is(deleted, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, fmt.Errorf("delete bridge: %w", deleted))
		}
	}
	if walked := entries.Err(); walked != nil && !errors.Is(walked, ebpf.ErrIterationAborted) {
		err = errors.Join(err, fmt.Errorf("list bridges: %w", walked))
	}
	return err
}
