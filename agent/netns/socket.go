package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Backlog is how many connections wait in a listener while the proxy is away;
// the kernel may allow fewer (net.core.somaxconn of the pod).
const Backlog = 4096

// Listen opens a plain TCP listener (never MPTCP, which maps of sockets refuse)
// at an address of the namespace. An IPv6 listener takes IPv6 only.
func (n *Namespace) Listen(at netip.AddrPort) (*Socket, error) {
	var result *Socket
	err := n.Do(func() error {
		fd, err := socket(at.Addr())
		if err != nil {
			return err
		}
		if err := listen(fd, at); err != nil {
			_ = unix.Close(fd)
			return err
		}
		result = Keep(fd)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return result, nil
}

func listen(fd int, at netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if !at.Addr().Is4() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("set IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, Backlog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// Dial starts to connect a TCP socket of the namespace. prepare runs before
// connect, with the thread still in the namespace. The descriptor is the
// caller's, non-blocking, and may still be connecting.
func (n *Namespace) Dial(to netip.AddrPort, prepare func(fd int) error) (int, error) {
	result := -1
	err := n.Do(func() error {
		fd, err := socket(to.Addr())
		if err != nil {
			return err
		}
		if err := connect(fd, to, prepare); err != nil {
			_ = unix.Close(fd)
			return err
		}
		result = fd
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("dial %s: %w", to, err)
	}
	return result, nil
}

func connect(fd int, to netip.AddrPort, prepare func(fd int) error) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if err := prepare(fd); err != nil {
		return err
	}
	for {
		err := unix.Connect(fd, sockaddr(to))
		switch {
		case err == nil, errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EALREADY):
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("connect: %w", err)
		}
	}
}

// HasIPv6 tells whether IPv6 sockets can be bound in the namespace: the kernel
// has it, and its loopback device has ::1.
func (n *Namespace) HasIPv6() bool {
	return n.Do(func() error {
		loopback := netip.AddrPortFrom(netip.IPv6Loopback(), 0)
		fd, err := socket(loopback.Addr())
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Bind(fd, sockaddr(loopback))
	}) == nil
}

// CheckListener tells whether a socket is a TCP listener of this namespace at
// the given address. A nil error means yes.
func (n *Namespace) CheckListener(s *Socket, at netip.AddrPort) error {
	return s.use(func(fd int) error { return n.checkListener(fd, at) })
}

func (n *Namespace) checkListener(fd int, at netip.AddrPort) error {
	for _, want := range []struct {
		name          string
		option, value int
	}{
		{"SO_TYPE", unix.SO_TYPE, unix.SOCK_STREAM},
		{"SO_PROTOCOL", unix.SO_PROTOCOL, unix.IPPROTO_TCP},
		{"SO_ACCEPTCONN", unix.SO_ACCEPTCONN, 1},
	} {
		got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil {
			return fmt.Errorf("get %s: %w", want.name, err)
		}
		if got != want.value {
			return fmt.Errorf("%s is %d, not %d", want.name, got, want.value)
		}
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("get address: %w", err)
	}
	if got := addrPort(local); got != at {
		return fmt.Errorf("it listens on %s, not %s", got, at)
	}
	id, err := Of(fd)
	if err != nil {
		return err
	}
	if id != n.id {
		return errors.New("it belongs to another network namespace")
	}
	return nil
}

func socket(addr netip.Addr) (int, error) {
	family := unix.AF_INET6
	if addr.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Socket makes an unconnected TCP socket, to ask the kernel about the namespace.
func (n *Namespace) Socket() (*Socket, error) {
	var result *Socket
	err := n.Do(func() error {
		fd, err := socket(netip.IPv4Unspecified())
		result = Keep(fd)
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}
