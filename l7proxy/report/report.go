// Package report is what the configuration says of the telemetry of calls: how Istio's
// metrics are changed for those of a filter chain, and which of them get a line of the
// access log. It describes and judges; it counts nothing and writes nothing.
package report

import (
	"regexp"
	"strings"
)

// Rules are what one filter chain says. Immutable.
type Rules struct {
	Metrics *Metrics // nil: Istio's, as they are
	Log     *Log     // nil: nothing is said of lines
	// Labels are the attributes of requests whose values are labels, by the names that
	// headers have to routes.
	Labels []string
	// Conditions are what Log asks of each request.
	Conditions []Condition
}

// Asks tells whether something must be read of each request.
func (r *Rules) Asks() bool { return r != nil && len(r.Labels)+len(r.Conditions) > 0 }

// Metric is one of Istio's metrics that may be changed.
type Metric uint8

// The metrics of requests, and those of opaque connections.
const (
	Requests Metric = iota
	Duration
	RequestBytes
	ResponseBytes
	Opened
	Closed
	Sent
	Received
	NumMetrics
)

// FirstTCP is the first metric of opaque connections.
const FirstTCP = Opened

// metricNames are the metrics' names without Istio's prefix, as istiod sends them.
var metricNames = [NumMetrics]string{
	"requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes",
	"tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_sent_bytes_total", "tcp_received_bytes_total",
}

// String returns the metric's name without Istio's prefix.
func (m Metric) String() string {
	if m < NumMetrics {
		return metricNames[m]
	}
	return ""
}

// Named returns the metric of a name as of String.
func Named(name string) (m Metric, ok bool) {
	for m := range NumMetrics {
		if metricNames[m] == name {
			return m, true
		}
	}
	return NumMetrics, false
}

// Set is a set of metrics.
type Set uint16

// Has tells whether m is in the set.
func (s Set) Has(m Metric) bool { return s&(1<<m) != 0 }

// With returns the set and m.
func (s Set) With(m Metric) Set { return s | 1<<m }

// Every has all metrics.
const Every Set = 1<<NumMetrics - 1

// Metrics are changes of metrics.
type Metrics struct {
	Dropped Set
	Changes []Change // each metric is in one at most
}

// Change is what becomes of the labels of some metrics.
type Change struct {
	Of      Set
	Tags    []Tag    // in the order of their names, none of which is a label already
	Removed []string // labels that go, sorted
}

// Key tells changes of labels apart: those with equal keys make equal labels. It holds
// names alone.
func (c *Change) Key() string {
	var b strings.Builder
	for _, t := range c.Tags {
		b.WriteString("+" + t.Name)
	}
	for _, name := range c.Removed {
		b.WriteString("-" + name)
	}
	return b.String()
}

// ValueKind tells what a tag's value is.
type ValueKind uint8

// The kinds.
const (
	ValueText      ValueKind = iota // Text
	ValueInterface                  // the interface, as its label has it
	ValueMethod                     // the method, likewise
	ValuePath                       // "/<interface>/<method>" of these two
	ValueLabel                      // Labels[At] of the rules
)

// Tag is a label that is added.
type Tag struct {
	Name string
	Kind ValueKind
	Text string
	At   int
}

// Operator compares an attribute with a text. What is missing meets nothing.
type Operator uint8

// The operators.
const (
	Equals Operator = iota
	Starts
	Ends
	Contains
	Matches // anywhere, as CEL's matches
	Present
)

// Condition is on one attribute of a request, by the name that a header has to routes.
type Condition struct {
	Attribute string
	Operator  Operator
	Text      string
	Regex     *regexp.Regexp // Matches
}

// Side is what the telemetry of one side of some calls is told.
type Side struct {
	Rules  *Rules   // nil: nothing
	Values []string // of Rules.Labels, fit to be label values; nil: all unknown
	Holds  uint64   // which of Rules.Conditions hold, by their bits
}

// Told is what telemetry is told of some calls, by side. Immutable.
type Told struct{ Source, Destination Side }

// Tell returns what rules say before anything is read of a request; nil if neither side
// has any.
func Tell(source, destination *Rules) *Told {
	if source == nil && destination == nil {
		return nil
	}
	return &Told{Source: Side{Rules: source}, Destination: Side{Rules: destination}}
}

// Asks tells whether something must be read of each request.
func (t *Told) Asks() bool { return t != nil && (t.Source.Rules.Asks() || t.Destination.Rules.Asks()) }
