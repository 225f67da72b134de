package selftest

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// enter makes a network namespace for the thread, with its loopback.
func enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name lo: %w", err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// cookie is that of the thread's namespace.
func cookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	n, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("ask for the namespace's cookie: %w", err)
	}
	return n, nil
}

// family is a way in which two sockets are joined.
type family struct {
	name           string
	listen, dial   int // address families
	listens, dials [16]byte
}

var families = []family{
	{name: "IPv4", listen: unix.AF_INET, dial: unix.AF_INET, listens: [16]byte{127, 0, 0, 1}, dials: [16]byte{127, 0, 0, 1}},
	{name: "IPv6", listen: unix.AF_INET6, dial: unix.AF_INET6, listens: [16]byte{15: 1}, dials: [16]byte{15: 1}},
	{name: "IPv4 by a socket of IPv6", listen: unix.AF_INET6, dial: unix.AF_INET6, dials: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}},
}

func address(kind int, ip [16]byte, port int) unix.Sockaddr {
	if kind == unix.AF_INET {
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte(ip[:4])}
	}
	return &unix.SockaddrInet6{Port: port, Addr: ip}
}

// connect joins two sockets; mark is called with the one that connects, before.
func (f *family) connect(w *watch, mark func(fd int) error) (dialled, accepted socket, err error) {
	l, err := unix.Socket(f.listen, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return socket{}, socket{}, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(l)
	if err := errors.Join(unix.Bind(l, address(f.listen, f.listens, 0)), unix.Listen(l, 1)); err != nil {
		return socket{}, socket{}, fmt.Errorf("listen: %w", err)
	}
	bound, err := unix.Getsockname(l)
	if err != nil {
		return socket{}, socket{}, fmt.Errorf("ask for address: %w", err)
	}
	port := 0
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	fd, err := unix.Socket(f.dial, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return socket{}, socket{}, fmt.Errorf("make socket: %w", err)
	}
	dialled = socket{w, fd}
	if err := mark(fd); err != nil {
		return dialled, socket{}, err
	}
	if err := unix.Connect(fd, address(f.dial, f.dials, port)); err != nil {
		return dialled, socket{}, fmt.Errorf("connect: %w", err)
	}
	if fd, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC); err != nil {
		return dialled, socket{}, fmt.Errorf("accept: %w", err)
	}
	accepted = socket{w, fd}
	for _, s := range []socket{dialled, accepted} {
		// Keepalive as most applications have it: its timer holds the socket.
		err = errors.Join(err, unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
	}
	return dialled, accepted, err
}

// watch knows when bytes moved last.
type watch struct {
	over  <-chan struct{} // closed when there is no time left
	moved time.Time
}

// late tells whether it is no use to wait any more.
func (w *watch) late() bool {
	select {
	case <-w.over:
		return true
	default:
		return time.Since(w.moved) > patience
	}
}

// socket is a TCP socket that is waited for until its watch says that it is late. Its zero
// value is none.
type socket struct {
	watch *watch
	fd    int
}

func (s socket) close() {
	if s.fd > 0 {
		unix.Close(s.fd)
	}
}

// wait returns when something may have happened, or an error when there is no time left.
func (s socket) wait(events int16) error {
	if s.watch.late() {
		return errLate
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: events}}, 50)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}

var errLate = errors.New("nothing more happens")

// try writes as much as there is room for.
func (s socket) try(b []byte) (int, error) {
	n, err := unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	s.watch.moved = time.Now()
	return n, nil
}

// write writes all, in writes of at most so many bytes.
func (s socket) write(b []byte, most int) error {
	whole := len(b)
	for len(b) > 0 {
		n, err := s.try(b[:min(most, len(b))])
		if err == nil && n == 0 {
			err = s.wait(unix.POLLOUT)
		}
		if err != nil {
			return fmt.Errorf("%d of %d bytes were taken: %w", whole-len(b), whole, err)
		}
		b = b[n:]
	}
	return nil
}

// read reads exactly what is wanted. Bytes behind it are left.
func (s socket) read(want []byte) error {
	at, b := 0, make([]byte, min(64<<10, len(want)))
	for at < len(want) {
		n, _, err := unix.Recvfrom(s.fd, b[:min(len(b), len(want)-at)], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			if err := s.wait(unix.POLLIN); err != nil {
				return fmt.Errorf("%d of %d bytes arrived: %w", at, len(want), err)
			}
			continue
		case err != nil:
			return fmt.Errorf("%d of %d bytes arrived: %w", at, len(want), err)
		case n == 0:
			return fmt.Errorf("%d of %d bytes arrived before the end", at, len(want))
		case !bytes.Equal(b[:n], want[at:at+n]):
			return fmt.Errorf("behind byte %d of %d arrives what was not sent", at, len(want))
		}
		at += n
		s.watch.moved = time.Now()
	}
	return nil
}

// empty says that nothing is there to be read.
func (s socket) empty() error {
	n, _, err := unix.Recvfrom(s.fd, make([]byte, 512), unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return fmt.Errorf("%d bytes arrived that are for somebody else (%w)", n, err)
}

// end reads the end of the connection.
func (s socket) end() error {
	for {
		n, _, err := unix.Recvfrom(s.fd, make([]byte, 1), unix.MSG_DONTWAIT)
		switch {
		case err == nil && n == 0:
			return nil
		case err == nil:
			return errors.New("a byte too many arrived before the end")
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("read: %w", err)
		}
		if err := s.wait(unix.POLLIN); err != nil {
			return fmt.Errorf("the end did not arrive: %w", err)
		}
	}
}
