// Package backend connects the proxy itself to a service that the mesh asks or tells: a
// rate limit service, a collector of spans. The proxy dials as it asks its control plane,
// from its own network namespace and not from a pod's, over plain TCP, at an endpoint of
// the service's cluster. What is said on the connection is its users'.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/sock"
)

// tries is how many endpoints are tried in front of one back-off.
const tries = 3

// The first connect that fails is made again soon: meanwhile no limit holds, or nobody is
// served, or nothing is told.
var reconnect = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// Clusters finds the endpoints of a cluster; nil if there is no such cluster.
type Clusters interface {
	Set(name string) *cluster.Set
}

// Options say which service.
type Options struct {
	What      string // "a rate limit service", for the log
	Cluster   string // whose endpoints serve it
	Authority string // "": made of the cluster's name
	MaxAnswer int    // bytes
	Clusters  Clusters
	Logger    *slog.Logger
}

// Backend is the connection to one service. Safe for concurrent use. Close ends it.
type Backend struct {
	opts Options
	conn *grpc.ClientConn

	mu      sync.Mutex
	current *conn // the last that was made; nil: none
	failing error // why the last connect failed; nil: it did not
	said    bool  // which the log says, of this snapshot
}

// conn is a connection to an endpoint.
type conn struct {
	net.Conn

	endpoint netip.AddrPort
}

// Dial begins to connect to a service. It does not wait for it.
func Dial(opts Options) (*Backend, error) {
	b := &Backend{opts: opts}
	var err error
	b.conn, err = grpc.NewClient("passthrough:///"+opts.authority(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.connect(ctx) }),
		grpc.WithAuthority(opts.authority()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(opts.MaxAnswer)),
		grpc.WithIdleTimeout(0), // or the first call after it would wait for a connection
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	b.conn.Connect()
	go b.stay()
	return b, nil
}

// Conn is what calls are made by. The Backend owns it.
func (b *Backend) Conn() grpc.ClientConnInterface { return b.conn }

// Failing returns why the last connect failed; nil if it did not.
func (b *Backend) Failing() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failing
}

// stay connects again whenever the connection has ended, until it is closed: gRPC itself
// would wait for a question.
func (b *Backend) stay() {
	for state := b.conn.GetState(); state != connectivity.Shutdown; state = b.conn.GetState() {
		if state == connectivity.Idle {
			b.conn.Connect()
		}
		b.conn.WaitForStateChange(context.Background(), state)
	}
}

// authority is what a service is called in front of who routes by that: of a cluster
// that is named as istiod does the host.
func (o *Options) authority() string {
	if o.Authority != "" {
		return o.Authority
	}
	return o.Cluster[strings.LastIndexByte(o.Cluster, '|')+1:]
}

// connect connects to an endpoint of the cluster. Of several that cannot be reached a few
// are tried.
func (b *Backend) connect(ctx context.Context) (net.Conn, error) {
	c, err := b.tryEndpoints(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if !b.said {
			//nolint:sloglint // of what kind it is
			b.opts.Logger.Warn(b.opts.What+" cannot be reached", "cluster", b.opts.Cluster, "error", err)
		}
		b.failing, b.said, b.current = err, true, nil
		return nil, err
	}
	if b.failing != nil {
		//nolint:sloglint // of what kind it is
		b.opts.Logger.Info(b.opts.What+" is reached again", "cluster", b.opts.Cluster, "endpoint", c.endpoint)
	}
	b.failing, b.said, b.current = nil, false, c
	return c, nil
}

func (b *Backend) tryEndpoints(ctx context.Context) (*conn, error) {
	var tried []netip.AddrPort
	var failed error
	for range tries {
		set := b.opts.Clusters.Set(b.opts.Cluster)
		if set == nil {
			return nil, errors.New("no such cluster: add it to the configuration, or name another in grpc_service")
		}
		e, err := set.Pick(cluster.Choice{
			Random: rand.Uint64(), Exclude: func(a netip.AddrPort) bool { return slices.Contains(tried, a) },
		})
		if err != nil {
			return nil, errors.Join(failed, err)
		}
		c, err := connectTo(ctx, set, e.Address)
		if err == nil {
			e.Connected()
			return &conn{c, e.Address}, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		e.Failed()
		tried, failed = append(tried, e.Address), err
	}
	return nil, failed
}

func connectTo(ctx context.Context, set *cluster.Set, at netip.AddrPort) (net.Conn, error) {
	limit := time.Duration(0)
	if c := set.Config(); c != nil {
		limit = c.ConnectTimeout
	}
	c, err := sock.Dialer(limit).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}

// Follow follows a snapshot whose clusters are in use. It ends a connection to what is no
// endpoint of the cluster any more: another is made. Where a connect failed, it is tried
// again at once: perhaps there is an endpoint now.
func (b *Backend) Follow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	set := b.opts.Clusters.Set(b.opts.Cluster)
	if c := b.current; c != nil && (set == nil || !set.Has(c.endpoint)) {
		_ = c.Close()
		b.current = nil
	}
	if b.failing != nil {
		b.said = false // it may be for another reason now
		b.conn.ResetConnectBackoff()
	}
}

// Close ends the connection. What is being asked has no answer.
func (b *Backend) Close() { _ = b.conn.Close() }
