package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/peer"
)

// Network is the kind of the socket, in package net's words: SOCK_SEQPACKET, on which
// a packet is a message and its descriptors arrive with it.
const Network = "unixpacket"

// ErrPeer is returned for a peer that is not root.
var ErrPeer = errors.New("peer is not root")

// nsfsMagic is the type of the file system of namespaces, of linux/magic.h.
const nsfsMagic = 0x6e736673

// Conn is one connection, for one request and its answer. Not for concurrent use,
// Close excepted.
type Conn struct {
	unix *net.UnixConn
	peer unix.Ucred
}

// Dial connects to the agent's socket and makes sure that root listens there: whoever
// else did would be given pods' network namespaces.
func Dial(ctx context.Context, socket string) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, Network, socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("connect to the agent: %T is not a unix connection", c)
	}
	return New(u)
}

// New takes over a connection whose peer is root; any other it closes, with ErrPeer.
func New(u *net.UnixConn) (*Conn, error) {
	cred, err := peer.Of(u)
	if err == nil && cred.Uid != 0 {
		err = fmt.Errorf("%w: process %d runs as user %d", ErrPeer, cred.Pid, cred.Uid)
	}
	if err == nil {
		return &Conn{unix: u, peer: cred}, nil
	}
	_ = u.Close()
	return nil, fmt.Errorf("check peer: %w", err)
}

// PeerPID is the peer's process id, 0 if it is in a pid namespace that is not below ours.
func (c *Conn) PeerPID() int { return int(c.peer.Pid) }

// Close ends the connection.
func (c *Conn) Close() error {
	if err := c.unix.Close(); err != nil {
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}

// Ask sends a request and waits until ctx ends for the answer. The namespace stays the
// caller's; it is nil for verbs without one.
func (c *Conn) Ask(ctx context.Context, r *Request, namespace *os.File) (*Answer, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.unix.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	packet, err := EncodeRequest(r)
	if err != nil {
		return nil, err
	}
	var rights []byte
	if namespace != nil {
		rights = unix.UnixRights(int(namespace.Fd()))
	}
	if (namespace != nil) != (r.namespaces() == 1) {
		return nil, fmt.Errorf("ask %s: a namespace travels with add and check alone", r.Verb)
	}
	if _, _, err := c.unix.WriteMsgUnix(packet, rights, nil); err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("send request: %w", err))
	}
	buf := make([]byte, MaxMessage+1)
	n, err := c.unix.Read(buf)
	if err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("receive answer: %w", err))
	}
	return DecodeAnswer(buf[:n])
}

// Receive waits for the request. The namespace is the caller's, nil for verbs without
// one. An error that Answer may still tell is ErrVersion.
func (c *Conn) Receive() (*Request, *os.File, error) {
	buf := make([]byte, MaxMessage+1)
	// Room for one more than there may be: a second one is seen, and closed.
	oob := make([]byte, unix.CmsgSpace(2*4))
	n, oobn, flags, _, err := c.unix.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, fmt.Errorf("receive request: %w", err)
	}
	files, err := rights(oob[:oobn])
	if err != nil {
		return nil, nil, fmt.Errorf("receive request: %w", err)
	}
	r, err := check(buf[:n], flags, files)
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, nil, err
	}
	if len(files) == 0 {
		return r, nil, nil
	}
	return r, files[0], nil
}

// check decodes a packet and holds the descriptors against it.
func check(packet []byte, flags int, files []*os.File) (*Request, error) {
	if flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		return nil, errors.New("receive request: too long, or too many descriptors")
	}
	r, err := DecodeRequest(packet)
	if err != nil {
		return nil, err
	}
	if len(files) != r.namespaces() {
		return nil, fmt.Errorf("receive %s: %d descriptors instead of %d", r.Verb, len(files), r.namespaces())
	}
	for _, f := range files {
		if err := isNetns(f); err != nil {
			return nil, fmt.Errorf("receive %s: %w", r.Verb, err)
		}
	}
	return r, nil
}

// isNetns makes sure that a file is a network namespace.
func isNetns(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("look at descriptor: %w", err)
	}
	if fs.Type != nsfsMagic {
		return errors.New("the descriptor is no namespace")
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("look at namespace: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return errors.New("the descriptor is no network namespace")
	}
	return nil
}

// rights makes files of the descriptors of all control messages.
func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control messages: %w", err)
	}
	var files []*os.File
	for i := range controls {
		fds, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue // not descriptors: nothing to close
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "netns"))
		}
	}
	return files, nil
}

// Answer tells the plugin of err, or of success.
func (c *Conn) Answer(err error) error {
	packet, err := EncodeAnswer(err)
	if err != nil {
		return err
	}
	if _, err := c.unix.Write(packet); err != nil {
		return fmt.Errorf("send answer: %w", err)
	}
	return nil
}

// Gone returns when the peer has hung up, or said more than its one request.
func (c *Conn) Gone() { _, _ = c.unix.Read(make([]byte, 1)) }

// SetReceiveDeadline bounds Receive.
func (c *Conn) SetReceiveDeadline(t time.Time) error {
	if err := c.unix.SetReadDeadline(t); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	return nil
}
