// Package netns makes sockets in the network namespace of a pod. A socket's
// namespace is fixed when it is made, so only the making happens there: on a
// thread of its own, which goes back afterwards or ends.
//
// It decides nothing: which address may be dialled, and who gets the socket, is
// its caller's business.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is the path of the calling thread's own network namespace.
const Self = "/proc/thread-self/ns/net"

// Namespace is an open network namespace. It lives as long as it is open, even
// when the pod's processes are gone and its path names another one. Its methods
// may be called concurrently, except Close.
type Namespace struct {
	file *os.File
	id   ID
}

// ID tells namespaces apart while they live.
type ID struct {
	Device, Inode uint64
}

// Open opens the network namespace at path: /proc/PID/ns/net or a mount of one.
func Open(path string) (*Namespace, error) {
	// O_NONBLOCK, for a path that turns out to be a pipe.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	n := &Namespace{file: file}
	if err := n.identify(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return n, nil
}

// identify checks that the file is a network namespace and reads its identity.
func (n *Namespace) identify() error {
	return control(n.file, func(fd int) error {
		kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
		if err != nil || kind != unix.CLONE_NEWNET {
			return errors.New("it is not a network namespace")
		}
		n.id, err = identity(fd)
		return err
	})
}

// ID returns the namespace's identity.
func (n *Namespace) ID() ID { return n.id }

// SyscallConn gives access to the open file, for the datapath.
func (n *Namespace) SyscallConn() (syscall.RawConn, error) {
	c, err := n.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("get raw connection: %w", err)
	}
	return c, nil
}

// Close lets go of the namespace.
func (n *Namespace) Close() error {
	if err := n.file.Close(); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// Do runs f on a thread that is in the namespace. f must not start goroutines
// that expect to be there.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	// A goroutine of its own: if the thread cannot go back, the goroutine ends
	// while locked to it, and the runtime destroys the thread.
	go func() { done <- n.do(f) }()
	return <-done
}

func (n *Namespace) do(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open(Self)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() { _ = own.Close() }()
	if err := enter(n.file); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if enter(own) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

func enter(file *os.File) error {
	return control(file, func(fd int) error { return unix.Setns(fd, unix.CLONE_NEWNET) })
}

// Of returns the identity of the namespace that a socket was made in.
func Of(socket int) (ID, error) {
	fd, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return ID{}, fmt.Errorf("get network namespace of socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return identity(fd)
}

func identity(fd int) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ID{}, fmt.Errorf("stat network namespace: %w", err)
	}
	return ID{Device: st.Dev, Inode: st.Ino}, nil
}

// control runs f with the descriptor of c.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("get raw connection: %w", err)
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return fmt.Errorf("use descriptor: %w", err)
	}
	return result
}
