package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/bpf"
)

// MarkSocket makes a TCP socket the mesh's own: its connects are never steered.
// It must be called before connect. If client is valid, the application that
// accepts the connection in the same namespace sees client as its peer.
func (d *Datapath) MarkSocket(fd int, client netip.AddrPort) error {
	state := bpf.SteerSocket{Role: bpf.SteerSocketRoleMesh}
	if client.IsValid() {
		state.Flow.Consumer = bpf.SteerEndpoint{Addr: words(client.Addr()), Port: swap16(client.Port())}
	}
	if err := d.maps.Sockets.Put(uint32(fd), &state); err != nil {
		return fmt.Errorf("mark socket: %w", err)
	}
	return nil
}

// Sockets is the map of what is known of sockets, which the lanes' programs share. It is
// the Datapath's.
func (d *Datapath) Sockets() *ebpf.Map { return d.maps.Sockets }

// NetnsCookie returns the identity of a socket's network namespace, by which
// the programs know it: the kernel's cookie, or the namespace's inode number
// where sockops programs cannot ask for the cookie (before 5.15).
func (d *Datapath) NetnsCookie(socket syscall.Conn) (uint64, error) {
	var cookie uint64
	err := control(socket, func(fd int) (err error) {
		if d.kernel.byInode {
			cookie, err = netnsInode(fd)
		} else {
			cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		}
		return os.NewSyscallError("ask socket", err)
	})
	if err != nil {
		return 0, fmt.Errorf("get netns cookie: %w", err)
	}
	return cookie, nil
}

func netnsInode(socket int) (uint64, error) {
	ns, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return 0, fmt.Errorf("open netns of socket: %w", err)
	}
	defer unix.Close(ns)
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return 0, fmt.Errorf("stat netns: %w", err)
	}
	return st.Ino, nil
}

type listener struct {
	family int
	port   uint16
}

// inspectListener tells what a listening socket listens on.
func inspectListener(c syscall.Conn) (listener, error) {
	var found listener
	err := control(c, func(fd int) error {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			return errors.Join(errors.New("not listening"), err)
		}
		name, err := unix.Getsockname(fd)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		switch name := name.(type) {
		case *unix.SockaddrInet4:
			found = listener{unix.AF_INET, uint16(name.Port)}
		case *unix.SockaddrInet6:
			found = listener{unix.AF_INET6, uint16(name.Port)}
		default:
			return fmt.Errorf("not an IP socket: %T", name)
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("inspect listener: %w", err)
	}
	return found, nil
}

// control runs f with the descriptor of c, which stays non-blocking and c's.
func control(c syscall.Conn, f func(fd int) error) error {
	if c == nil {
		return errors.New("no file")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("use file: %w", err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return fmt.Errorf("use file: %w", err)
	}
	return inner
}
