// Package peer tells who is at the other end of a unix socket, by the kernel's word.
package peer

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Of returns the process, user and group that the peer ran as when it connected or
// listened. The process is 0 if it is in another pid namespace.
func Of(c *net.UnixConn) (unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("look at socket: %w", err)
	}
	var cred *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, asked); err != nil {
		return unix.Ucred{}, fmt.Errorf("ask for the peer: %w", err)
	}
	return *cred, nil
}
