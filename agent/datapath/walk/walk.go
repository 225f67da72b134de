// Package walk goes over maps that the programs change meanwhile. What entries are it does not
// know.
package walk

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Each calls f with the entries of a map, with each key once: where an entry goes just then the
// kernel starts again, and after too many starts the walk ends.
func Each[K comparable, V any](m *ebpf.Map, f func(key *K, value *V)) error {
	var key K
	var value V
	seen := map[K]bool{}
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if !seen[key] {
			seen[key] = true
			f(&key, &value)
		}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("list entries: %w", err)
	}
	return nil
}

// Delete deletes the entries of a map whose keys are meant. Others come and go meanwhile.
func Delete[K comparable, V any](m *ebpf.Map, meant func(key *K) bool) error {
	var gone []K
	err := Each(m, func(key *K, _ *V) {
		if meant(key) {
			gone = append(gone, *key)
		}
	})
	for i := range gone {
		if deleted := m.Delete(&gone[i]); deleted != nil && !errors.Is(deleted, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, fmt.Errorf("delete entry: %w", deleted))
		}
	}
	return err
}
