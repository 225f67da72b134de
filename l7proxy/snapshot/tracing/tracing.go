// Package tracing is what a listener says about the spans of its requests, without
// Envoy's types: who is told of them, how many requests get one, and what they say beside
// the proxy's own attributes. It makes no span.
package tracing

import "time"

// Tracing is the tracing of one listener. Immutable.
type Tracing struct {
	// Collector is who is told; its zero value is nobody.
	Collector Collector
	// Service is service.name of the spans; "": made of the workload's name.
	Service string
	// Share is that of the requests without a trace of their own which get one, in
	// millionths. A request that is part of a trace is sampled as that is.
	Share uint32
	Tags  []Tag
	// Silent says that providers are not told of spans: requests stay as they are.
	Silent bool
	// Problems are sentences about what was asked for and is not done. The listener is
	// not refused for them: a tracer is no reason to lose traffic.
	Problems []string
}

// Collector is who is told of spans, by OTLP over gRPC.
type Collector struct {
	Cluster   string        // whose endpoints serve it
	Authority string        // "": made of the cluster's name
	Timeout   time.Duration // of one export; 0: the exporter's
}

// Tag is an attribute that a listener adds to its spans.
type Tag struct {
	Name string
	// Attribute is the attribute of the request whose value it gets: interface, method,
	// version, or an attachment, as it is spelt; "": none. Value is for a request without
	// it; a tag without a value is left out.
	Attribute, Value string
}

// On tells whether spans are made.
func (t *Tracing) On() bool { return t != nil && t.Collector.Cluster != "" }
