package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
)

// Destination is an address range and port whose connects are steered. Port 0
// means every port. Loopback is never steered, whatever the range says.
type Destination struct {
	Prefix netip.Prefix
	Port   uint16
}

// Publish replaces the whole set of destinations in one step: every connect
// sees the old or the new generation, never a mixture. On an error the old one
// stays.
func (d *Datapath) Publish(generation uint64, destinations []Destination) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	table, err := d.newTable(destinations, generation)
	if err != nil {
		return fmt.Errorf("publish generation %d: %w", generation, err)
	}
	defer table.Close()
	if err := d.maps.Destinations.Put(uint32(0), table); err != nil {
		return fmt.Errorf("publish generation %d: %w", generation, err)
	}
	d.generation = generation
	return nil
}

// newTable makes the trie of a generation; nobody sees it yet.
func (d *Datapath) newTable(destinations []Destination, generation uint64) (*ebpf.Map, error) {
	table, err := ebpf.NewMap(d.spec.Maps[bpf.SteerMapDestinations].InnerMap)
	if err != nil {
		return nil, fmt.Errorf("make table: %w", err)
	}
	for _, to := range destinations {
		key, err := destinationKey(to)
		if err == nil {
			err = table.Put(&key, generation)
		}
		if err != nil {
			table.Close()
			return nil, fmt.Errorf("add destination %s port %d: %w", to.Prefix, to.Port, fullness(err, table))
		}
	}
	return table, nil
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

// pinnedGeneration reads the generation that an earlier agent published; 0 if
// it published none, or an empty one.
func (d *Datapath) pinnedGeneration() (uint64, error) {
	table, err := d.currentTable()
	if err != nil || table == nil {
		return 0, err
	}
	defer table.Close()
	var key bpf.SteerDestinationKey
	var generation uint64
	entries := table.Iterate()
	entries.Next(&key, &generation)
	return generation, entries.Err()
}

// currentTable opens the published trie; nil if there is none.
func (d *Datapath) currentTable() (*ebpf.Map, error) {
	var id ebpf.MapID
	err := d.maps.Destinations.Lookup(uint32(0), &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up destinations: %w", err)
	}
	table, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open destinations %d: %w", id, err)
	}
	return table, nil
}

// fullness names the map and its size where the kernel only says "too big".
func fullness(err error, m *ebpf.Map) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: %d entries", ErrMapFull, m.MaxEntries())
	}
	return err
}
