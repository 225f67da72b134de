// Package sock is a TCP connection as the proxy uses it: reads borrow a buffer
// only while there are bytes, so that an idle connection costs no buffer, and
// writes of whole frames from many goroutines leave in as few system calls as
// there is backpressure for. It knows no protocol.
package sock

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one TCP connection. One goroutine reads; any number may Send.
type Conn struct {
	Reader
	writer

	tcp    *net.TCPConn
	secure atomic.Pointer[secured] // nil: plaintext
}

// New takes ownership of tcp.
func New(tcp *net.TCPConn) (*Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("get raw connection: %w", err)
	}
	c := &Conn{tcp: tcp}
	c.Reader.init(raw)
	c.writer.init(tcp)
	return c, nil
}

// Limit sets what bounds the unfinished bytes that wait to be read whole. Call it
// before the first Fill.
func (c *Conn) Limit(q Quota) { c.quota = q }

// FromFD makes a net.TCPConn of a descriptor and closes the descriptor.
func FromFD(fd int) (*net.TCPConn, error) {
	c, err := FromFile(os.NewFile(uintptr(fd), "tcp"))
	if err != nil {
		return nil, err
	}
	return c.tcp, nil
}

// FromFile makes a Conn of a file, which it closes.
func FromFile(f *os.File) (*Conn, error) {
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take socket: %w", err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("take socket: %T is not a TCP connection", c)
	}
	return New(tcp)
}

// TCP returns the connection itself, for what this package does not do.
func (c *Conn) TCP() *net.TCPConn { return c.tcp }

// Remote returns the peer's address, never v4-mapped.
func (c *Conn) Remote() netip.AddrPort { return AddrPort(c.tcp.RemoteAddr()) }

// Local returns the own address, never v4-mapped.
func (c *Conn) Local() netip.AddrPort { return AddrPort(c.tcp.LocalAddr()) }

// AddrPort returns a's address and port, never v4-mapped; the zero value if a
// is not a TCP address.
func AddrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Close ends the connection; blocked Sends and Fills return.
func (c *Conn) Close() error {
	idle := c.writer.fail(net.ErrClosed)
	if s := c.secure.Load(); s != nil && idle {
		s.farewell()
	}
	return c.close()
}

func (c *Conn) close() error {
	if err := c.tcp.Close(); err != nil {
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}

// Done ends what Acquire began. An error leaves the peer with half a frame: the
// connection ends, so that its reader and the peer know.
func (c *Conn) Done(err error) error {
	broken := c.writer.Done(err)
	if err != nil {
		_ = c.Reset()
	}
	return broken
}

// Drained waits until everything that was sent has been written.
func (c *Conn) Drained() {
	if c.Acquire() == nil {
		_ = c.Done(nil)
	}
}

// Reset ends the connection with a RST: the peer shall know that what it
// reached is dead.
func (c *Conn) Reset() error {
	_ = c.tcp.SetLinger(0)
	c.writer.fail(net.ErrClosed)
	return c.close() // without a farewell, which TLS would take for an end as it should be
}

// Silence returns for how long nothing has moved on the connection either way, as its
// kernel knows; 0 if that cannot be told.
func (c *Conn) Silence() time.Duration {
	var silent time.Duration
	_ = c.raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			silent = time.Duration(min(info.Last_data_recv, info.Last_data_sent)) * time.Millisecond
		}
	})
	return silent
}

// Interrupt makes a blocked or later Fill return os.ErrDeadlineExceeded, until
// Resume.
func (c *Conn) Interrupt() { _ = c.tcp.SetReadDeadline(time.Unix(1, 0)) }

// Within makes a Fill return os.ErrDeadlineExceeded if nothing comes in time.
func (c *Conn) Within(d time.Duration) { _ = c.tcp.SetReadDeadline(time.Now().Add(d)) }

// Resume undoes Interrupt and Within.
func (c *Conn) Resume() { _ = c.tcp.SetReadDeadline(time.Time{}) }

// Peek waits until there are more than seen bytes and copies the first of them
// to b without consuming them. It returns no more than seen when the peer has
// closed its side behind them, and os.ErrDeadlineExceeded after wait (0: no limit).
func (c *Conn) Peek(b []byte, seen int, wait time.Duration) (int, error) {
	if c.Reader.secure != nil {
		return c.peek(b, seen, wait)
	}
	if wait > 0 {
		_ = c.tcp.SetReadDeadline(time.Now().Add(wait))
		defer func() { _ = c.tcp.SetReadDeadline(time.Time{}) }()
	}
	var n int
	var err error
	waitErr := c.raw.Read(func(fd uintptr) bool {
		// Asked before the bytes: those in front of the end are seen too.
		ended := seen > 0 && endsHere(int(fd))
		n, _, err = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return false
		}
		return err != nil || n == 0 || n > seen || ended
	})
	if waitErr != nil {
		return 0, waitErr
	}
	if err != nil {
		return 0, fmt.Errorf("peek: %w", err)
	}
	return n, nil
}

// endsHere tells whether the peer has closed its side.
func endsHere(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}
