// Package unknown reads what the programs wrote down of connects to addresses that
// are in no entry of their workload's table, where the table counts or refuses
// those. It decides nothing.
package unknown

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
)

// Destination is such an address, and what became of the connects to it since its
// workload was enrolled.
type Destination struct {
	Cookie  uint64 // of the workload
	To      netip.AddrPort
	Passed  uint64 // would have been refused
	Refused uint64
	Last    time.Time
}

// List returns what m holds, in no order.
func List(m *ebpf.Map) ([]Destination, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	booted := time.Now().Add(-time.Duration(now.Nano()))
	var all []Destination
	err := each(m, func(key *bpf.SteerUnknownKey, value *bpf.SteerUnknown) {
		all = append(all, Destination{
			Cookie: key.Netns, To: endpoint(&key.To),
			Passed: value.Passed, Refused: value.Refused, Last: booted.Add(time.Duration(value.Last)),
		})
	})
	return all, err
}

// Forget removes what m holds of a workload.
func Forget(m *ebpf.Map, cookie uint64) error {
	var gone []bpf.SteerUnknownKey
	err := each(m, func(key *bpf.SteerUnknownKey, _ *bpf.SteerUnknown) {
		if key.Netns == cookie {
			gone = append(gone, *key)
		}
	})
	for i := range gone {
		if deleted := m.Delete(&gone[i]); deleted != nil && !errors.Is(deleted, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, fmt.Errorf("delete unknown destination: %w", deleted))
		}
	}
	return err
}

// each walks a map that the programs change meanwhile: where an entry goes just
// then the kernel starts again, and after too many starts the walk ends.
func each(m *ebpf.Map, f func(key *bpf.SteerUnknownKey, value *bpf.SteerUnknown)) error {
	var key bpf.SteerUnknownKey
	var value bpf.SteerUnknown
	seen := map[bpf.SteerUnknownKey]bool{}
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if !seen[key] {
			seen[key] = true
			f(&key, &value)
		}
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("list unknown destinations: %w", err)
	}
	return nil
}

// endpoint reads the form of the maps: 16 bytes, IPv4 mapped, and a port in
// network byte order.
func endpoint(e *bpf.SteerEndpoint) netip.AddrPort {
	var raw [16]byte
	for i, word := range e.Addr {
		binary.NativeEndian.PutUint32(raw[4*i:], word)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), bits.ReverseBytes16(e.Port))
}
