package ads

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
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

// Way is how the control plane is reached. The zero value is Options.Server in plaintext,
// with no proof of who asks.
type Way struct {
	Server string      // HOST:PORT; "": that of Options
	TLS    *tls.Config // nil: plaintext
	// Over, if not nil, is closed when a better way may be there: the connection is given
	// up for another.
	Over <-chan struct{}
}

// dial makes a connection for one stream, by the way of the moment. It does not wait for
// it. A new one each time has no back-off of its own beside ours.
func (s *Source) dial() (*grpc.ClientConn, error) {
	var way Way
	if s.opts.Way != nil {
		var err error
		if way, err = s.opts.Way(); err != nil {
			return nil, err
		}
	}
	server, proof := s.opts.Server, insecure.NewCredentials()
	if way.Server != "" {
		server = way.Server
	}
	if way.TLS != nil {
		proof = credentials.NewTLS(way.TLS)
	}
	conn, err := grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(proof),
		grpc.WithContextDialer(way.connect),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return conn, nil
}

func (w *Way) connect(ctx context.Context, address string) (net.Conn, error) {
	c, err := sock.Dialer(connectTime).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if w.Over == nil {
		return c, nil
	}
	t := &transient{Conn: c, closed: make(chan struct{})}
	go t.last(w.Over)
	return t, nil
}

// transient is a connection that ends when it is closed or when its way is over.
type transient struct {
	net.Conn

	closed chan struct{}
	once   sync.Once
}

func (t *transient) last(over <-chan struct{}) {
	select {
	case <-over:
		_ = t.Conn.Close()
	case <-t.closed:
	}
}

// Close is part of net.Conn.
func (t *transient) Close() error {
	t.once.Do(func() { close(t.closed) })
	return t.Conn.Close() //nolint:wrapcheck // it stands in its place
}
