package ads

import (
	"cmp"
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

// dial makes a connection for one stream, by the way of the moment, when it is its turn. It
// does not wait for the connection. A new one each time has no back-off of its own beside
// ours.
func (s *Source) dial(ctx context.Context) (*grpc.ClientConn, error) {
	var w Way
	var err error
	if s.opts.Way != nil {
		if w, err = s.opts.Way(); err != nil {
			return nil, err // before it takes a turn that others may use
		}
	}
	w.Server = cmp.Or(w.Server, s.opts.Server)
	return s.open(ctx, &w)
}

// open makes a connection by a way, when it is its turn.
func (s *Source) open(ctx context.Context, w *Way) (*grpc.ClientConn, error) {
	if s.opts.Pace != nil {
		if err := s.opts.Pace(ctx); err != nil {
			return nil, err
		}
	}
	proof := insecure.NewCredentials()
	if w.TLS != nil {
		proof = credentials.NewTLS(w.TLS)
	}
	conn, err := grpc.NewClient("passthrough:///"+w.Server,
		grpc.WithTransportCredentials(proof),
		grpc.WithContextDialer(w.connect),
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
