package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What accepts a connection that the agent dialled for a consumer sees that
// consumer, from accept() and from getpeername(), whatever its listener is.
func TestProviderSeesItsConsumer(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, _ := r.steer(d)
	var dual, plain4, plain6 net.Listener
	a.do(func() {
		var err error
		// A Go server's own default: dual-stack, MPTCP where the kernel has it.
		dual, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", ":9001")
		must(t, err)
	})
	t.Cleanup(func() { dual.Close() })
	plain4, plain6 = a.serve("tcp4", "10.77.0.1:9002"), a.serve("tcp6", "[fd77::1]:9003")
	for _, test := range []struct {
		name   string
		l      net.Listener
		to     string
		client string
	}{
		{"ipv4", plain4, "10.77.0.1:9002", "10.77.0.2:40001"},
		{"ipv6", plain6, "[fd77::1]:9003", "[fd77::2]:40002"},
		{"dual-stack by ipv4", dual, "10.77.0.1:9001", "10.77.0.2:40003"},
		{"dual-stack by ipv6", dual, "[fd77::1]:9001", "[fd77::2]:40004"},
		{"no client", plain4, "10.77.0.1:9002", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := netip.MustParseAddrPort(test.to)
			family := familyOf(to.Addr())
			fd := a.socket(family, unix.SOCK_STREAM, 0)
			client := netip.AddrPort{}
			if test.client != "" {
				client = netip.MustParseAddrPort(test.client)
			}
			must(t, d.MarkSocket(fd, client))
			must(t, connect(fd, sockaddr(to)))
			c, err := test.l.Accept() // asks accept4() for the address
			must(t, err)
			defer c.Close()
			want := client
			if !client.IsValid() {
				want = sockname(t, fd)
			}
			if got := c.RemoteAddr().String(); got != want.String() {
				t.Errorf("accept = %s, want %s", got, want)
			}
			must(t, control(c.(*net.TCPConn), func(accepted int) error {
				if got := peername(t, accepted); netip.AddrPortFrom(got.Addr().Unmap(), got.Port()) != want {
					t.Errorf("getpeername = %v, want %v", got, want)
				}
				if got := sockname(t, accepted); netip.AddrPortFrom(got.Addr().Unmap(), got.Port()) != to {
					t.Errorf("getsockname = %v, want %v", got, to)
				}
				return nil
			}))
			if got := originalDst(c.(*net.TCPConn)); got != "none" {
				t.Errorf("original destination = %s, want none", got)
			}
			if got := peername(t, fd); got != to {
				t.Errorf("the dialling side's peer = %v, want %v", got, to)
			}
		})
	}
}

func TestLookupTakesEnrolledPorts(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.pods()
	must(t, d.SetWorkload(b.workload(d, 20880)))
	for _, network := range []string{"tcp4", "tcp6"} {
		greet(t, "inbound", b.in[network])
		greet(t, "app", b.serve(network, ":20880"))
		greet(t, "admin", b.serve(network, ":22222"))
	}
	for _, test := range []struct {
		from          *pod
		to, want, why string
	}{
		{a, "10.77.0.2:20880", "inbound", "lookup_assigned"},
		{a, "[fd77::2]:20880", "inbound", "lookup_assigned"},
		{a, "10.77.0.2:22222", "admin", "lookup_passed"},
		{a, "[fd77::2]:22222", "admin", "lookup_passed"},
		{b, "10.77.0.2:20880", "app", "lookup_self"},
		{b, "[fd77::2]:20880", "app", "lookup_self"},
		{b, "127.0.0.1:20880", "app", "lookup_self"},
		{b, "[::1]:20880", "app", "lookup_self"},
	} {
		before := counters(t, d)
		c, err := test.from.dial("tcp", test.to)
		must(t, err)
		if got, want := line(t, c), fmt.Sprintf("%s none %s", test.want, c.LocalAddr()); got != want {
			t.Errorf("%s answers %q, want %q", test.to, got, want)
		}
		if n := counters(t, d)[test.why] - before[test.why]; n != 1 {
			t.Errorf("%s: %s counted %d times, want 1", test.to, test.why, n)
		}
	}

	// The agent calls the pod's application in its own namespace.
	fd := b.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(t, d.MarkSocket(fd, netip.MustParseAddrPort("10.9.9.9:1234")))
	must(t, connect(fd, sockaddr(netip.MustParseAddrPort("10.77.0.2:20880"))))
	if got, want := fdLine(t, fd), "app none 10.9.9.9:1234"; got != want {
		t.Errorf("the application answers %q, want %q", got, want)
	}

	// The port is given back: the application serves it again.
	must(t, d.SetWorkload(b.workload(d)))
	a.dialLine(t, "10.77.0.2:20880", "app")
}

func TestEnrolledPortWithoutItsListenerIsRefused(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.pods()
	must(t, d.SetWorkload(b.workload(d, 20880)))
	greet(t, "app", b.serve("tcp4", ":20880"))
	b.in["tcp4"].Close()
	if _, err := a.dial("tcp4", "10.77.0.2:20880"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial = %v, want refused: inbound fails closed", err)
	}
	must(t, d.DeleteWorkload(b.cookie))
	a.dialLine(t, "10.77.0.2:20880", "app")
}

// Finished pods keep their address in the API and other networks reuse it: the
// namespace decides, not the address.
func TestTwoPodsWithOneAddress(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.pods()
	_, twin := r.pods()
	must(t, d.SetWorkload(b.workload(d, 20880)))
	must(t, d.SetWorkload(twin.workload(d, 20880)))
	greet(t, "inbound-b", b.in["tcp4"])
	greet(t, "inbound-twin", twin.in["tcp4"])
	a.dialLine(t, "10.77.0.2:20880", "inbound-b")
	must(t, d.DeleteWorkload(twin.cookie))
	a.dialLine(t, "10.77.0.2:20880", "inbound-b")
}

func TestSetWorkloadIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	d := r.open()
	_, b := r.pods()
	w := b.workload(d, 20880)
	w.Listeners = w.Listeners[:0]
	if err := d.SetWorkload(w); err == nil || !strings.Contains(err.Error(), "no listener on port 15006") {
		t.Errorf("ports without a listener: %v", err)
	}
	w.Listeners = []syscall.Conn{b.out["tcp4"], b.serve("tcp4", ":9000")}
	if err := d.SetWorkload(w); err == nil || !strings.Contains(err.Error(), "port 9000") {
		t.Errorf("a listener on another port: %v", err)
	}
	wantNothing(t, d)
}

func TestMPTCPListenerIsRefused(t *testing.T) {
	r := newRig(t)
	d := r.open()
	_, b := r.pods()
	b.mptcpSocket() // or skip
	mptcp := net.ListenConfig{}
	mptcp.SetMultipathTCP(true)
	var l net.Listener
	b.in["tcp4"].Close()
	b.do(func() {
		var err error
		l, err = mptcp.Listen(context.Background(), "tcp4", ":15006")
		must(t, err)
	})
	defer l.Close()
	w := b.workload(d, 20880)
	w.Listeners = []syscall.Conn{b.out["tcp4"], l.(*net.TCPListener)}
	if err := d.SetWorkload(w); err == nil || !strings.Contains(err.Error(), "MPTCP") {
		t.Errorf("an MPTCP listener: %v", err)
	}
	wantNothing(t, d)
}

// wantNothing wants no trace of refused workloads.
func wantNothing(t *testing.T, d *Datapath) {
	t.Helper()
	s, err := d.Status()
	must(t, err)
	for _, m := range s.Maps {
		if m.Entries > 0 {
			t.Errorf("map %s has %d entries after refusals", m.Name, m.Entries)
		}
	}
	if len(s.Programs) != len(hooks) {
		t.Errorf("%d programs after refusals, want %d", len(s.Programs), len(hooks))
	}
}

// An MPTCP client is steered by its subflow, which is a TCP socket, and falls
// back to TCP at the proxy. Its names are asked of the MPTCP socket, whose state
// no program finds: it sees the listener. connect.h says so.
func TestMPTCPClient(t *testing.T) {
	r := newRig(t)
	d := r.open()
	a, b := r.steer(d)
	var l net.Listener
	b.do(func() {
		var err error
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", ":20880")
		must(t, err)
	})
	defer l.Close()
	greet(t, "app", l.(*net.TCPListener))
	fd := a.mptcpSocket()
	must(t, connect(fd, sockaddr(netip.MustParseAddrPort("10.77.0.2:20880"))))
	if got := fdLine(t, fd); !strings.HasPrefix(got, "proxy4 10.77.0.2:20880 10.77.0.1:") {
		t.Errorf("an MPTCP client reaches %q, want the proxy", got)
	}
	if peer, want := peername(t, fd), netip.MustParseAddrPort("127.0.0.1:15001"); peer != want {
		t.Errorf("getpeername = %v, want %v: then connect.h is outdated", peer, want)
	}
}

func (p *pod) mptcpSocket() int {
	p.t.Helper()
	fd := -1
	var err error
	p.do(func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) })
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT) {
		p.t.Skip("the kernel has no MPTCP (CONFIG_MPTCP, net.mptcp.enabled)")
	}
	must(p.t, err)
	p.t.Cleanup(func() { unix.Close(fd) })
	return fd
}
