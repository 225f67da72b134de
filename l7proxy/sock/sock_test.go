package sock

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestFromFD(t *testing.T) {
	c, peer := pair(t)
	f, err := c.TCP().File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	twin, err := New(tcp)
	if err != nil {
		t.Fatal(err)
	}
	if twin.Local() != c.Local() || twin.Remote() != c.Remote() || twin.Remote() != AddrPort(peer.LocalAddr()) {
		t.Errorf("the connection of a descriptor is %v to %v, want %v to %v", twin.Local(), twin.Remote(), c.Local(), c.Remote())
	}
	if err := twin.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("Read = %d, %v", n, err)
	}
}

func TestFromFDOfOthers(t *testing.T) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[1])
	if _, err = FromFD(fds[0]); err == nil {
		t.Error("a unix socket became a TCP connection")
	}
	// Every descriptor of it was closed: the other end sees the end.
	if n, err := syscall.Read(fds[1], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the other end reads %d, %v; want its end", n, err)
	}
}

func TestAddrPort(t *testing.T) {
	tests := []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1"), Port: 1}, "10.0.0.1:1"},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: 2}, "10.0.0.1:2"},
		{&net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 3}, "[fd00::1]:3"},
	}
	for _, test := range tests {
		if got := AddrPort(test.addr); got.String() != test.want {
			t.Errorf("AddrPort(%v) = %v, want %s", test.addr, got, test.want)
		}
	}
	if got := AddrPort(&net.UnixAddr{Name: "x"}); got != (netip.AddrPort{}) {
		t.Errorf("AddrPort of a unix address = %v", got)
	}
}
