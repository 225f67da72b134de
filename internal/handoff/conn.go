package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff/rights"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/internal/peer"
)

// network is SOCK_SEQPACKET: one message is one packet, and the descriptors
// that belong to it arrive with it.
const network = "unixpacket"

// sendTimeout bounds how long a peer that does not read holds a sender up.
const sendTimeout = 10 * time.Second

// maxFDs is one more than any message has, so that too many are seen as such.
const maxFDs = max(maxListeners, lane.Files, 1+lane.Ends) + 1

// Acceptor accepts connections of proxies.
type Acceptor struct {
	l *net.UnixListener
}

// Listen makes the socket at path, which only owner (and root) may connect to.
// Without CAP_CHOWN anybody may: who it is, PeerUID tells. A socket left there
// by a dead agent is replaced.
func Listen(path string, owner int) (*Acceptor, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on handoff socket: %w", err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on handoff socket: %w", err)
	}
	// In this order: once it is somebody else's, its mode takes CAP_FOWNER to change.
	err = errors.Join(os.Chmod(path, 0o600), os.Lchown(path, owner, -1))
	if errors.Is(err, os.ErrPermission) {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on handoff socket: %w", err)
	}
	return &Acceptor{l: l}, nil
}

// Accept waits for the next connection.
func (a *Acceptor) Accept() (*Conn, error) {
	c, err := a.l.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept handoff connection: %w", err)
	}
	return newConn(c)
}

// Close stops accepting and removes the socket.
func (a *Acceptor) Close() error {
	if err := a.l.Close(); err != nil {
		return fmt.Errorf("close handoff socket: %w", err)
	}
	return nil
}

// Conn is one connection between an agent and a proxy. Any number of goroutines
// may Send, one Receives.
type Conn struct {
	unix *net.UnixConn
	peer unix.Ucred

	send sync.Mutex // packets need no lock, deadlines do
	buf  []byte
	oob  []byte
}

// Connect connects to the agent's socket.
func Connect(ctx context.Context, path string) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, path)
	if err != nil {
		return nil, fmt.Errorf("connect to handoff socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("connect to handoff socket: %T is not a unix connection", c)
	}
	return newConn(u)
}

func newConn(u *net.UnixConn) (*Conn, error) {
	c := &Conn{unix: u, buf: make([]byte, MaxMessage+1), oob: make([]byte, unix.CmsgSpace(maxFDs*4))}
	cred, err := peer.Of(u)
	if err == nil {
		c.peer = cred
		return c, nil
	}
	_ = u.Close()
	return nil, fmt.Errorf("read peer credentials: %w", err)
}

// PeerUID returns the user that the peer ran as when it connected or listened.
func (c *Conn) PeerUID() int { return int(c.peer.Uid) }

// PeerPID returns the peer's process id, 0 if it is in another pid namespace.
func (c *Conn) PeerPID() int { return int(c.peer.Pid) }

// Close ends the connection; a blocked Receive returns.
func (c *Conn) Close() error {
	if err := c.unix.Close(); err != nil {
		return fmt.Errorf("close handoff connection: %w", err)
	}
	return nil
}

// Send writes one message. The peer gets duplicates of fds, which stay the
// caller's. Their number must be the one that m calls for.
func (c *Conn) Send(m *Message, fds ...int) error {
	packet, err := Encode(m)
	if err != nil {
		return err
	}
	if len(fds) != m.fds() {
		return fmt.Errorf("send %s: %d descriptors instead of %d", m.Kind, len(fds), m.fds())
	}
	if err := c.SendPacket(packet, fds...); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return nil
}

// SendPacket writes what is no Message, for another seam of the same kind. The peer
// gets duplicates of fds.
func (c *Conn) SendPacket(packet []byte, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	if err := c.unix.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, _, err := c.unix.WriteMsgUnix(packet, oob, nil); err != nil {
		return fmt.Errorf("write packet: %w", err)
	}
	return nil
}

// Receive waits for the next message. The descriptors, close-on-exec, are the
// caller's and exactly as many as the message calls for. After any error the
// connection is of no more use; the end of it is io.EOF.
func (c *Conn) Receive() (*Message, []int, error) {
	packet, fds, err := c.ReceivePacket()
	if err != nil {
		return nil, nil, fmt.Errorf("receive message: %w", err)
	}
	m, err := Decode(packet)
	if err == nil && len(fds) != m.fds() {
		err = fmt.Errorf("receive %s: %d descriptors instead of %d", m.Kind, len(fds), m.fds())
	}
	if err != nil {
		rights.Close(fds)
		return nil, nil, err
	}
	return m, fds, nil
}

// ReceivePacket waits for what SendPacket wrote. The packet is valid until the next
// call; the descriptors, close-on-exec, are the caller's.
func (c *Conn) ReceivePacket() ([]byte, []int, error) {
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(c.buf, c.oob)
	if err != nil {
		return nil, nil, fmt.Errorf("read packet: %w", err)
	}
	fds, err := rights.Parse(c.oob[:oobn])
	switch {
	case err != nil:
	case flags&syscall.MSG_TRUNC != 0:
		err = ErrTooLarge
	case flags&syscall.MSG_CTRUNC != 0:
		err = errors.New("too many descriptors, or no room for them in this process")
	}
	if err != nil {
		rights.Close(fds)
		return nil, nil, err
	}
	return c.buf[:n], fds, nil
}
