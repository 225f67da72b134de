package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/bridge"
	"github.com/dubway/dubway/agent/datapath/pins"
	"github.com/dubway/dubway/agent/datapath/unknown"
	"github.com/dubway/dubway/bpf"
)

// Workload is what the datapath must know of an enrolled network namespace.
type Workload struct {
	Cookie    uint64       // of NetnsCookie
	Slot      uint32       // of the table that says what is steered; 0 unless Publish filled another one
	Addresses []netip.Addr // the pod's own; the first of each family is what getsockname shows
	Ports     []uint16     // whose new connections go to the inbound listener
	// Netns is an open file of the network namespace (/proc/PID/ns/net or a
	// mount of it); only used during SetWorkload, and only if there are Ports.
	Netns syscall.Conn
	// Listeners are listening TCP sockets of that namespace. What is steered
	// follows from them: a family's connects only with its 127.0.0.1:15001 or
	// [::1]:15001, inbound ports only with :15006 of the address's family.
	// SetWorkload borrows them; a listener leaves the datapath when the last
	// duplicate of it is closed. Then connects and enrolled ports are refused.
	Listeners []syscall.Conn
}

// SetWorkload enrols a network namespace, or changes an enrolled one. Inbound
// comes first, steering last; on an error a new workload is taken out again,
// and nothing of it is in force.
func (d *Datapath) SetWorkload(w Workload) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.maps.Workloads.Lookup(w.Cookie, &bpf.SteerWorkload{}) == nil
	err := d.setWorkload(w)
	if err != nil && !known {
		err = errors.Join(err, d.deleteWorkload(w.Cookie))
	}
	if err != nil {
		return fmt.Errorf("set workload %d: %w", w.Cookie, err)
	}
	return nil
}

func (d *Datapath) setWorkload(w Workload) error {
	entry := bpf.SteerWorkload{Netns: w.Cookie, Table: w.Slot}
	inbound := map[int]bool{} // by family
	for _, l := range w.Listeners {
		found, err := inspectListener(l)
		if err != nil {
			return err
		}
		switch {
		case found.port == InboundPort:
			if err := d.setListener(w.Cookie, found.family, l); err != nil {
				return err
			}
			inbound[found.family] = true
		case found.port == OutboundPort && found.family == unix.AF_INET:
			entry.Flags |= bpf.SteerWorkloadFlagSteerV4
		case found.port == OutboundPort:
			entry.Flags |= bpf.SteerWorkloadFlagSteerV6
		default:
			return fmt.Errorf("use listener on port %d: want %d or %d", found.port, OutboundPort, InboundPort)
		}
	}
	for _, addr := range slices.Backward(w.Addresses) {
		addr = addr.Unmap()
		if len(w.Ports) > 0 && !inbound[familyOf(addr)] {
			return fmt.Errorf("take ports of %s: no listener on port %d of its family", addr, InboundPort)
		}
		if addr.Is4() {
			entry.Addr4 = words(addr)
		} else {
			entry.Addr6 = words(addr)
		}
	}
	if err := d.setPorts(w); err != nil {
		return err
	}
	if err := d.setLookup(w); err != nil {
		return err
	}
	if err := d.maps.Workloads.Put(w.Cookie, &entry); err != nil {
		return fmt.Errorf("add to workloads: %w", fullness(err, d.maps.Workloads))
	}
	return nil
}

func (d *Datapath) setListener(cookie uint64, family int, l syscall.Conn) error {
	key := bpf.SteerListenerKey{Netns: cookie, Family: uint32(family)}
	err := control(l, func(fd int) error { return d.maps.Listeners.Put(&key, uint64(fd)) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("add inbound listener: %w (an MPTCP listener? the kernel takes plain TCP only)", err)
	}
	if err != nil {
		return fmt.Errorf("add inbound listener: %w", fullness(err, d.maps.Listeners))
	}
	return nil
}

// setPorts makes the workload's entries of inbound_ports those of w. Port 0 marks
// its own addresses.
func (d *Datapath) setPorts(w Workload) error {
	stale, err := d.portsOf(w.Cookie)
	if err != nil {
		return err
	}
	for _, addr := range w.Addresses {
		for _, port := range append([]uint16{0}, w.Ports...) {
			key := bpf.SteerInboundKey{Netns: w.Cookie, Addr: words(addr), Port: swap16(port)}
			if err := d.maps.InboundPorts.Put(&key, uint32(0)); err != nil {
				return fmt.Errorf("add inbound port %s: %w", netip.AddrPortFrom(addr, port), fullness(err, d.maps.InboundPorts))
			}
			delete(stale, key)
		}
	}
	return d.deletePorts(stale)
}

func (d *Datapath) portsOf(cookie uint64) (map[bpf.SteerInboundKey]bool, error) {
	found := map[bpf.SteerInboundKey]bool{}
	var key bpf.SteerInboundKey
	var value uint32
	entries := d.maps.InboundPorts.Iterate()
	for entries.Next(&key, &value) {
		if key.Netns == cookie {
			found[key] = true
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list inbound ports: %w", err)
	}
	return found, nil
}

func (d *Datapath) deletePorts(keys map[bpf.SteerInboundKey]bool) error {
	for key := range keys {
		if err := d.maps.InboundPorts.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete inbound port %d: %w", swap16(key.Port), err)
		}
	}
	return nil
}

// DeleteWorkload undoes SetWorkload, steering first. Live connections go on. An
// unknown cookie is not an error.
func (d *Datapath) DeleteWorkload(cookie uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deleteWorkload(cookie); err != nil {
		return fmt.Errorf("delete workload %d: %w", cookie, err)
	}
	return nil
}

func (d *Datapath) deleteWorkload(cookie uint64) error {
	if err := d.maps.Workloads.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from workloads: %w", err)
	}
	if err := pins.RemoveLink(d.pins.LookupFile(cookie)); err != nil {
		return err
	}
	ports, err := d.portsOf(cookie)
	err = errors.Join(err, d.deletePorts(ports), unknown.Forget(d.maps.Unknowns, cookie), bridge.Forget(d.maps.Bridges, cookie))
	if err != nil {
		return err
	}
	for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
		err := d.maps.Listeners.Delete(&bpf.SteerListenerKey{Netns: cookie, Family: family})
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("delete inbound listener: %w", err)
		}
	}
	return nil
}

// Workloads returns the cookies of what is enrolled, also by an earlier agent.
func (d *Datapath) Workloads() ([]uint64, error) {
	var cookies []uint64
	var cookie uint64
	var entry bpf.SteerWorkload
	entries := d.maps.Workloads.Iterate()
	for entries.Next(&cookie, &entry) {
		cookies = append(cookies, cookie)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list workloads: %w", err)
	}
	return cookies, nil
}

// words is an address as the maps hold it: 16 bytes, IPv4 in its mapped form.
func words(addr netip.Addr) [4]uint32 {
	var w [4]uint32
	raw := addr.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(raw[4*i:])
	}
	return w
}

// swap16 turns a port into network byte order and back. The objects are
// little-endian only.
func swap16(port uint16) uint16 { return bits.ReverseBytes16(port) }

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
