package ads

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// maxResponse bounds what a control plane sends at once, in bytes: the clusters of
	// 10,000 services are 24 MB.
	maxResponse = 256 << 20
	// connectTime is how long a connect may take.
	connectTime = 5 * time.Second
	// What is sent and not acknowledged for so long is lost, and the connection with it;
	// an idle connection is asked as often. gRPC's own pings would do, but a server in Go
	// ends a connection that pings more often than it was told.
	unacknowledged = 10 * time.Second
)

// dial makes a connection for one stream. It does not wait for it. A new one each time
// has no back-off of its own beside ours.
func dial(server string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(connect),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return conn, nil
}

func connect(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: connectTime, Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
		})
		return errors.Join(err, set)
	}, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: unacknowledged, Interval: unacknowledged / 2, Count: 2}}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}
