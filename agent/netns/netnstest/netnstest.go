// Package netnstest makes network namespaces for tests of the agent's rooms:
// nameless ones, which end with the test. Whole nodes with processes are the
// business of internal/testnet.
package netnstest

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/testnet/device"
)

// Netns is a network namespace with its loopback device up.
type Netns struct {
	*netns.Namespace

	Path string
	tb   testing.TB
}

// New makes a network namespace that lives until the test ends.
func New(tb testing.TB) *Netns {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("network namespaces need root")
	}
	type result struct {
		path string
		err  error
	}
	made, done := make(chan result), make(chan struct{})
	onThread(func() {
		// The thread holds the namespace and ends with this function.
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = device.Up("lo")
		}
		made <- result{fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()), err}
		<-done
	})
	r := <-made
	tb.Cleanup(func() { close(done) })
	if r.err != nil {
		tb.Fatalf("make network namespace: %v", r.err)
	}
	ns, err := netns.Open(r.path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ns.Close() })
	return &Netns{Namespace: ns, Path: r.path, tb: tb}
}

// onThread runs f in the background on a thread that ends with it. It is never
// the process's first thread, whose namespaces /proc/self shows.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// While this one waits, and keeps its thread, the other is run by another.
		defer runtime.UnlockOSThread()
		begun := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(begun)
			f()
		}()
		<-begun
	}()
}

// Must runs f in the namespace.
func (n *Netns) Must(f func() error) {
	n.tb.Helper()
	if err := n.Do(f); err != nil {
		n.tb.Fatal(err)
	}
}

// Link is another path of the namespace, which its test may remove.
func (n *Netns) Link() string {
	n.tb.Helper()
	path := filepath.Join(n.tb.TempDir(), "netns")
	if err := os.Symlink(n.Path, path); err != nil {
		n.tb.Fatal(err)
	}
	return path
}

// Add puts addresses on a device and brings it up, and waits until they can be used.
func (n *Netns) Add(name string, addresses ...string) {
	n.tb.Helper()
	n.Must(func() error {
		all := make([]netip.Prefix, len(addresses))
		for i, text := range addresses {
			all[i] = netip.MustParsePrefix(text)
		}
		return device.Up(name, all...)
	})
}

// Join connects two namespaces by a veth, eth0 at both ends.
func Join(a, b *Netns) {
	a.tb.Helper()
	peer, err := os.Open(b.Path)
	if err != nil {
		a.tb.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	a.Must(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.Fd())}
		veth.Name = "eth0"
		return netlink.LinkAdd(veth)
	})
	for _, n := range []*Netns{a, b} {
		n.Must(func() error { return device.Up("eth0") })
	}
}

// Pods are two namespaces joined by a veth: 10.97.0.1, 10.97.0.2 and their IPv6
// twins. The first also has an address that descriptions of it do not tell of, the
// second plays the node's addresses, too.
func Pods(tb testing.TB) (a, b *Netns) {
	tb.Helper()
	a, b = New(tb), New(tb)
	Join(a, b)
	a.Add("eth0", "10.97.0.1/24", "10.97.0.99/24", "fd97::1/64", "169.254.7.1/16")
	b.Add("eth0", "10.97.0.2/24", "fd97::2/64", "10.97.0.254/24", "169.254.169.254/16")
	return a, b
}
