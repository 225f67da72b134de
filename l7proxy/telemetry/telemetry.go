// Package telemetry turns the one Record of each request into Istio's metrics,
// and into one line of the access log. It decides nothing about a request, keeps
// no Record, and never makes the data path wait: a metric is a few atomic
// additions, a log line is copied to a buffer or dropped and counted.
//
// The proxy prepares each rpc.Call once; records of that call are then observed
// without a look-up and without an allocation. Calls with equal labels share
// their series, so the number of series depends on workloads and on names that a
// provider has confirmed by an answer (see Options), not on what consumers send.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
	"github.com/dubway/dubway/l7proxy/telemetry/budget"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/wanted"
)

// The default budget of names, see Options.
const (
	DefaultInterfaces = 500
	DefaultMethods    = 50
	// DefaultExceptions are classes of the node, and DefaultApplications those
	// of its consumers.
	DefaultExceptions   = 200
	DefaultApplications = 500
)

// perConsumer is how many applications one consumer may be.
const perConsumer = 16

// Tap is shown every record while somebody looks. It keeps none.
type Tap interface {
	Watched() bool
	Observe(rec *rpc.Record)
	// Aggregate and Tell are as of rpc.Aggregator.
	Aggregate(call *rpc.Call, a *rpc.Aggregate)
	Tell(rec *rpc.Record)
}

// Options configures a Recorder.
type Options struct {
	// AccessLog takes whole lines from one goroutine. Nil: there is no log.
	AccessLog io.Writer
	// Sample is the share to log of the requests of whose lines the configuration says
	// nothing, and of the others if it is changed: 0 none, 1 every one.
	Sample float64
	// Interfaces and Methods are the budget of names: the first so many
	// interfaces of the node, and methods of each, that got an answer have their
	// own label value; all others are "other". 0 means the default.
	Interfaces int
	Methods    int
	// Exceptions is the budget of classes of business exceptions: the first so
	// many of the node have their own label value, of each method perMethod of
	// them; all others are "other". 0 means the default.
	Exceptions int
	// Applications adds the label dubbo_consumer_application, whose value
	// rpc.Call.Application is.
	Applications bool
	// Tap is shown the records. Nil: nobody can look.
	Tap Tap
	// Cluster is Istio's cluster id for source_cluster and destination_cluster.
	Cluster string
}

// Recorder records requests and connections. Safe for concurrent use.
type Recorder struct {
	cluster string
	names   *names.Names
	classes *names.Classes
	apps    *budget.Values // nil unless a label asks
	tags    *budget.Tags
	series  *store
	tcp     *tcpStore
	log     *accesslog.Log // nil when there is none
	sample  float64        // the first share
	tap     Tap            // nil when there is none

	// strangers counts responses whose status is not one of Dubbo's.
	strangers atomic.Uint64
	observers atomic.Uint32
}

// NewRegistry returns a registry with the metrics of the Go runtime and of the
// process, for Handler. Other parts of the proxy may add their own.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// New returns a Recorder. Handler exposes its metrics; Close flushes its access
// log.
func New(opts Options) (*Recorder, error) {
	if opts.Interfaces == 0 {
		opts.Interfaces = DefaultInterfaces
	}
	if opts.Methods == 0 {
		opts.Methods = DefaultMethods
	}
	if opts.Exceptions == 0 {
		opts.Exceptions = DefaultExceptions
	}
	r := &Recorder{
		cluster: names.Known(opts.Cluster),
		names:   names.New(opts.Interfaces, opts.Methods),
		classes: names.NewClasses(opts.Exceptions),
		series:  newStore(),
		tcp:     newTCPStore(),
		tags:    budget.NewTags(),
		tap:     opts.Tap,
	}
	if opts.Applications {
		r.apps = budget.New(DefaultApplications, perConsumer)
	}
	if opts.AccessLog != nil {
		r.log = accesslog.New(opts.AccessLog)
		if err := r.SetSample(opts.Sample); err != nil {
			return nil, err
		}
		r.sample = opts.Sample
		r.log.Follow(true)
	}
	return r, nil
}

// Prepare returns the Observer for the records of a call, and sets it in the
// call, which must not change afterwards.
func (r *Recorder) Prepare(call *rpc.Call) rpc.Observer {
	o := &observer{recorder: r, call: call, says: wanted.Says(call), shard: uint8(r.observers.Add(1) % shards)}
	o.aim(r.names.Look(call.Interface, call.Method))
	call.Observer = o
	return o
}

// Connection records that an opaque connection opened, or that it closed.
func (r *Recorder) Connection(c *rpc.Connection) {
	r.count(c)
	if !c.Closed || r.log == nil {
		return
	}
	if r.log.Follows() && wanted.Says(c.Call) {
		if wanted.Connection(c) {
			r.log.Connection(c)
		}
		return
	}
	if r.log.Sampled() {
		r.log.Connection(c)
	}
}

// Value returns the label value that stands for a value of a request of a consumer: for
// few of each attribute. Part of telling.Recorder.
func (r *Recorder) Value(from *rpc.Peer, of, value string) string {
	return r.tags.Value(from, of, value)
}

// Sample returns the share of requests that are logged.
func (r *Recorder) Sample() float64 {
	if r.log == nil {
		return 0
	}
	return r.log.Sample()
}

// Follows tells whether the configuration decides about the lines of which it says
// anything. It does until SetSample.
func (r *Recorder) Follows() bool { return r.log != nil && r.log.Follows() }

// Follow lets the configuration decide again, and takes the first share.
func (r *Recorder) Follow() error {
	if r.log == nil {
		return errNoLog
	}
	r.log.SetSample(r.sample)
	r.log.Follow(true)
	return nil
}

var errNoLog = errors.New("set access log sample: the proxy was started without an access log")

// SetSample changes the share of requests that are logged, from 0 to 1, for the
// records that follow, whatever the configuration says.
func (r *Recorder) SetSample(share float64) error {
	if !(share >= 0 && share <= 1) {
		return fmt.Errorf("set access log sample: %v is not between 0 and 1", share)
	}
	if r.log == nil {
		if share == 0 {
			return nil
		}
		return errNoLog
	}
	r.log.SetSample(share)
	r.log.Follow(false)
	return nil
}

// Close flushes the access log and stops its writer. It waits for a second at
// most: a reader of the log that is stuck does not hold the process.
func (r *Recorder) Close() error {
	if r.log == nil {
		return nil
	}
	return r.log.Close()
}
