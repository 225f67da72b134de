// Package oteltest is a collector of spans for tests: the service that OpenTelemetry's
// own definition generates, over gRPC, which keeps what it is told.
package oteltest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Span is one that the collector was told of.
type Span struct {
	Trace, ID, Parent, State string // ids in hexadecimals
	Name, Kind               string // Kind is CLIENT or SERVER
	Flags                    uint32
	Status, Message          string // Status is UNSET, OK or ERROR
	Start, End               time.Time
	Attributes, Resource     map[string]string
	Events                   []Event
	Authority                string // as which the collector was addressed
}

// Event is one of a span.
type Event struct {
	Name       string
	Attributes map[string]string
}

// Collector takes spans. Safe for concurrent use.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer

	server *grpc.Server

	mu      sync.Mutex
	spans   []Span
	exports int
	answer  func(spans int) (*collectorpb.ExportTraceServiceResponse, error)
}

var _ collectorpb.TraceServiceServer = (*Collector)(nil)

// Serve serves on a listener until Stop.
func Serve(l net.Listener) *Collector {
	c := &Collector{server: grpc.NewServer()}
	collectorpb.RegisterTraceServiceServer(c.server, c)
	go func() { _ = c.server.Serve(l) }()
	return c
}

// Stop ends it, and its connections.
func (c *Collector) Stop() { c.server.Stop() }

// Answer makes it answer as f says, from now on; nil: it takes everything.
func (c *Collector) Answer(f func(spans int) (*collectorpb.ExportTraceServiceResponse, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

// Export is part of the service.
func (c *Collector) Export(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	var authority string
	if meta, ok := metadata.FromIncomingContext(ctx); ok && len(meta.Get(":authority")) > 0 {
		authority = meta.Get(":authority")[0]
	}
	var told []Span
	for _, of := range r.GetResourceSpans() {
		whose := attributes(of.GetResource().GetAttributes())
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				one := span(s)
				one.Resource, one.Authority = whose, authority
				told = append(told, one)
			}
		}
	}
	c.mu.Lock()
	answer := c.answer
	c.exports++
	c.mu.Unlock()
	if answer != nil {
		if got, err := answer(len(told)); got != nil || err != nil {
			return got, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, told...)
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// Spans returns what it took so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Exports is how often it was told something.
func (c *Collector) Exports() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exports
}

func span(s *tracepb.Span) Span {
	one := Span{
		Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		State: s.GetTraceState(), Name: s.GetName(), Kind: s.GetKind().String()[len("SPAN_KIND_"):], Flags: s.GetFlags(),
		Status: s.GetStatus().GetCode().String()[len("STATUS_CODE_"):], Message: s.GetStatus().GetMessage(),
		Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
		Attributes: attributes(s.GetAttributes()),
	}
	for _, e := range s.GetEvents() {
		one.Events = append(one.Events, Event{e.GetName(), attributes(e.GetAttributes())})
	}
	return one
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	all := make(map[string]string, len(list))
	for _, a := range list {
		if _, twice := all[a.GetKey()]; twice {
			all[a.GetKey()] = "twice"
			continue
		}
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			all[a.GetKey()] = fmt.Sprintf("%T", v)
		}
	}
	return all
}
