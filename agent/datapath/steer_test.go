package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/bpf"
)

const vip4, vip6 = "10.96.0.10", "fd96::10"

// steer enrols pod a of the two, publishes the VIPs and all of pod b.
func (r *rig) steer(d *Datapath) (a, b *pod) {
	r.t.Helper()
	a, b = r.pods()
	must(r.t, d.SetWorkload(a.workload(d)))
	must(r.t, publish(d, 1, []Destination{
		{Prefix: prefix(vip4 + "/32"), Port: 20880}, {Prefix: prefix(vip6 + "/128"), Port: 20880},
		{Prefix: prefix("10.77.0.2/32"), Port: 0}, {Prefix: prefix("10.128.0.0/16"), Port: 20880},
	}))
	greet(r.t, "proxy4", a.out["tcp4"])
	greet(r.t, "proxy6", a.out["tcp6"])
	return a, b
}

var families = []struct {
	name           string
	family         int
	to, proxy, own string // own: what getsockname shows, without the port
}{
	{"ipv4", unix.AF_INET, vip4, "proxy4", "10.77.0.1"},
	{"ipv6", unix.AF_INET6, vip6, "proxy6", "fd77::1"},
	{"v4-mapped", unix.AF_INET6, "::ffff:" + vip4, "proxy4", "::ffff:10.77.0.1"},
}

// ways are the ways in which an application may connect; each returns when the
// connection is established.
var ways = []struct {
	name    string
	connect func(t *testing.T, fd int, to unix.Sockaddr)
}{
	{"blocking", func(t *testing.T, fd int, to unix.Sockaddr) { must(t, connect(fd, to)) }},
	{"non-blocking", func(t *testing.T, fd int, to unix.Sockaddr) {
		must(t, unix.SetNonblock(fd, true))
		if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
			t.Fatalf("connect = %v, want EINPROGRESS", err)
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		var n int
		var err error
		calm(func() { n, err = unix.Poll(poll, 30_000) })
		if n != 1 {
			t.Fatalf("poll = %d, %v", n, err)
		}
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || errno != 0 {
			t.Fatalf("SO_ERROR = %d, %v", errno, err)
		}
		must(t, unix.SetNonblock(fd, false))
	}},
	{"MSG_FASTOPEN", func(t *testing.T, fd int, to unix.Sockaddr) {
		var err error
		calm(func() { err = unix.Sendto(fd, []byte("hello"), unix.MSG_FASTOPEN, to) })
		must(t, err)
		wantSynData(t, fd)
	}},
	{"TCP_FASTOPEN_CONNECT", func(t *testing.T, fd int, to unix.Sockaddr) {
		must(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
		must(t, connect(fd, to))
		if _, err := unix.Write(fd, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		wantSynData(t, fd)
	}},
}

func wantSynData(t *testing.T, fd int) {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	must(t, err)
	const synDataAcked = 0x20 // TCPI_OPT_SYN_DATA
	if info.Options&synDataAcked == 0 {
		t.Errorf("the SYN's data was not taken: options %#x", info.Options)
	}
}

func TestSteerShowsEverybodyTheOtherEnd(t *testing.T) {
	for _, byInode := range []bool{false, true} { // true: what 5.10 needs
		t.Run(fmt.Sprintf("byInode=%t", byInode), func(t *testing.T) {
			if !byInode && !host.HaveNetnsCookie() {
				t.Skip("sockops programs cannot ask for the netns cookie (Linux 5.15)")
			}
			r := newRig(t)
			spec, err := bpf.LoadSteer()
			must(t, err)
			d := r.uninstallAfter(open(r.opts, spec, kernel{byInode: byInode}))
			a, _ := r.steer(d)
			for _, family := range families {
				for _, way := range ways {
					t.Run(family.name+"/"+way.name, func(t *testing.T) {
						fd := a.socket(family.family, unix.SOCK_STREAM, 0)
						to := netip.AddrPortFrom(netip.MustParseAddr(family.to), 20880)
						way.connect(t, fd, sockaddr(to))
						if peer := peername(t, fd); peer != to {
							t.Errorf("getpeername = %v, want %v", peer, to)
						}
						self := sockname(t, fd)
						if self.Addr().String() != family.own || self.Port() == 0 {
							t.Errorf("getsockname = %v, want %s and a port", self, family.own)
						}
						shown := netip.AddrPortFrom(self.Addr().Unmap(), self.Port())
						want := fmt.Sprintf("%s %s %s", family.proxy, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), shown)
						if got := fdLine(t, fd); got != want {
							t.Errorf("the proxy sees %q, want %q", got, want)
						}
					})
				}
			}
			if got, want := counters(t, d)["steered"], uint64(len(families)*len(ways)); got != want {
				t.Errorf("steered = %d, want %d", got, want)
			}
		})
	}
}

func TestUntouchedIsUntouched(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d)
	to := netip.MustParseAddrPort(vip4 + ":20880")
	app := b.serve("tcp4", ":9000")
	greet(t, "app", app)
	local := a.serve("tcp4", "127.0.0.1:20880")
	greet(t, "local", local)
	must(t, publish(d, 2, []Destination{{Prefix: prefix("0.0.0.0/0"), Port: 20880}, {Prefix: prefix("::/0"), Port: 20880}}))

	// wantOne runs f and wants exactly one more of an outcome, and none steered.
	wantOne := func(t *testing.T, outcome string, f func()) {
		t.Helper()
		before := counters(t, d)
		f()
		after := counters(t, d)
		if n := after[outcome] - before[outcome]; n != 1 {
			t.Errorf("%s counted %d times, want 1", outcome, n)
		}
		if after["steered"] != before["steered"] {
			t.Error("something was steered")
		}
	}
	a.do(func() { must(t, defaultRoute()) })
	t.Run("udp", func(t *testing.T) {
		wantOne(t, "not_tcp", func() {
			fd := a.socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			must(t, connect(fd, sockaddr(to)))
			if peer := peername(t, fd); peer != to {
				t.Errorf("getpeername = %v, want %v", peer, to)
			}
		})
	})
	t.Run("raw", func(t *testing.T) {
		before := counters(t, d)
		fd := a.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
		must(t, connect(fd, sockaddr(netip.AddrPortFrom(to.Addr(), 1))))
		if peer := peername(t, fd); peer.Addr() != to.Addr() {
			t.Errorf("getpeername = %v, want %v", peer, to.Addr())
		}
		if after := counters(t, d); after["steered"] != before["steered"] {
			t.Error("a raw socket was steered")
		}
	})
	t.Run("not enrolled", func(t *testing.T) {
		wantOne(t, "not_enrolled", func() { b.dialLine(t, app.Addr().String(), "app") })
	})
	t.Run("other port", func(t *testing.T) {
		wantOne(t, "no_destination", func() { a.dialLine(t, "10.77.0.2:9000", "app") })
	})
	t.Run("loopback", func(t *testing.T) {
		wantOne(t, "loopback", func() { a.dialLine(t, "127.0.0.1:20880", "local") })
	})
	t.Run("unspecified", func(t *testing.T) {
		wantOne(t, "loopback", func() { a.dialLine(t, "0.0.0.0:20880", "local") })
	})
	t.Run("bound to a device", func(t *testing.T) {
		wantOne(t, "bound_to_device", func() {
			fd := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			must(t, unix.BindToDevice(fd, "eth0"))
			err := connect(fd, sockaddr(netip.MustParseAddrPort("10.77.0.2:20880")))
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("connect = %v, want b's own refusal", err)
			}
		})
	})
}

func (p *pod) dialLine(t *testing.T, address, want string) {
	t.Helper()
	c, err := p.dial("tcp", address)
	must(t, err)
	if got := line(t, c); !strings.HasPrefix(got, want+" none ") {
		t.Errorf("%s answers %q, want %s with no original destination", address, got, want)
	}
}

func TestDirectDialHasNoOriginalDestination(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	// An entry that a failed steered connect left for the same ports must not
	// be inherited: without a listener the bridge is never crossed.
	a.out["tcp4"].Close()
	failed := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, unix.SetsockoptInt(failed, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(t, unix.Bind(failed, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 45678}))
	if err := connect(failed, sockaddr(netip.MustParseAddrPort(vip4+":20880"))); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("connect without a listener = %v, want refused", err)
	}
	must(t, unix.Close(failed))
	greet(t, "proxy", a.serve("tcp4", "127.0.0.1:15001"))

	fd := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 45678}))
	must(t, connect(fd, sockaddr(netip.MustParseAddrPort("127.0.0.1:15001"))))
	if got, want := fdLine(t, fd), "proxy none 127.0.0.1:45678"; got != want {
		t.Errorf("the proxy sees %q, want %q", got, want)
	}
	if n := counters(t, d)["direct"]; n != 1 {
		t.Errorf("direct = %d, want 1", n)
	}
}

func TestOnlyTheAgentExempts(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d)
	greet(t, "provider", b.serve("tcp4", ":20880"))
	to := sockaddr(netip.MustParseAddrPort("10.77.0.2:20880"))

	mesh := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, d.MarkSocket(mesh, netip.AddrPort{}))
	must(t, connect(mesh, to))
	if got := fdLine(t, mesh); !strings.HasPrefix(got, "provider none 10.77.0.1:") {
		t.Errorf("the mesh's own socket reaches %q, want the provider", got)
	}
	for mark := range 4 {
		fd := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, []int{1, 15001, 1337, 0x7fffffff}[mark]))
		must(t, connect(fd, to))
		if got := fdLine(t, fd); !strings.HasPrefix(got, "proxy4 10.77.0.2:20880 ") {
			t.Errorf("a marked socket reaches %q, want the proxy", got)
		}
	}
	if n := counters(t, d)["exempt"]; n != 1 {
		t.Errorf("exempt = %d, want 1", n)
	}
}

func TestReconnectShowsNothingStale(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d)
	greet(t, "app", b.serve("tcp4", ":9000"))
	a.out["tcp4"].Close()
	fd := a.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err := connect(fd, sockaddr(netip.MustParseAddrPort(vip4+":20880"))); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("connect without a listener = %v, want refused", err)
	}
	must(t, publish(d, 2, []Destination{{Prefix: prefix("10.128.0.0/16"), Port: 20880}}))
	direct := netip.MustParseAddrPort("10.77.0.2:9000")
	must(t, connect(fd, sockaddr(direct)))
	if peer := peername(t, fd); peer != direct {
		t.Errorf("getpeername = %v, want %v", peer, direct)
	}
	if got, want := fdLine(t, fd), "app none "+sockname(t, fd).String(); got != want {
		t.Errorf("the provider sees %q, want %q", got, want)
	}

	// Now from a direct connection to a steered one.
	greet(t, "proxy", a.serve("tcp4", "127.0.0.1:15001"))
	must(t, disconnect(fd))
	if self := sockname(t, fd); self.Addr().String() == "10.77.0.1" && self.Port() == 0 {
		t.Errorf("getsockname of a disconnected socket = %v", self)
	}
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 30}))
	steered := netip.MustParseAddrPort("10.128.0.1:20880")
	must(t, connect(fd, sockaddr(steered)))
	if got, want := fdLine(t, fd), fmt.Sprintf("proxy %s %s", steered, sockname(t, fd)); got != want {
		t.Errorf("the proxy sees %q, want %q", got, want)
	}
}

func TestManyConnectsKeepTheirDestinations(t *testing.T) {
	const conns, workers = 2000, 50
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	var wg sync.WaitGroup
	failures := make(chan string, conns)
	for w := range workers {
		wg.Go(func() {
			a.do(func() {
				for i := w; i < conns; i += workers {
					to := fmt.Sprintf("10.128.%d.%d:20880", i/250, i%250+1)
					c, err := net.DialTimeout("tcp4", to, 30*time.Second)
					if err != nil {
						failures <- err.Error()
						continue
					}
					t.Cleanup(func() { c.Close() })
					buf := make([]byte, 128)
					n, err := c.Read(buf)
					want := fmt.Sprintf("proxy4 %s %s\n", to, c.LocalAddr())
					if got := string(buf[:n]); got != want {
						failures <- fmt.Sprintf("got %q (%v), want %q", got, err, want)
					}
					if c.RemoteAddr().String() != to {
						failures <- fmt.Sprintf("peer %s, want %s", c.RemoteAddr(), to)
					}
				}
			})
		})
	}
	wg.Wait()
	close(failures)
	for f := range failures {
		t.Error(f)
	}
	if n := counters(t, d)["bridged"]; n != conns {
		t.Errorf("bridged = %d, want %d", n, conns)
	}
	s, err := d.Status()
	must(t, err)
	for _, m := range s.Maps {
		if m.Name == bpf.SteerMapBridges && m.Entries != 0 {
			t.Errorf("%d bridges are left, each should have gone as it was read", m.Entries)
		}
	}
}
