package trace

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dubway/dubway/l7proxy/backend"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
)

// How spans are told.
const (
	// export is the method of OTLP's trace service.
	export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
	// maxAnswer bounds an answer, in bytes: it has a sentence at most.
	maxAnswer = 64 << 10
	// maxWaiting and maxBatch are spans: those that wait for a collector, about 1 KiB
	// each, and those that it is told at a time.
	maxWaiting = 4096
	maxBatch   = 512
	// exportLimit is how long one export may take.
	exportLimit = 10 * time.Second
	// patience is how long a batch is tried again.
	patience = time.Minute
	// The waits between tries.
	firstWait, lastWait = 250 * time.Millisecond, 5 * time.Second
)

// exporter tells one collector. One goroutine does.
type exporter struct {
	tracer  *Tracer
	to      tracing.Collector
	backend *backend.Backend
	queue   chan *ended
	ending  chan struct{} // closed: tell what waits, and end
	done    chan struct{}
	ctx     context.Context //nolint:containedctx // ends when nobody waits for that any more
	cancel  context.CancelFunc

	exported, dropped atomic.Uint64

	mu      sync.Mutex
	failing error
	since   time.Time
}

func newExporter(t *Tracer, b *backend.Backend, to tracing.Collector) *exporter {
	e := &exporter{
		tracer: t, to: to, backend: b, queue: make(chan *ended, maxWaiting), since: time.Now(),
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	go e.run()
	return e
}

// put takes a span, or drops it if too many wait.
func (e *exporter) put(one *ended) {
	select {
	case e.queue <- one:
	default:
		e.drop(DropFull, 1)
	}
}

func (e *exporter) drop(why Drop, n int) {
	e.dropped.Add(uint64(n))
	e.tracer.stats.Dropped[why].Add(uint64(n))
}

// run tells the collector until the end.
func (e *exporter) run() {
	defer close(e.done)
	tick := time.NewTicker(e.tracer.opts.Every)
	defer tick.Stop()
	batch := make([]*ended, 0, maxBatch)
	for {
		select {
		case one := <-e.queue:
			if batch = append(batch, one); len(batch) < maxBatch {
				continue
			}
		case <-tick.C:
		case <-e.ending:
			e.last(batch)
			return
		}
		e.tell(batch)
		clear(batch)
		batch = batch[:0]
	}
}

// last tells what waits at the end.
func (e *exporter) last(batch []*ended) {
	for {
		select {
		case one := <-e.queue:
			if batch = append(batch, one); len(batch) < maxBatch {
				continue
			}
			e.tell(batch)
			batch = batch[:0]
		default:
			e.tell(batch)
			return
		}
	}
}

// tell tells a batch, again and again for a while if the collector cannot be told.
func (e *exporter) tell(batch []*ended) {
	if len(batch) == 0 {
		return
	}
	request := e.request(batch)
	wait, until := firstWait, time.Now().Add(patience)
	for {
		refused, err := e.try(request)
		e.note(err)
		switch {
		case err == nil:
			refused = min(refused, len(batch))
			e.exported.Add(uint64(len(batch) - refused))
			e.tracer.stats.Exported.Add(uint64(len(batch) - refused))
			e.drop(DropRefused, refused)
			return
		case !temporary(err):
			e.drop(DropRefused, len(batch))
			return
		case time.Now().After(until) || !e.pause(wait):
			e.drop(DropFailed, len(batch))
			return
		}
		wait = min(2*wait, lastWait)
	}
}

// try tells the collector once. It returns how many spans the collector took no notice of.
func (e *exporter) try(request *collectorpb.ExportTraceServiceRequest) (refused int, err error) {
	limit := e.to.Timeout
	if limit <= 0 {
		limit = exportLimit
	}
	ctx, cancel := context.WithTimeout(e.ctx, limit)
	defer cancel()
	answer := new(collectorpb.ExportTraceServiceResponse)
	if err := e.backend.Conn().Invoke(ctx, export, request, answer); err != nil {
		if failing := e.backend.Failing(); failing != nil && status.Code(err) == codes.Unavailable {
			return 0, unreachable{failing} // which says more
		}
		return 0, fmt.Errorf("export: %w", err)
	}
	return int(max(answer.GetPartialSuccess().GetRejectedSpans(), 0)), nil
}

// unreachable is why there is no connection to a collector.
type unreachable struct{ error }

// temporary tells whether OTLP has an export tried again.
func temporary(err error) bool {
	if errors.As(err, new(unreachable)) {
		return true
	}
	return slices.Contains(temporaries, status.Code(err))
}

// temporaries are OTLP's retryable codes.
var temporaries = []codes.Code{
	codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss, codes.ResourceExhausted,
}

// pause waits for about as long as is said. False: the end has come.
func (e *exporter) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait/2 + rand.N(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.ctx.Done():
		return false
	}
}

// note says how an export went, and the log when that changes.
func (e *exporter) note(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.failing
	if (was == nil) != (err == nil) {
		e.since = time.Now()
	}
	e.failing = err
	switch {
	case err != nil && was == nil:
		e.tracer.opts.Logger.Warn("spans are not taken", "cluster", e.to.Cluster, "error", err)
	case err == nil && was != nil:
		e.tracer.opts.Logger.Info("spans are taken again", "cluster", e.to.Cluster)
	}
}

func (e *exporter) state() Collector {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := Collector{
		Cluster: e.to.Cluster, Exported: e.exported.Load(), Dropped: e.dropped.Load(), Waiting: len(e.queue), Since: e.since,
	}
	if e.failing != nil {
		c.Failing = e.failing.Error()
	}
	return c
}

// close tells the collector what waits, for as long as is said, and ends.
func (e *exporter) close(limit time.Duration) {
	close(e.ending)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case <-e.done:
	case <-ctx.Done():
		e.cancel()
		<-e.done
	}
	e.cancel()
	e.drop(DropUnnamed, len(e.queue)) // that came meanwhile
	e.backend.Close()
}
