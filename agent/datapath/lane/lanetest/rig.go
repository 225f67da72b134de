// Package lanetest is what tests and benchmarks of lanes stand on: the programs in a
// cgroup of their own, network namespaces with the sockets of a consumer, a provider and
// the proxy's ends of both, frames whose every byte is known, and a proxy small enough
// to read.
package lanetest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	agent "github.com/dubway/dubway/agent/datapath/lane"
	"github.com/dubway/dubway/bpf"
	"github.com/dubway/dubway/internal/lane"
)

// Rig is a cgroup, a BPF file system and two pods of a test's own. The process itself
// moves below the cgroup.
type Rig struct {
	TB       testing.TB
	Options  agent.Options
	Lane     *agent.Lane
	Memory   *lane.Memory
	Consumer *Pod
	Provider *Pod

	sockets *ebpf.Map
}

// types are the kernel's, for all rigs of a process: reading them takes as long as all else.
var types = btf.NewCache()

// New makes a rig, and opens its lanes.
func New(tb testing.TB, lanes int) *Rig {
	tb.Helper()
	root, err := host.FindCgroupRoot()
	Must(tb, err)
	name := strings.NewReplacer("/", "-", " ", "-").Replace(tb.Name())
	cgroup := filepath.Join(root, fmt.Sprintf("dubway-lane-%d-%s", os.Getpid(), name))
	Must(tb, os.Mkdir(cgroup, 0o755))
	tb.Cleanup(func() { Must(tb, os.Remove(cgroup)) })
	Must(tb, join(cgroup))
	tb.Cleanup(func() { Must(tb, join(root)) })
	fs := tb.TempDir()
	Must(tb, unix.Mount("bpf", fs, "bpf", 0, ""))
	tb.Cleanup(func() { Must(tb, unix.Unmount(fs, unix.MNT_DETACH)) })
	pins := filepath.Join(fs, "dubway")
	Must(tb, os.Mkdir(pins, 0o700))

	steer, err := bpf.LoadSteer()
	Must(tb, err)
	r := &Rig{TB: tb, Consumer: newPod(tb), Provider: newPod(tb)}
	r.sockets, err = ebpf.NewMap(steer.Maps[bpf.SteerMapSockets])
	Must(tb, err)
	tb.Cleanup(func() { r.sockets.Close() })
	r.Options = agent.Options{
		PinPath: pins, Cgroup: cgroup, Sockets: r.sockets, Lanes: lanes, Logger: slog.New(slog.DiscardHandler), Types: types,
	}
	r.Lane, err = agent.Open(r.Options)
	Must(tb, err)
	tb.Cleanup(func() {
		Must(tb, r.Lane.Close())
		Must(tb, agent.Uninstall(pins))
	})
	files, err := r.Lane.Files()
	Must(tb, err)
	r.Memory, err = lane.Open(files, r.Lane.Sizes())
	Must(tb, err)
	tb.Cleanup(func() { Must(tb, r.Memory.Close()) })
	for _, f := range files {
		f.Close()
	}
	Must(tb, r.Lane.Workload(r.Consumer.Cookie(), true))
	return r
}

func join(cgroup string) error {
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o644); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// Pod is a network namespace.
type Pod struct {
	Within func(func()) // runs what makes the application's socket; nil: it just runs

	tb testing.TB
	ns *os.File
}

func newPod(tb testing.TB) *Pod {
	tb.Helper()
	p := &Pod{tb: tb}
	inThread(tb, func() {
		Must(tb, unix.Unshare(unix.CLONE_NEWNET))
		var err error
		p.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		Must(tb, err)
		lo, err := netlink.LinkByName("lo")
		Must(tb, err)
		Must(tb, netlink.LinkSetUp(lo))
	})
	tb.Cleanup(func() { p.ns.Close() })
	return p
}

// Do runs f on a thread inside the namespace.
func (p *Pod) Do(f func()) {
	p.tb.Helper()
	inThread(p.tb, func() {
		Must(p.tb, unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET))
		f()
	})
}

// Namespace is the file of the namespace, which stays the pod's.
func (p *Pod) Namespace() *os.File { return p.ns }

// Cookie is that of the namespace.
func (p *Pod) Cookie() (cookie uint64) {
	p.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		Must(p.tb, err)
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		Must(p.tb, err)
	})
	return cookie
}

func inThread(tb testing.TB, f func()) {
	tb.Helper()
	done := make(chan bool, 1)
	go func() {
		completed := false
		defer func() { done <- completed }()
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		f()
		completed = true
	}()
	if !<-done {
		tb.FailNow()
	}
}

// Pair is a connection of an application, and the proxy's end of it.
type Pair struct{ App, Proxy *net.TCPConn }

// Families are the ways in which two sockets may be joined: what listens, and what is dialled.
var Families = []Family{
	{"ipv4", "tcp4", "127.0.0.1:0", "127.0.0.1"},
	{"ipv6", "tcp6", "[::1]:0", "::1"},
	{"v4-mapped", "tcp", "[::]:0", "127.0.0.1"},
}

// Family is one of Families.
type Family struct{ Name, network, listen, dial string }

// DialConsumer makes a consumer's connection that was steered to a laned destination: C is App,
// A is Proxy.
func (r *Rig) DialConsumer(f Family) Pair {
	r.TB.Helper()
	dialled, accepted := r.Consumer.connect(f, true, func(fd int) error {
		state := bpf.SteerSocket{Role: bpf.SteerSocketRoleConsumer, Flow: bpf.SteerFlow{Laned: 1}}
		return r.sockets.Put(uint32(fd), &state)
	})
	return Pair{App: dialled, Proxy: accepted}
}

// DialProvider makes a connection to a provider for a lane: P is App, B is Proxy.
func (r *Rig) DialProvider(f Family) Pair {
	r.TB.Helper()
	dialled, accepted := r.Provider.connect(f, false, r.Lane.Mark)
	return Pair{App: accepted, Proxy: dialled}
}

// DialPlain makes a connection that no lane knows: the application accepts it.
func (r *Rig) DialPlain(f Family) Pair {
	r.TB.Helper()
	dialled, accepted := r.Provider.connect(f, false, func(int) error { return nil })
	return Pair{App: accepted, Proxy: dialled}
}

// connect dials within the namespace, the application or the proxy; mark is called with the
// socket before. A v4-mapped socket dials IPv4 by a socket of IPv6.
func (p *Pod) connect(f Family, application bool, mark func(fd int) error) (dialled, accepted *net.TCPConn) {
	p.tb.Helper()
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	just := func(f func()) { f() }
	dials, accepts := just, just
	if p.Within != nil && application {
		dials = p.Within
	} else if p.Within != nil {
		accepts = p.Within
	}
	p.Do(func() {
		l, err := config.Listen(context.Background(), f.network, f.listen)
		Must(p.tb, err)
		defer l.Close()
		family := unix.AF_INET6
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			p.tb.Fatalf("listens at %v", l.Addr())
		}
		port := addr.Port
		var to unix.Sockaddr
		switch f.Name {
		case "ipv4":
			family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
		case "ipv6":
			to = &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
		default:
			to = &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
		}
		var fd int
		dials(func() { fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
		Must(p.tb, err)
		Must(p.tb, mark(fd))
		Must(p.tb, unix.Connect(fd, to))
		Must(p.tb, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		file := os.NewFile(uintptr(fd), "dialled")
		defer file.Close()
		c, err := net.FileConn(file)
		Must(p.tb, err)
		dialled, _ = c.(*net.TCPConn)
		var a net.Conn
		accepts(func() { a, err = l.Accept() })
		Must(p.tb, err)
		accepted, _ = a.(*net.TCPConn)
	})
	for _, c := range []*net.TCPConn{dialled, accepted} {
		Must(p.tb, c.SetDeadline(time.Now().Add(2*time.Minute)))
		p.tb.Cleanup(func() { c.Close() })
	}
	return dialled, accepted
}

// Ask asks a question of one of the proxy's sockets.
func Ask(tb testing.TB, c *net.TCPConn, question, place int) lane.State {
	tb.Helper()
	s, err := TryAsk(c, question, place)
	Must(tb, err)
	return s
}

// TryAsk is Ask of a socket that may be closed.
func TryAsk(c *net.TCPConn, question, place int) (s lane.State, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return s, fmt.Errorf("use socket: %w", err)
	}
	if cerr := raw.Control(func(fd uintptr) { s, err = lane.Ask(int(fd), question, place) }); cerr != nil {
		return s, fmt.Errorf("use socket: %w", cerr)
	}
	return s, err
}

// Must ends the test on an error.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// Eventually waits until something is so.
func Eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not after 30 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
