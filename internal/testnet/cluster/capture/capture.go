// Package capture counts the connections to providers' port that are begun in the pods of a
// node and leave them, of IPv4 and IPv6: where they leave their sockets, by whose socket it is,
// and on the CNI's bridge. On the wire an application's own connection and one that the mesh
// makes in the pod's name are the same; the kernel keeps with each socket in whose cgroup it
// was made, and the mesh's are made by the agent.
//
// It is there before the first pod, so that no moment of any pod is missed, and costs what two
// rules cost: it begins to look at a packet that begins a connection.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Port is the providers'.
const Port = 20880

// Node runs programs on the node that is watched.
type Node interface {
	Run(ctx context.Context, path string, args ...string) (string, error)
}

// Capture is the one of a node, from its boot to its end. Its methods are safe for concurrent use.
type Capture struct {
	node   Node
	cgroup string // of the node
	seen   *ebpf.Map
	link   link.Link
}

// Connections are those to Port that were begun in a pod.
type Connections struct {
	Own int // by processes of the pod itself
	// Attempts from its addresses, by whomever; of earlier pods that had one of them too. The
	// kernel makes a new one where nobody answers.
	Sent   int
	Bridge int // of them too, as the bridge has seen it; read last, so that it may have more that are newer
}

// rules count on the bridge: a frame to another pod of the node only passes it, and one to another
// node goes up from it, so all of them come in by a port.
const rules = `table bridge capture {
set four { type ipv4_addr; flags dynamic; counter; }
set six { type ipv6_addr; flags dynamic; counter; }
chain in { type filter hook prerouting priority 0;
tcp dport %[1]d tcp flags & (syn | ack) == syn update @four { ip saddr }
tcp dport %[1]d tcp flags & (syn | ack) == syn update @six { ip6 saddr }
}
}
`

// Start begins to count, on a node that runs no pod yet, whose processes are all in a cgroup. The
// node reads dir too. Close it.
func Start(ctx context.Context, node Node, cgroup, dir string) (*Capture, error) {
	file := filepath.Join(dir, "capture.nft")
	if err := os.WriteFile(file, fmt.Appendf(nil, rules, Port), 0o600); err != nil {
		return nil, fmt.Errorf("write rules: %w", err)
	}
	if _, err := node.Run(ctx, "nft", "-f", file); err != nil {
		return nil, fmt.Errorf("count on the bridge: %w", err)
	}
	id, err := idOf(cgroup)
	if err != nil {
		return nil, err
	}
	c := &Capture{node: node, cgroup: cgroup}
	c.seen, err = ebpf.NewMap(&ebpf.MapSpec{Name: "begun", Type: ebpf.Hash, KeySize: keySize, ValueSize: 8, MaxEntries: 1 << 18})
	if err != nil {
		return nil, fmt.Errorf("make map: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "begun_egress", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: instructions(c.seen.FD(), id),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load program: %w", err), c.seen.Close())
	}
	defer program.Close()
	c.link, err = link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInetEgress, Program: program})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach program: %w", err), c.seen.Close())
	}
	return c, nil
}

// Close ends it.
func (c *Capture) Close() error {
	if err := errors.Join(c.link.Close(), c.seen.Close()); err != nil {
		return fmt.Errorf("end capture: %w", err)
	}
	return nil
}

// Of returns the connections of a pod of the node that is there.
func (c *Capture) Of(ctx context.Context, uid string, addresses []string) (n Connections, err error) {
	pod, err := c.pod(uid)
	if err != nil {
		return n, err
	}
	own := map[netip.Addr]bool{}
	for _, text := range addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return n, fmt.Errorf("read address: %w", err)
		}
		own[address] = true
	}
	var k key
	var count uint64
	for all := c.seen.Iterate(); all.Next(&k, &count); {
		if k.Pod == pod {
			n.Own++
		}
		if own[netip.AddrFrom16(k.From).Unmap()] {
			n.Sent += int(count)
		}
	}
	for _, set := range []string{"four", "six"} {
		said, err := c.node.Run(ctx, "nft", "list", "set", "bridge", "capture", set)
		if err != nil {
			return n, fmt.Errorf("read the bridge's: %w", err)
		}
		for _, found := range counted.FindAllStringSubmatch(said, -1) {
			address, err := netip.ParseAddr(found[1])
			if err == nil && own[address] {
				count, err := strconv.Atoi(found[2])
				if err != nil {
					return n, fmt.Errorf("read the bridge's: %w", err)
				}
				n.Bridge += count
			}
		}
	}
	return n, nil
}

// counted is an element of a set, as nft lists it.
var counted = regexp.MustCompile(`([0-9a-f.:]+) counter packets (\d+)`)

// pod finds the cgroup of one by its UID.
func (c *Capture) pod(uid string) (id uint64, err error) {
	err = filepath.WalkDir(filepath.Join(c.cgroup, "kubepods"), func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // it went meanwhile
		case entry.IsDir() && strings.HasSuffix(dir, "pod"+uid):
			if id, err = idOf(dir); err == nil {
				err = fs.SkipAll
			}
			return err
		}
		return nil
	})
	if err == nil && id == 0 {
		err = os.ErrNotExist
	}
	if err != nil {
		return 0, fmt.Errorf("find pod %s below %s: %w", uid, c.cgroup, err)
	}
	return id, nil
}

// idOf is the kernel's number of a cgroup.
func idOf(cgroup string) (uint64, error) {
	info, err := os.Stat(cgroup)
	if err != nil {
		return 0, fmt.Errorf("find cgroup: %w", err)
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}
