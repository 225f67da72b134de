package netns_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/netns/netnstest"
)

func TestOpenRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, "/proc/self/ns/mnt", "/proc/self/ns/none", "/dev/null"} {
		if ns, err := netns.Open(path); err == nil {
			t.Errorf("%s opened as %v", path, ns.ID())
		}
	}
}

func TestDoGoesBack(t *testing.T) {
	ns := netnstest.New(t)
	before := self(t)
	for range 100 {
		ns.Must(func() error {
			if self(t) != ns.ID() {
				return errors.New("not in the namespace")
			}
			return nil
		})
		if self(t) != before {
			t.Fatal("left in another namespace")
		}
	}
}

func self(t *testing.T) netns.ID {
	t.Helper()
	own, err := netns.Open(netns.Self)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	return own.ID()
}

func TestListenAndCheck(t *testing.T) {
	a, b := netnstest.New(t), netnstest.New(t)
	for _, text := range []string{"127.0.0.1:15001", "0.0.0.0:15006", "[::1]:15001", "[::]:15006"} {
		at := netip.MustParseAddrPort(text)
		l, err := a.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := a.CheckListener(l, at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if err := b.CheckListener(l, at); err == nil || !strings.Contains(err.Error(), "another network namespace") {
			t.Errorf("%s in another namespace: %v", at, err)
		}
		if err := a.CheckListener(l, netip.AddrPortFrom(at.Addr(), 1)); err == nil {
			t.Errorf("%s taken for one at another port", at)
		}
		if _, err := a.Listen(at); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s opened twice: %v", at, err)
		}
	}
	if !a.HasIPv6() {
		t.Error("a namespace with ::1 is said to have no IPv6")
	}
}

func TestCheckListenerRefuses(t *testing.T) {
	a := netnstest.New(t)
	at := netip.MustParseAddrPort("127.0.0.1:15001")
	open := func(kind, protocol int, listen bool) *netns.Socket {
		var s *netns.Socket
		a.Must(func() error {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
			if err != nil {
				return err
			}
			s = netns.Keep(fd)
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 15001, Addr: [4]byte{127, 0, 0, 1}}); err != nil || !listen {
				return err
			}
			return unix.Listen(fd, 1)
		})
		return s
	}
	for name, c := range map[string]struct {
		kind, protocol int
		listen         bool
	}{
		"udp":       {unix.SOCK_DGRAM, 0, false},
		"bound":     {unix.SOCK_STREAM, 0, false},
		"multipath": {unix.SOCK_STREAM, unix.IPPROTO_MPTCP, true},
	} {
		if c.protocol == unix.IPPROTO_MPTCP && !hasMultipath() {
			continue // nothing to mistake
		}
		s := open(c.kind, c.protocol, c.listen)
		if err := a.CheckListener(s, at); err == nil {
			t.Errorf("%s socket taken for a listener", name)
		}
		s.Close()
		if err := a.CheckListener(s, at); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
	shut := open(unix.SOCK_STREAM, 0, true)
	defer shut.Close()
	if err := a.CheckListener(shut, at); err != nil {
		t.Fatal(err)
	}
	if err := shut.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	if err := a.CheckListener(shut, at); err == nil {
		t.Error("a listener that was shut down is taken for one")
	}
}

func hasMultipath() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// TestDial connects through a veth: the connection is the pod's own, prepared
// before its SYN, non-blocking and without Nagle's delay.
func TestDial(t *testing.T) {
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Join(a, b)
	a.Add("eth0", "10.97.0.1/24", "fd97::1/64")
	b.Add("eth0", "10.97.0.2/24", "fd97::2/64")
	for _, text := range []string{"10.97.0.2:7", "[fd97::2]:7"} {
		to := netip.MustParseAddrPort(text)
		var l net.Listener
		b.Must(func() (err error) { l, err = net.Listen("tcp", text); return err })
		defer l.Close()
		prepared := false
		fd, err := a.Dial(to, func(fd int) error {
			prepared = true
			if _, err := unix.Getpeername(fd); err == nil {
				return errors.New("connected already")
			}
			return nil
		})
		if err != nil || !prepared {
			t.Fatalf("dial %s: %v, prepared %v", to, err, prepared)
		}
		if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
			t.Error("the socket blocks")
		}
		if on, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 {
			t.Error("TCP_NODELAY is off")
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != netip.MustParseAddr("10.97.0.1") &&
			from != netip.MustParseAddr("fd97::1") {
			t.Errorf("%s sees %s", to, from)
		}
		c.Close()
		unix.Close(fd)
	}
	refused := errors.New("refused by prepare")
	if fd, err := a.Dial(netip.MustParseAddrPort("10.97.0.2:7"), func(int) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("dial whose preparation fails: %d, %v", fd, err)
	}
}

func TestUnicast(t *testing.T) {
	a := netnstest.New(t)
	netnstest.Join(a, netnstest.New(t))
	a.Add("eth0", "10.97.0.1/24", "10.97.0.9/24", "fd97::1/64")
	for text, want := range map[string]bool{
		"10.97.0.2": true, "fd97::2": true,
		"10.97.0.1": false, "10.97.0.9": false, "fd97::1": false, // its own
		"10.97.0.255": false, "127.0.0.1": false, "127.9.9.9": false, "::1": false,
	} {
		a.Must(func() error {
			// The kernel adds a new IPv6 address's own route a moment later.
			got, err := netns.Unicast(netip.MustParseAddr(text))
			for range 3000 {
				if got == want {
					return nil
				}
				time.Sleep(10 * time.Millisecond)
				got, err = netns.Unicast(netip.MustParseAddr(text))
			}
			t.Errorf("%s: %v (%v), want %v", text, got, err, want)
			return nil
		})
	}
	a.Must(func() error {
		if got, err := netns.Unicast(netip.MustParseAddr("192.0.2.1")); got || err == nil {
			t.Errorf("an address without a route: %v, %v", got, err)
		}
		return nil
	})
	addresses, err := a.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.97.0.1", "10.97.0.9", "fd97::1", "127.0.0.1", "::1"} {
		found := false
		for _, got := range addresses {
			found = found || got == netip.MustParseAddr(want)
		}
		if !found {
			t.Errorf("%s is not among %v", want, addresses)
		}
	}
}

// TestProcessAddresses: what /proc shows of this process is what its devices have.
func TestProcessAddresses(t *testing.T) {
	own, err := netns.Open(netns.Self)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	want, err := own.Addresses()
	if err != nil || len(want) == 0 {
		t.Fatalf("own addresses: %v, %v", want, err)
	}
	got, err := netns.ProcessAddresses(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range want {
		if !slices.Contains(got, a) {
			t.Errorf("%s is not among %v", a, got)
		}
	}
	if _, err := netns.ProcessAddresses(-1); err == nil {
		t.Error("a process that does not exist has addresses")
	}
}
