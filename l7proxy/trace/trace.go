// Package trace makes the spans of calls, and tells collectors of them by OTLP over gRPC.
// It says which requests are sampled, reads and makes the context by which a trace goes
// on, and turns each Record of a sampled call into a client's span, a server's, or both
// where one proxy is both sides. It edits no frame. A call never waits for it: what a
// collector does not take in time is dropped and counted.
package trace

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/backend"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

// closing is how long spans that wait may take at the end.
const closing = 3 * time.Second

// Options are a Tracer's.
type Options struct {
	Clusters backend.Clusters
	// Provider returns the tracing of the listener in front of a provider of this node,
	// by its address; known is false where nothing is said of what comes in there.
	Provider func(at netip.AddrPort) (t *tracing.Tracing, known bool)
	Node     string // k8s.node.name; "" if it is not known
	Logger   *slog.Logger
	// Every is how long spans wait for others at most; 0: a second.
	Every time.Duration
}

// Drop is why a span was dropped.
type Drop uint8

// The reasons.
const (
	DropFull    Drop = iota // too many wait already
	DropFailed              // the collector could not be reached for too long
	DropRefused             // the collector refused it
	DropUnnamed             // no listener names its collector any more
	numDrops
)

// Drops is the number of reasons, for tables.
const Drops = int(numDrops)

// String returns the value of the label reason.
func (d Drop) String() string {
	switch d {
	case DropFull:
		return "queue_full"
	case DropFailed:
		return "unreachable"
	case DropRefused:
		return "refused"
	case DropUnnamed:
		return "no_collector"
	case numDrops:
	}
	return "unknown"
}

// Stats counts spans.
type Stats struct {
	Exported atomic.Uint64
	Dropped  [Drops]atomic.Uint64
}

// Tracer makes spans. Safe for concurrent use.
type Tracer struct {
	opts  Options
	stats Stats

	mu        sync.RWMutex
	exporters map[tracing.Collector]*exporter
	problems  []string
	closed    bool
	flushing  sync.WaitGroup
}

// New returns a tracer without collectors. Close ends it.
func New(opts Options) *Tracer {
	if opts.Every == 0 {
		opts.Every = time.Second
	}
	return &Tracer{opts: opts, exporters: make(map[tracing.Collector]*exporter)}
}

// Stats returns the counters of all collectors.
func (t *Tracer) Stats() *Stats { return &t.stats }

// Begin begins the span of a request by its attachments; nil: it is not sampled, which
// costs no allocation. A request that is part of a trace is sampled as that is. Of others
// a share begins one, at the consumer: at a provider they come from there, where it has
// been decided already, unless all are sampled. A request whose attachments cannot be
// read could not tell its provider, and has none.
func (t *Tracer) Begin(config *tracing.Tracing, a rpc.Attachments, atProvider bool, random uint64) rpc.Span {
	if t == nil || !config.On() {
		return nil
	}
	o, err := read(a)
	switch {
	case err != nil, o.decided && !o.sampled:
		return nil
	case o.decided:
	case atProvider && config.Share < snapshot.Million, !snapshot.Hit(config.Share, random):
		return nil
	}
	return begin(t, config, &o, a)
}

// Keep makes the collectors those that snapshots name whose clusters are in use already.
func (t *Tracer) Keep(all ...*snapshot.Snapshot) {
	named := make(map[*tracing.Tracing]string) // by it a listener
	for _, s := range all {
		var last *tracing.Tracing
		for l := range s.All() {
			if l.Tracing != nil && l.Tracing != last { // neighbours mostly have the same
				last = l.Tracing
				if _, ok := named[last]; !ok {
					named[last] = l.Name
				}
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	live := make(map[tracing.Collector]bool)
	for config := range named {
		if config.On() {
			live[config.Collector] = true
			t.keep(config.Collector)
		}
	}
	for to, e := range t.exporters {
		if live[to] {
			e.backend.Follow()
			continue
		}
		delete(t.exporters, to)
		t.flushing.Go(func() { e.close(closing) })
	}
	t.report(named)
}

// keep makes an exporter for a collector, unless there is one.
func (t *Tracer) keep(to tracing.Collector) {
	if t.exporters[to] != nil {
		return
	}
	b, err := backend.Dial(backend.Options{
		What: "a collector of spans", Cluster: to.Cluster, Authority: to.Authority, MaxAnswer: maxAnswer,
		Clusters: t.opts.Clusters, Logger: t.opts.Logger,
	})
	if err != nil { // nothing that a collector can bring about
		t.opts.Logger.Error("a collector of spans cannot be told", "cluster", to.Cluster, "error", err)
		return
	}
	t.exporters[to] = newExporter(t, b, to)
}

// put gives a span to its collector. It does not wait.
func (t *Tracer) put(one *ended) {
	t.mu.RLock()
	e := t.exporters[one.config.Collector]
	t.mu.RUnlock()
	if e == nil {
		t.stats.Dropped[DropUnnamed].Add(1)
		return
	}
	e.put(one)
}

// Close tells collectors what waits, for some seconds at most, and ends. Spans that end
// later are dropped.
func (t *Tracer) Close() {
	t.mu.Lock()
	t.closed = true
	for to, e := range t.exporters {
		delete(t.exporters, to)
		t.flushing.Go(func() { e.close(closing) })
	}
	t.mu.Unlock()
	t.flushing.Wait()
}
