package aeraki

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dubway/dubway/l7proxy/xds"
)

// stream is one stream to a server.
type stream struct {
	*server

	wire    servicev3.RouteDiscoveryService_StreamRoutesClient
	said    bool     // which node we are
	names   []string // that were asked for
	version string   // of the last response that was taken whole
	nonce   string
}

// maxReasons bounds how many rejected tables a refusal names.
const maxReasons = 10

var errEnded = errors.New("the server ended the stream")

// follow follows one stream to its end. It tells whether there was an answer.
func (s *server) follow(ctx context.Context) (answered bool, err error) {
	address, err := s.address()
	if err != nil {
		return false, err
	}
	conn, err := s.client.opts.Dial(ctx, address)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	wire, err := servicev3.NewRouteDiscoveryServiceClient(conn).StreamRoutes(ctx)
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	t := &stream{server: s, wire: wire}
	responses, failed := make(chan *discoveryv3.DiscoveryResponse), make(chan error, 1)
	go func() {
		for {
			r, err := wire.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		if names := s.client.opts.Store.Served()[s.cluster]; !slices.Equal(names, t.names) {
			t.names = names
			t.send(nil)
		}
		select {
		case <-ctx.Done():
			return answered, fmt.Errorf("follow stream: %w", context.Cause(ctx))
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				err = errEnded
			}
			return answered, fmt.Errorf("follow stream: %w", err)
		case r := <-responses:
			answered = true
			s.answered()
			t.take(r)
		case <-s.wake:
			if now, err := s.address(); err == nil && now != address {
				return answered, fmt.Errorf("follow stream: the server is at %s now", now)
			}
		}
	}
}

// send asks for the names, and says what became of the last response. If that fails the
// stream has ended, and Recv says why.
func (t *stream) send(refused error) {
	r := &discoveryv3.DiscoveryRequest{
		TypeUrl: xds.TypeRoute, ResourceNames: t.names, VersionInfo: t.version, ResponseNonce: t.nonce,
	}
	if !t.said {
		r.Node, t.said = t.client.opts.Node(), true
	}
	if refused != nil {
		r.ErrorDetail = status.New(codes.InvalidArgument, refused.Error()).Proto()
	}
	_ = t.wire.Send(r)
}

// take takes a response and acknowledges it, or refuses it for the tables of it that are
// rejected: the others hold nevertheless. A table that it does not name stays.
func (t *stream) take(r *discoveryv3.DiscoveryResponse) {
	t.nonce = r.GetNonce()
	said, wanted := t.keep(r)
	if !wanted {
		return
	}
	t.client.opts.News()
	if said == "" {
		t.version = r.GetVersionInfo()
		t.send(nil)
		return
	}
	refused := errors.New(said)
	t.client.opts.Logger.Warn("tables of Aeraki's server are rejected; their last good versions stay",
		"cluster", t.cluster, "error", refused)
	t.send(refused)
}

// keep has the store take what listeners name of a response, and returns why the rest is
// rejected, "" if nothing is. Wanted is false for a server that has been left.
func (t *stream) keep(r *discoveryv3.DiscoveryResponse) (said string, wanted bool) {
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[t.cluster] != t.server {
		return "", false
	}
	names, u := c.opts.Store.Served()[t.cluster], xds.Update{Type: xds.TypeMetaRoute}
	var reasons []string
	for _, body := range r.GetResources() {
		m, err := table(body)
		if m != nil && !slices.Contains(names, m.GetName()) {
			continue // it crossed the request that wants it no more
		}
		if err == nil {
			var one xds.Resource
			if one, err = resource(m, r.GetVersionInfo()); err == nil {
				u.Changed = append(u.Changed, one)
				continue
			}
		}
		reasons = append(reasons, fmt.Sprintf("%s: %v", m.GetName(), err))
	}
	for _, rejected := range c.opts.Store.Take(u) {
		reasons = append(reasons, fmt.Sprintf("%s: %s: %s", rejected.Name, rejected.Field, rejected.Reason))
	}
	t.state.Refused = strings.ToValidUTF8(strings.Join(reasons[:min(len(reasons), maxReasons)], "\n"), "?")
	return t.state.Refused, true
}
