package sock

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long what was sent may stay so before it is lost, and the
// connection with it; an idle connection is asked as often. gRPC's own pings would do,
// but a server in Go ends a connection that pings more often than it was told, which is
// every five minutes.
const unacknowledged = 10 * time.Second

// Dialer returns a dialer for the connections that the proxy makes for itself, from its
// own network namespace. A connect may take as long as timeout; 0: as the kernel lets it.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout: timeout,
		Control: func(_, _ string, raw syscall.RawConn) error {
			var set error
			err := raw.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
			})
			return errors.Join(err, set)
		},
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: unacknowledged, Interval: unacknowledged / 2, Count: 2},
	}
}
