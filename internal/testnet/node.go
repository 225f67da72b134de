// Package testnet is a Kubernetes node made of Linux parts: a bridge in a
// network namespace of its own, pods that hang on it by veth (IPv4 and IPv6),
// each with its cgroup, and dubway-agent and dubway-proxy as real processes with
// the privileges that they have in production. Scenario tests, the bench and the
// demo stand on it; it knows nothing of testing.T.
//
// Everything that a Node makes carries its name, "dubway-TAG-PID": a directory
// in /run, a subtree of cgroup2, network namespaces. Whoever made a Node holds a
// lock in that directory, so that a later run can tell what a killed one left
// behind and remove it (CleanStale).
//
//	/run/dubway-TAG-PID/          state directory of agent and proxy
//	    agent/ proxy/ workloads/ xds/ logs/ bpf/ (a bpffs)
//	CGROUP2/dubway-TAG-PID/       what the agent attaches to
//	    agent/ proxy/ pods/NAME/
//	/sys/fs/cgroup/memory/dubway-TAG-PID/  what LimitProxy limits, where cgroups are of version 1
//	/run/netns/dubway-TAG-PID     the bridge; -dubway: agent and proxy; -NAME: a pod
//
// It needs root and Linux; it changes nothing of the host's own network.
package testnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// runDir holds the state directories.
const runDir = "/run"

// Options say what a Node is.
type Options struct {
	Tag    string // names everything; letters, digits and dashes
	Number int    // 0 to 255; linked nodes need different ones
	Agent  string // path of the dubway-agent binary
	Proxy  string // path of the dubway-proxy binary
}

// Node is one node with its pods. Its methods are safe for concurrent use,
// except Close.
type Node struct {
	options Options
	name    string
	lock    *os.File
	cgroup  string
	memory  string // the proxy's cgroup of version 1; "" without a limit there

	mu     sync.Mutex
	pods   map[string]*Pod
	system *Pod // where agent and proxy run; no workload
	next   int  // the next pod's host number
}

// New makes a node without pods. Close it.
func New(options Options) (*Node, error) {
	node := &Node{
		options: options,
		name:    fmt.Sprintf("dubway-%s-%d", options.Tag, os.Getpid()),
		pods:    map[string]*Pod{},
		next:    2,
	}
	if err := node.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("make node %s: %w", options.Tag, err), node.Close())
	}
	return node, nil
}

func (n *Node) build() error {
	if err := n.makeState(); err != nil {
		return err
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	n.cgroup = filepath.Join(root, n.name)
	for _, part := range []string{"agent", "proxy", "pods"} {
		if err := os.MkdirAll(filepath.Join(n.cgroup, part), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	if err := n.makeBridge(); err != nil {
		return err
	}
	n.system, err = n.plug("dubway")
	return err
}

// makeState makes the state directory, locks it and mounts a bpffs for pins: a
// fresh machine has none, and with it all pins go by one unmount.
func (n *Node) makeState() error {
	if err := os.Mkdir(n.StateDir(), 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	var err error
	if n.lock, err = lockDir(n.StateDir()); err != nil {
		return err
	}
	for _, part := range []string{"agent", "proxy", "workloads", "xds", "logs", "bpf"} {
		if err := os.Mkdir(n.path(part), 0o755); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	if err := os.Chown(n.path("proxy"), ProxyUID, ProxyUID); err != nil {
		return fmt.Errorf("give proxy its directory: %w", err)
	}
	if err := unix.Mount("bpf", n.path("bpf"), "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs: %w", err)
	}
	return nil
}

// Close kills every process of the node and removes all that New and the other
// methods made. It is safe after a failed New and may be called twice.
func (n *Node) Close() error {
	err := sweep(n.name)
	n.lock.Close()
	return err
}

// Leave keeps the node after this process ends, until CleanStale of its tag.
func (n *Node) Leave() { n.lock.Close() }

// Name returns the name that everything of this node carries.
func (n *Node) Name() string { return n.name }

// StateDir is agent's and proxy's --state-dir.
func (n *Node) StateDir() string { return filepath.Join(runDir, n.name) }

// XDSDir is the proxy's --xds-dir.
func (n *Node) XDSDir() string { return n.path("xds") }

// WorkloadsDir is the agent's --workloads.
func (n *Node) WorkloadsDir() string { return n.path("workloads") }

// PinPath is the agent's --pin-path.
func (n *Node) PinPath() string { return filepath.Join(n.path("bpf"), "dubway") }

// Cgroup is the agent's --cgroup: above every pod and both processes.
func (n *Node) Cgroup() string { return n.cgroup }

// Addresses returns the node's own addresses, those of its bridge.
func (n *Node) Addresses() []netip.Addr { return n.host(1) }

// Pod returns the pod of that name, nil if there is none.
func (n *Node) Pod(name string) *Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods[name]
}

// System returns where agent and proxy run: a pod without a workload, in whose
// network namespace port 15020 serves the metrics.
func (n *Node) System() *Pod { return n.system }

func (n *Node) path(part string) string { return filepath.Join(n.StateDir(), part) }

// host returns the addresses of the node's host number i.
func (n *Node) host(i int) []netip.Addr {
	number := byte(n.options.Number)
	six := [16]byte{0xfd, 0, 0, 0x88, 0, number, 14: byte(i >> 8), 15: byte(i)}
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 88, number, byte(i)}), netip.AddrFrom16(six)}
}
