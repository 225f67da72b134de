// Package device switches the devices of a test's network namespace on.
package device

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Up gives a device of the calling thread's network namespace its addresses, each with the
// length of its network, switches it on, and waits until its addresses can be used. Duplicate
// address detection would hold an IPv6 address back for a second.
func Up(name string, addresses ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	for _, address := range addresses {
		ip := address.Addr()
		a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(address.Bits(), ip.BitLen())}}
		if ip.Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", address, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	for _, address := range addresses {
		if err := routed(address.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// routed waits until the kernel has the route of an address of its own: it adds those of IPv6
// a moment later. Until then who connects asks the neighbours for it.
func routed(a netip.Addr) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for the route of %s: %v, %w", a, routes, err)
		}
	}
}
