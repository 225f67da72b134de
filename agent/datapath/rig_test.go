package datapath

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/internal/testnet/device"
)

// rig is a cgroup, a BPF file system and pods of a test's own. The test process
// itself moves below the cgroup: it plays the agent, the proxy and the
// applications, each socket in the namespace where it would live.
type rig struct {
	t      *testing.T
	cgroup string
	opts   Options
}

// What all rigs of a process know of its kernel, each of which takes as long as a test.
var (
	types  = btf.NewCache()
	checks = sync.OnceValue(func() []host.Check { return host.Probe("", DefaultPinPath) })
)

// rounds is n, or few on an emulated processor, which takes seconds for each.
func rounds(n, few int) int {
	if testing.Short() {
		return few
	}
	return n
}

func newRig(t *testing.T) *rig {
	t.Helper()
	for _, c := range checks() {
		if !c.OK && strings.HasPrefix(c.Name, "capability") {
			t.Skipf("%s: %s", c.Name, c.Detail)
		}
	}
	root, err := FindCgroupRoot()
	if err != nil {
		t.Skip(err)
	}
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '-'
		}
		return r
	}, t.Name())
	r := &rig{t: t, cgroup: filepath.Join(root, fmt.Sprintf("dubway-h1-%d-%s", os.Getpid(), name))}
	must(t, os.Mkdir(r.cgroup, 0o755))
	t.Cleanup(func() { must(t, os.Remove(r.cgroup)) })
	must(t, joinCgroup(r.cgroup))
	t.Cleanup(func() { must(t, joinCgroup(root)) })

	fs := t.TempDir()
	must(t, unix.Mount("bpf", fs, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(fs, unix.MNT_DETACH)) })
	r.opts = Options{PinPath: filepath.Join(fs, "dubway"), Cgroup: r.cgroup, Logger: slog.New(slog.DiscardHandler), Types: types}
	return r
}

func joinCgroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o644)
}

// open opens a datapath that is uninstalled at the end of the test.
func (r *rig) open() *Datapath {
	r.t.Helper()
	d, err := Open(r.opts)
	return r.uninstallAfter(d, err)
}

func (r *rig) uninstallAfter(d *Datapath, err error) *Datapath {
	r.t.Helper()
	must(r.t, err)
	r.t.Cleanup(func() {
		must(r.t, d.Close())
		must(r.t, Uninstall(r.opts.PinPath))
	})
	return d
}

// pod is a network namespace with the listeners that the agent would open.
type pod struct {
	t       *testing.T
	ns      *os.File
	addr4   netip.Addr
	addr6   netip.Addr
	out     map[string]*net.TCPListener // by network
	in      map[string]*net.TCPListener
	cookie  uint64
	members []syscall.Conn
}

// pods makes two namespaces, joined by a veth: 10.77.0.1 and .2, fd77::1 and ::2.
func (r *rig) pods() (a, b *pod) {
	r.t.Helper()
	a, b = r.pod(1), r.pod(2)
	a.do(func() {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(b.ns.Fd())}
		veth.Name = "eth0"
		must(r.t, netlink.LinkAdd(veth))
	})
	for _, p := range []*pod{a, b} {
		p.do(func() {
			must(r.t, device.Up("eth0", netip.PrefixFrom(p.addr4, 24), netip.PrefixFrom(p.addr6, 64)))
		})
	}
	a.listen()
	b.listen()
	return a, b
}

func (r *rig) pod(n byte) *pod {
	r.t.Helper()
	p := &pod{
		t: r.t, addr4: netip.AddrFrom4([4]byte{10, 77, 0, n}), addr6: netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: n}),
		out: map[string]*net.TCPListener{}, in: map[string]*net.TCPListener{},
	}
	inThread(r.t, func() {
		must(r.t, unix.Unshare(unix.CLONE_NEWNET))
		var err error
		p.ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		must(r.t, err)
		// 0x607: data in a SYN is sent and taken without a cookie, if asked for.
		// Then the accepted socket exists before the connecting one is established.
		must(r.t, os.WriteFile("/proc/sys/net/ipv4/tcp_fastopen", []byte("1543"), 0o644))
		must(r.t, device.Up("lo"))
	})
	r.t.Cleanup(func() { p.ns.Close() })
	return p
}

// do runs f on a thread inside the pod's namespace.
func (p *pod) do(f func()) {
	p.t.Helper()
	inThread(p.t, func() {
		must(p.t, unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET))
		f()
	})
}

// inThread runs f on a thread of its own, which ends with it.
func inThread(t *testing.T, f func()) {
	t.Helper()
	done := make(chan bool, 1)
	go func() {
		completed := false
		defer func() { done <- completed }()
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		f()
		completed = true
	}()
	if !<-done {
		t.FailNow()
	}
}

func (p *pod) listen() {
	p.t.Helper()
	for network, host := range map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"} {
		p.out[network] = p.serve(network, net.JoinHostPort(host, "15001"))
		p.in[network] = p.serve(network, ":15006")
		p.members = append(p.members, p.out[network], p.in[network])
	}
}

// serve opens a plain TCP listener in the pod's namespace.
func (p *pod) serve(network, address string) *net.TCPListener {
	p.t.Helper()
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	var l net.Listener
	var err error
	p.do(func() { l, err = config.Listen(context.Background(), network, address) })
	must(p.t, err)
	p.t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func (p *pod) workload(d *Datapath, ports ...uint16) Workload {
	p.t.Helper()
	cookie, err := d.NetnsCookie(p.out["tcp4"])
	must(p.t, err)
	p.cookie = cookie
	return Workload{Cookie: cookie, Addresses: []netip.Addr{p.addr4, p.addr6}, Ports: ports, Netns: p.ns, Listeners: p.members}
}

// socket makes a TCP socket in the pod's namespace.
func (p *pod) socket(family, typ, protocol int) int {
	p.t.Helper()
	fd := -1
	var err error
	p.do(func() { fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol) })
	must(p.t, err)
	p.t.Cleanup(func() { unix.Close(fd) })
	wait := unix.NsecToTimeval((30 * time.Second).Nanoseconds())
	must(p.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
	must(p.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	return fd
}

// dial connects from the pod as an application would.
func (p *pod) dial(network, address string) (net.Conn, error) {
	var c net.Conn
	var err error
	p.do(func() { c, err = (&net.Dialer{Timeout: 30 * time.Second}).Dial(network, address) })
	if err == nil {
		p.t.Cleanup(func() { c.Close() })
		err = c.SetDeadline(time.Now().Add(time.Minute))
	}
	return c, err
}

// greet makes a listener answer each connection with one line: who it is, what
// the original destination is, what it sees as its peer.
func greet(t *testing.T, name string, l *net.TCPListener) {
	t.Helper()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %s %s\n", name, originalDst(c.(syscall.Conn)), c.RemoteAddr())
				buf := make([]byte, 64)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// originalDst asks as the proxy does; "none" if the kernel knows none.
func originalDst(c syscall.Conn) string {
	answer := "none"
	err := control(c, func(fd int) error {
		if to, err := originalDst4(fd); err == nil {
			answer = to.String()
		} else if to, err := originalDst6(fd); err == nil {
			answer = to.String()
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return answer
}

func originalDst4(fd int) (netip.AddrPort, error) {
	var raw unix.RawSockaddrInet4
	if err := getsockopt(fd, unix.SOL_IP, unsafe.Pointer(&raw), unsafe.Sizeof(raw)); err != nil {
		return netip.AddrPort{}, err
	}
	if raw.Family != unix.AF_INET {
		return netip.AddrPort{}, fmt.Errorf("family %d", raw.Family)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), swap16(raw.Port)), nil
}

func originalDst6(fd int) (netip.AddrPort, error) {
	var raw unix.RawSockaddrInet6
	if err := getsockopt(fd, unix.SOL_IPV6, unsafe.Pointer(&raw), unsafe.Sizeof(raw)); err != nil {
		return netip.AddrPort{}, err
	}
	if raw.Family != unix.AF_INET6 {
		return netip.AddrPort{}, fmt.Errorf("family %d", raw.Family)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr), swap16(raw.Port)), nil
}

func getsockopt(fd, level int, value unsafe.Pointer, size uintptr) error {
	n, err := getsockoptBytes(fd, level, 80, unsafe.Slice((*byte)(value), size))
	if err == nil && n != int(size) {
		err = fmt.Errorf("answer of %d bytes, want %d", n, size)
	}
	return err
}

func getsockoptBytes(fd, level, name int, buf []byte) (int, error) {
	length := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(length), nil
}

// line reads what greet wrote.
func line(t *testing.T, c net.Conn) string {
	t.Helper()
	s, err := bufio.NewReader(c).ReadString('\n')
	must(t, err)
	return strings.TrimSpace(s)
}

// calm runs f without the signals by which Go preempts a thread: they interrupt
// system calls on sockets that have a time limit.
func calm(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var urgent, old unix.Sigset_t
	urgent.Val[0] = 1 << (unix.SIGURG - 1)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &urgent, &old)
	f()
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
}

// connect is unix.Connect, calmly.
func connect(fd int, to unix.Sockaddr) (err error) {
	calm(func() { err = unix.Connect(fd, to) })
	return err
}

func fdLine(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 256)
	var n int
	var err error
	calm(func() { n, err = unix.Read(fd, buf) })
	must(t, err)
	return strings.TrimSpace(string(buf[:n]))
}

func addrPort(t *testing.T, sa unix.Sockaddr) netip.AddrPort {
	t.Helper()
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("address %T", sa)
	return netip.AddrPort{}
}

func sockname(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	must(t, err)
	return addrPort(t, sa)
}

func peername(t *testing.T, fd int) netip.AddrPort {
	t.Helper()
	sa, err := unix.Getpeername(fd)
	must(t, err)
	return addrPort(t, sa)
}

func sockaddr(to netip.AddrPort) unix.Sockaddr {
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

// defaultRoute makes foreign addresses reachable as far as connect() can tell.
func defaultRoute() error {
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IPv4(10, 77, 0, 2)})
}

// disconnect is connect(AF_UNSPEC).
func disconnect(fd int) error {
	unspec := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
	if errno != 0 {
		return errno
	}
	return nil
}

// publish fills the table of all workloads.
func publish(d *Datapath, generation uint64, all []Destination) error {
	return d.Publish(0, Table{Generation: generation, Destinations: all})
}

func counters(t *testing.T, d *Datapath) map[string]uint64 {
	t.Helper()
	c, err := d.Counters()
	must(t, err)
	return c
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
