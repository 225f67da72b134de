package ads

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/aeraki"
)

// served is what Run's goroutine knows of tables that other servers have. They are taken
// when they come, by another goroutine, and hold when the control plane's own do: a listener
// that is new waits for its table, for patience at most and once.
type served struct {
	news    chan struct{} // some were taken; one is as good as many
	awaited names         // tables that were waited for already
	half    bool          // a stream ended while something of it was missing: it does not hold yet
}

// askTables makes who asks for them.
func (s *Source) askTables() *aeraki.Client {
	return aeraki.New(aeraki.Options{
		Store: s.Store, Default: s.opts.Aeraki, Dial: s.dialServer, Logger: s.opts.Logger,
		Node: func() *corev3.Node {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.node
		},
		News: func() {
			select {
			case s.served.news <- struct{}{}:
			default:
			}
		},
	})
}

// dialServer makes a connection to another server, proving the same identity as to the
// control plane.
func (s *Source) dialServer(ctx context.Context, address string) (*grpc.ClientConn, error) {
	var w Way
	if s.opts.Way != nil {
		var err error
		if w, err = s.opts.Way(); err != nil {
			return nil, err
		}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("read address: %w", err)
	}
	if w.TLS != nil {
		w.TLS = named(w.TLS, host)
	}
	w.Server = address
	return s.open(ctx, &w)
}

// named is a configuration that believes a server by another name.
func named(c *tls.Config, host string) *tls.Config {
	c = c.Clone()
	c.ServerName = host
	return c
}

// expect waits for the tables that listeners name and that were never told, nor waited for.
func (t *stream) expect() {
	held := t.source.Versions(xds.TypeMetaRoute)
	for _, list := range t.source.Served() {
		for _, name := range list {
			if _, isHeld := held[name]; !isHeld && !t.source.served.awaited[name] {
				t.source.served.awaited[name] = true
				t.miss(xds.TypeMetaRoute, name)
			}
		}
	}
}

// served notes the tables that came.
func (t *stream) served() {
	for name := range t.source.Versions(xds.TypeMetaRoute) {
		t.found(xds.TypeMetaRoute, name)
	}
	if t.taken.IsZero() {
		t.taken = time.Now()
	}
}

// rest waits before the next stream. Tables that come meanwhile hold at once, unless that
// would make hold a part of what the last stream said.
func (s *Source) rest(ctx context.Context, d time.Duration) {
	over := time.After(d)
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-s.served.news:
			if !s.served.half {
				s.published()
			}
		}
	}
}
