package ads

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dubway/dubway/l7proxy/sock"
)

const (
	// maxResponse bounds what a control plane sends at once, in bytes: the clusters of
	// 10,000 services are 24 MB.
	maxResponse = 256 << 20
	// connectTime is how long a connect may take.
	connectTime = 5 * time.Second
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
	c, err := sock.Dialer(connectTime).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}
