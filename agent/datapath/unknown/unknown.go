// Package unknown reads what the programs wrote down of connects to addresses that
// are in no entry of their workload's table, where the table counts or refuses
// those. It decides nothing.
package unknown

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/walk"
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
	err := walk.Each(m, func(key *bpf.SteerUnknownKey, value *bpf.SteerUnknown) {
		all = append(all, Destination{
			Cookie: key.Netns, To: endpoint(&key.To),
			Passed: value.Passed, Refused: value.Refused, Last: booted.Add(time.Duration(value.Last)),
		})
	})
	if err != nil {
		err = fmt.Errorf("list unknown destinations: %w", err)
	}
	return all, err
}

// Forget removes what m holds of a workload.
func Forget(m *ebpf.Map, cookie uint64) error {
	err := walk.Delete[bpf.SteerUnknownKey, bpf.SteerUnknown](m, func(key *bpf.SteerUnknownKey) bool { return key.Netns == cookie })
	if err != nil {
		return fmt.Errorf("forget unknown destinations: %w", err)
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
