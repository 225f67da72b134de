package testnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Namespace is the Kubernetes namespace of every pod.
const Namespace = "shop"

// Pod is a network namespace on a node's bridge with a cgroup: all that the mesh
// sees of a pod. Its fields do not change.
type Pod struct {
	node *Node

	Name   string
	Labels map[string]string
	// Annotations of its workload document.
	Annotations map[string]string
	Ports       []uint16     // the enrolled ones
	Addresses   []netip.Addr // IPv4, IPv6
	Netns       string       // path
	Cgroup      string       // path
}

// Addr returns the pod's IPv4 address with a port.
func (p *Pod) Addr(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.Addresses[0], port) }

// Addr6 returns the pod's IPv6 address with a port.
func (p *Pod) Addr6(port uint16) netip.AddrPort { return netip.AddrPortFrom(p.Addresses[1], port) }

// AddPod makes a pod. The mesh learns of it by Enroll.
func (n *Node) AddPod(name string, labels map[string]string, ports ...uint16) (*Pod, error) {
	pod, err := n.plug(name)
	if err != nil {
		return nil, fmt.Errorf("add pod %s: %w", name, err)
	}
	pod.Labels, pod.Ports = labels, ports
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods[name] = pod
	return pod, nil
}

// Enroll writes the pod's workload file into the directory that the agent
// watches: complete before it has its name.
func (p *Pod) Enroll() error {
	return WriteFile(p.workloadFile(), p.Workload())
}

// Withdraw removes the pod's workload file. The pod itself stays.
func (p *Pod) Withdraw() error {
	if err := os.Remove(p.workloadFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw pod %s: %w", p.Name, err)
	}
	return nil
}

func (p *Pod) workloadFile() string {
	return filepath.Join(p.node.WorkloadsDir(), p.Name+".yaml")
}

// Workload returns the pod's workload document.
func (p *Pod) Workload() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: dubway.io/v1alpha1\nkind: Workload\nmetadata:\n  name: %s\n  namespace: %s\n", p.Name, Namespace)
	for name, values := range map[string]map[string]string{"labels": p.Labels, "annotations": p.Annotations} {
		if len(values) == 0 {
			continue
		}
		fmt.Fprintf(&b, "  %s:\n", name)
		for _, key := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, "    %s: %q\n", key, values[key])
		}
	}
	fmt.Fprintf(&b, "spec:\n  serviceAccount: %s\n  netns: %s\n  cgroup: %s\n  addresses:\n", p.Name, p.Netns, p.Cgroup)
	for _, address := range p.Addresses {
		fmt.Fprintf(&b, "    - %q\n", address)
	}
	if len(p.Ports) > 0 {
		b.WriteString("  ports:\n")
		for _, port := range p.Ports {
			fmt.Fprintf(&b, "    - %d\n", port)
		}
	}
	return []byte(b.String())
}

// Do runs f on a thread in the pod's network namespace. Sockets that f makes
// stay in it, but belong to this process's cgroup: what they connect is not
// steered. Goroutines that f starts run elsewhere.
func (p *Pod) Do(f func() error) error { return inNetns(p.Netns, f) }

// DialContext connects from the pod's network namespace, with Do's limits.
func (p *Pod) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = p.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on TCP in the pod's network namespace, with Do's limits.
func (p *Pod) Listen(address string) (listener net.Listener, err error) {
	err = p.Do(func() error {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// Listens tells whether something in the pod listens on a port.
func (p *Pod) Listens(port uint16) bool {
	return p.Do(func() error {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", port), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	}) == nil
}

// WriteFile replaces a file in one step, so that a watcher never sees a part.
func WriteFile(path string, content []byte) error {
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(aside, content, 0o644); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Rename(aside, path); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// PutXDS writes one xDS file; unchanged content is not written again.
func (n *Node) PutXDS(name string, content []byte) error {
	path := filepath.Join(n.XDSDir(), name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return WriteFile(path, content)
}
