// Package ratelimit asks the services of global rate limits, by gRPC and
// envoy.service.ratelimit.v3. It follows the snapshots: there is one connection to each
// service that a filter names, made before the first question and dropped when no filter
// names it any more. What is asked, and what an answer is worth, is package filter's.
//
// The proxy asks for itself, by package backend.
package ratelimit

import (
	"context"
	"log/slog"
	"sync"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"

	"github.com/dubway/dubway/l7proxy/backend"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// maxAnswer bounds an answer, in bytes: it has a status for each descriptor.
const maxAnswer = 256 << 10

// service is the connection to one.
type service struct {
	*backend.Backend

	client ratelimitv3.RateLimitServiceClient
}

// Client asks all services. Safe for concurrent use.
type Client struct {
	clusters backend.Clusters
	logger   *slog.Logger

	mu       sync.RWMutex
	services map[snapshot.RateService]*service
	closed   bool
}

// New returns a client without services. Close ends it.
func New(clusters backend.Clusters, logger *slog.Logger) *Client {
	return &Client{clusters: clusters, logger: logger, services: make(map[snapshot.RateService]*service)}
}

// Keep makes the connections follow snapshots whose clusters are in use already.
func (c *Client) Keep(all ...*snapshot.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	named := make(map[snapshot.RateService]bool)
	for l := range snapshot.Each(all, (*snapshot.Snapshot).All) {
		for _, g := range l.Globals {
			named[g.Service] = true
			c.keep(g.Service)
		}
	}
	for at, svc := range c.services {
		if named[at] {
			svc.Follow()
			continue
		}
		delete(c.services, at)
		svc.Close()
	}
}

// keep connects to a service, unless it is connected to already.
func (c *Client) keep(to snapshot.RateService) {
	if c.services[to] != nil {
		return
	}
	made, err := backend.Dial(backend.Options{
		What: "a rate limit service", Cluster: to.Cluster, Authority: to.Authority, MaxAnswer: maxAnswer,
		Clusters: c.clusters, Logger: c.logger,
	})
	if err != nil { // nothing that a service can bring about
		c.logger.Error("a rate limit service cannot be asked", "cluster", to.Cluster, "error", err)
		return
	}
	c.services[to] = &service{made, ratelimitv3.NewRateLimitServiceClient(made.Conn())}
}

// Close ends all connections. What is being asked has no answer.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for at, svc := range c.services {
		delete(c.services, at)
		svc.Close()
	}
}

// Ask asks the service of the question's filter, until ctx ends. While its connection is
// being made it waits; while the service cannot be reached it does not.
func (c *Client) Ask(ctx context.Context, q *global.Question) global.Answer {
	c.mu.RLock()
	svc := c.services[q.Filter.Service]
	c.mu.RUnlock()
	if svc == nil {
		return global.NoAnswer
	}
	answer, err := svc.client.ShouldRateLimit(ctx, request(q))
	if err != nil {
		return global.NoAnswer
	}
	switch answer.GetOverallCode() {
	case ratelimitv3.RateLimitResponse_OK:
		return global.WithinLimit
	case ratelimitv3.RateLimitResponse_OVER_LIMIT:
		return global.OverLimit
	case ratelimitv3.RateLimitResponse_UNKNOWN:
	}
	return global.NoAnswer
}

// request says a question in the service's words. It counts as one hit.
func request(q *global.Question) *ratelimitv3.RateLimitRequest {
	out := &ratelimitv3.RateLimitRequest{Domain: q.Domain, Descriptors: make([]*commonv3.RateLimitDescriptor, 0, len(q.Descriptors))}
	for _, d := range q.Descriptors {
		out.Descriptors = append(out.Descriptors, descriptor(d))
	}
	return out
}

func descriptor(d rate.Descriptor) *commonv3.RateLimitDescriptor {
	out := &commonv3.RateLimitDescriptor{Entries: make([]*commonv3.RateLimitDescriptor_Entry, 0, len(d))}
	for _, e := range d {
		out.Entries = append(out.Entries, &commonv3.RateLimitDescriptor_Entry{Key: e.Key, Value: e.Value})
	}
	return out
}
