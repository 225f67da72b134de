package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/handoff/lack"
)

// Destination is an address range and port whose connects are steered. Port 0
// means every port. Loopback is never steered, whatever the range says.
type Destination struct {
	Prefix netip.Prefix
	Port   uint16
	Lane   bool // requests to it may take a lane
}

// standing is what the programs are told of it.
func (d Destination) standing() bpf.SteerStanding {
	if d.Lane {
		return bpf.SteerStandingLaned
	}
	return bpf.SteerStandingKnown
}

// asked are the destinations that every table has, by which agent/reach asks whether the
// way works.
func asked() (all []Destination) {
	for _, to := range lack.Asked() {
		all = append(all, Destination{Prefix: netip.PrefixFrom(to.Addr(), to.Addr().BitLen()), Port: to.Port()})
	}
	return all
}

func destinationKey(to Destination) (bpf.SteerDestinationKey, error) {
	if !to.Prefix.IsValid() {
		return bpf.SteerDestinationKey{}, errors.New("invalid prefix")
	}
	addr, bits := to.Prefix.Masked().Addr(), to.Prefix.Bits()
	if to.Prefix.Addr().Is4In6() {
		if bits < 96 {
			return bpf.SteerDestinationKey{}, errors.New("a v4-mapped prefix must be within ::ffff:0:0/96")
		}
		addr, bits = addr.Unmap(), bits-96
	}
	if addr.IsLoopback() || addr.IsUnspecified() && bits == addr.BitLen() {
		return bpf.SteerDestinationKey{}, errors.New("loopback is never steered")
	}
	family := uint16(unix.AF_INET6)
	if addr.Is4() {
		family, bits = unix.AF_INET, bits+96
	}
	return bpf.SteerDestinationKey{
		Prefixlen: uint32(32 + bits), // after the port and the family
		Port:      swap16(to.Port),
		Family:    family,
		Addr:      words(addr),
	}, nil
}

// fullness names the map and its size where the kernel only says "too big".
func fullness(err error, m *ebpf.Map) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: %d entries", ErrMapFull, m.MaxEntries())
	}
	return err
}
