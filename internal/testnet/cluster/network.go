package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/testnet/cluster/machine"
	"github.com/dubway/dubway/internal/testnet/device"
)

// Addresses of the cluster's parts.
const (
	apiAddress = "198.18.0.1"
	services   = "198.19.0.0/16,fd98:19::/112"
	bridge     = "br0"  // of the control plane's computer
	cable      = "eth0" // of a node
	podBridge  = "cni0" // of a node, made by the plugin
)

// addresses of a node, IPv4 first.
func (n *Node) addresses() []string {
	return []string{fmt.Sprint("198.18.0.", 10+n.number), fmt.Sprint("fd98:18::", 10+n.number)}
}

// podNetworks are the networks of a node's pods, IPv4 first.
func (n *Node) podNetworks() []string {
	return []string{fmt.Sprintf("198.18.%d.0/24", n.number), fmt.Sprintf("fd98:18:0:%d::/64", n.number)}
}

// makeBridge makes the network of all computers, on that of the control plane.
func makeBridge(control *machine.Machine) error {
	err := control.Do(func() error {
		if err := up("lo"); err != nil {
			return err
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			return err
		}
		return up(bridge, apiAddress+"/24", "fd98:18::1/64")
	})
	if err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	return nil
}

// plug joins a node that was booted to the bridge, with routes to all other nodes' pods and,
// since the kernel looks for a route before anything turns it into an endpoint, to Services.
// Everything else is unreachable, and says so.
func (n *Node) plug() error {
	space, err := os.Open(n.Netns())
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer space.Close()
	err = n.cluster.control.Do(func() error {
		to, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		// After a reboot the old one may still be about to go.
		if old, err := netlink.LinkByName(n.Name); err == nil {
			_ = netlink.LinkDel(old)
		}
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: n.Name, MasterIndex: to.Attrs().Index},
			PeerName:  cable, PeerNamespace: netlink.NsFd(int(space.Fd())),
			// As a card's, it is the same after a reboot: others remember it for half a minute.
			PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, byte(n.number)},
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return up(n.Name)
	})
	if err != nil {
		return fmt.Errorf("make cable: %w", err)
	}
	if err := n.Do(n.address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	for _, other := range n.cluster.others(n) {
		if err := other.Do(n.routes); err != nil {
			return fmt.Errorf("lead %s to its pods: %w", other.Name, err)
		}
	}
	return n.cluster.control.Do(n.routes)
}

// address gives the node its addresses, forwarding and routes. It runs in the node's network.
func (n *Node) address() error {
	for _, knob := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+knob, []byte("1"), 0o600); err != nil {
			return err
		}
	}
	if err := up("lo"); err != nil {
		return err
	}
	own := n.addresses()
	if err := up(cable, own[0]+"/24", own[1]+"/64"); err != nil {
		return err
	}
	for _, other := range n.cluster.others(n) {
		if err := other.routes(); err != nil {
			return err
		}
	}
	for _, to := range []string{"198.19.0.0/16 198.18.0.1", "fd98:19::/112 fd98:18::1"} {
		if err := route(to); err != nil {
			return err
		}
	}
	for _, everything := range []string{"0.0.0.0/0", "::/0"} {
		_, to, err := net.ParseCIDR(everything)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: to, Type: unix.RTN_UNREACHABLE, Priority: 9999}); err != nil {
			return fmt.Errorf("make the rest unreachable: %w", err)
		}
	}
	return nil
}

// routes leads to the node's pods, from the network that it runs in.
func (n *Node) routes() error {
	for i, network := range n.podNetworks() {
		if err := route(network + " " + n.addresses()[i]); err != nil {
			return err
		}
	}
	return nil
}

// route adds or replaces a route: "NETWORK GATEWAY".
func route(text string) error {
	var network, gateway string
	if _, err := fmt.Sscan(text, &network, &gateway); err != nil {
		return err
	}
	_, to, err := net.ParseCIDR(network)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(&netlink.Route{Dst: to, Gw: net.ParseIP(gateway)}); err != nil {
		return fmt.Errorf("add route to %s: %w", text, err)
	}
	return nil
}

// up switches a device of the calling thread's network on, with its addresses.
func up(name string, addresses ...string) error {
	all := make([]netip.Prefix, len(addresses))
	for i, text := range addresses {
		var err error
		if all[i], err = netip.ParsePrefix(text); err != nil {
			return fmt.Errorf("read address of %s: %w", name, err)
		}
	}
	return device.Up(name, all...)
}
