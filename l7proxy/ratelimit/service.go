package ratelimit

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

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
)

// How the connection to a service is kept.
const (
	// maxAnswer bounds an answer, in bytes: it has a status for each descriptor.
	maxAnswer = 256 << 10
	// tries is how many endpoints are tried in front of one back-off.
	tries = 3
)

// The first connect that fails is made again soon: meanwhile no limit holds, or nobody is
// served.
var reconnect = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// service is the connection to one.
type service struct {
	name     string // the cluster's
	clusters Clusters
	logger   *slog.Logger
	conn     *grpc.ClientConn
	client   ratelimitv3.RateLimitServiceClient

	mu      sync.Mutex
	current *conn // the last that was made; nil: none
	failing bool  // the last connect failed
	said    bool  // which the log says, of this snapshot
}

// conn is a connection to an endpoint.
type conn struct {
	net.Conn

	endpoint netip.AddrPort
}

// dial begins to connect to a service. It does not wait for it.
func dial(to snapshot.RateService, clusters Clusters, logger *slog.Logger) (*service, error) {
	s := &service{name: to.Cluster, clusters: clusters, logger: logger}
	var err error
	s.conn, err = grpc.NewClient("passthrough:///"+authority(to),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.connect(ctx) }),
		grpc.WithAuthority(authority(to)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithIdleTimeout(0), // or the first question after it would wait for a connection
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	s.client = ratelimitv3.NewRateLimitServiceClient(s.conn)
	s.conn.Connect()
	go s.stay()
	return s, nil
}

// stay connects again whenever the connection has ended, until it is closed: gRPC itself
// would wait for a question.
func (s *service) stay() {
	for state := s.conn.GetState(); state != connectivity.Shutdown; state = s.conn.GetState() {
		if state == connectivity.Idle {
			s.conn.Connect()
		}
		s.conn.WaitForStateChange(context.Background(), state)
	}
}

// authority is what a service is called in front of who routes by that: of a cluster
// that is named as istiod does the host.
func authority(to snapshot.RateService) string {
	if to.Authority != "" {
		return to.Authority
	}
	return to.Cluster[strings.LastIndexByte(to.Cluster, '|')+1:]
}

// connect connects to an endpoint of the cluster. Of several that cannot be reached a few
// are tried.
func (s *service) connect(ctx context.Context) (net.Conn, error) {
	c, err := s.tryEndpoints(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if !s.said {
			s.logger.Warn("a rate limit service cannot be reached", "cluster", s.name, "error", err)
		}
		s.failing, s.said, s.current = true, true, nil
		return nil, err
	}
	if s.failing {
		s.logger.Info("a rate limit service is reached again", "cluster", s.name, "endpoint", c.endpoint)
	}
	s.failing, s.said, s.current = false, false, c
	return c, nil
}

func (s *service) tryEndpoints(ctx context.Context) (*conn, error) {
	var tried []netip.AddrPort
	var failed error
	for range tries {
		set := s.clusters.Set(s.name)
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

// follow ends a connection to what is no endpoint of the cluster any more: another is
// made. Where a connect failed, it is tried again at once: perhaps there is an endpoint now.
func (s *service) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.clusters.Set(s.name)
	if c := s.current; c != nil && (set == nil || !set.Has(c.endpoint)) {
		_ = c.Close()
		s.current = nil
	}
	if s.failing {
		s.said = false // it may be for another reason now
		s.conn.ResetConnectBackoff()
	}
}

func (s *service) close() { _ = s.conn.Close() }
