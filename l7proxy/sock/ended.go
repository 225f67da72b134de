package sock

import (
	"errors"
	"fmt"
	"io"
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// Ended tells, without reading, how the peer's side has ended, and how many bytes wait
// to be read: io.EOF if it sends no more, another error if it has gone; nil if it has
// not ended. Of TLS nobody knows how many bytes there are in what waits: then it is as many
// as may be, and whoever reads meets the end.
func (c *Conn) Ended() (waiting int, ended error) {
	raw, err := c.TCP().SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("look at socket: %w", err)
	}
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		switch n, err := unix.Poll(p, 0); {
		case err != nil || n == 0:
			return
		case p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0:
			ended = syscall.ECONNRESET
			return
		}
		ended = io.EOF
		waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		if err != nil {
			ended = err
		}
	})
	if c.Secured() {
		waiting = math.MaxInt
	}
	return waiting, errors.Join(ended, err)
}
