package netns

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Unicast asks the routes of the calling thread's network namespace whether an
// address leads to somebody else by unicast: not to the namespace itself, by
// whatever address or local range, and to no broadcast or multicast group. It is
// meant for the prepare function of Dial.
func Unicast(to netip.Addr) (bool, error) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	if err != nil {
		return false, fmt.Errorf("find route to %s: %w", to, err)
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			return false, nil
		}
	}
	return len(routes) > 0, nil
}
