package testnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/dubway/dubway/internal/testnet/device"
)

// The prefix lengths of a node's pod networks.
const (
	bits4 = 24
	bits6 = 64
)

// makeBridge makes the node's own namespace with the bridge that stands in for
// a CNI: it owns host number 1, is every pod's default gateway and routes.
func (n *Node) makeBridge() error {
	path, err := makeNetns(n.name)
	if err != nil {
		return err
	}
	return inNetns(path, func() error {
		for _, knob := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+knob, []byte("1"), 0o600); err != nil {
				return fmt.Errorf("switch forwarding on: %w", err)
			}
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make bridge: %w", err)
		}
		if err := up("lo", nil); err != nil {
			return err
		}
		return up("br0", n.host(1))
	})
}

// plug makes a namespace on the bridge, with eth0 and default routes.
func (n *Node) plug(name string) (*Pod, error) {
	n.mu.Lock()
	number := n.next
	n.next++
	n.mu.Unlock()
	pod := &Pod{
		node: n, Name: name,
		Addresses: n.host(number),
		Cgroup:    filepath.Join(n.cgroup, "pods", name),
	}
	var err error
	if pod.Netns, err = makeNetns(n.name + "-" + name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(pod.Cgroup, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if err := n.wire(pod, number); err != nil {
		return nil, fmt.Errorf("wire pod %s: %w", name, err)
	}
	return pod, nil
}

// wire joins a pod's namespace to the bridge.
func (n *Node) wire(pod *Pod, number int) error {
	space, err := os.Open(pod.Netns)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer space.Close()
	port := fmt.Sprintf("pod%d", number)
	err = inNetns(n.bridge(), func() error {
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			return fmt.Errorf("find bridge: %w", err)
		}
		veth := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index},
			PeerName:      "eth0",
			PeerNamespace: netlink.NsFd(int(space.Fd())),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("make veth: %w", err)
		}
		return up(port, nil)
	})
	if err != nil {
		return err
	}
	return inNetns(pod.Netns, func() error {
		if err := up("lo", nil); err != nil {
			return err
		}
		if err := up("eth0", pod.Addresses); err != nil {
			return err
		}
		for _, gateway := range n.host(1) {
			if err := netlink.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
				return fmt.Errorf("add default route: %w", err)
			}
		}
		return nil
	})
}

// bridge returns the path of the node's own namespace.
func (n *Node) bridge() string { return filepath.Join(netnsDir, n.name) }

// Link joins two nodes by a cable, with routes to each other's pods.
func Link(a, b *Node) error {
	other, err := os.Open(b.bridge())
	if err != nil {
		return fmt.Errorf("link nodes: %w", err)
	}
	defer other.Close()
	near := fmt.Sprintf("node%d", b.options.Number)
	far := fmt.Sprintf("node%d", a.options.Number)
	err = inNetns(a.bridge(), func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: near},
			PeerName:      far,
			PeerNamespace: netlink.NsFd(int(other.Fd())),
		})
	})
	if err != nil {
		return fmt.Errorf("link nodes: %w", err)
	}
	if err := a.reach(b, near); err != nil {
		return fmt.Errorf("link nodes: %w", err)
	}
	if err := b.reach(a, far); err != nil {
		return fmt.Errorf("link nodes: %w", err)
	}
	return nil
}

// reach routes the other node's pods over the cable. The ends of the cable have
// the addresses of a network of their own, numbered by the node.
func (n *Node) reach(other *Node, cable string) error {
	return inNetns(n.bridge(), func() error {
		if err := up(cable, n.cableEnd()); err != nil {
			return err
		}
		for i, gateway := range other.cableEnd() {
			bits := []int{bits4, bits6}[i]
			target := netip.PrefixFrom(other.host(0)[i], bits).Masked()
			err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(target), Gw: gateway.AsSlice()})
			if err != nil {
				return fmt.Errorf("add route to %s: %w", target, err)
			}
		}
		return nil
	})
}

func (n *Node) cableEnd() []netip.Addr {
	number := byte(n.options.Number) + 1
	return []netip.Addr{
		netip.AddrFrom4([4]byte{10, 89, 0, number}),
		netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x89, 15: number}),
	}
}

// up switches a device of the calling thread's namespace on.
func up(name string, addresses []netip.Addr) error {
	all := make([]netip.Prefix, len(addresses))
	for i, a := range addresses {
		all[i] = netip.PrefixFrom(a, bits4)
		if a.Is6() {
			all[i] = netip.PrefixFrom(a, bits6)
		}
	}
	return device.Up(name, all...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
