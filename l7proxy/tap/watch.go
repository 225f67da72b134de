package tap

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
)

const (
	// maxWaiting is how many requests wait for a tap's reader; those beyond are
	// dropped.
	maxWaiting = 1024
	// maxSend is how many lines are written at a time, and sendEvery the least
	// time from one time to the next: a tap costs the node's calls a bounded
	// share of its processors, whatever its filter lets through.
	maxSend   = 250
	sendEvery = 50 * time.Millisecond
	// tellEvery is how long a drop stays untold while no line is written.
	tellEvery = time.Second
)

// watch is one tap: a filter, and what waits for its reader.
type watch struct {
	filter  *filter
	bodies  bool
	events  chan event
	dropped atomic.Uint64 // matching requests, not told yet
	room    atomic.Int64  // bytes that may still be captured
}

// event is a request that ended, for a tap's reader.
type event struct {
	rec  rpc.Record
	kept *capture
}

func newWatch(f *filter, bodies bool) *watch {
	w := &watch{filter: f, bodies: bodies, events: make(chan event, maxWaiting)}
	w.room.Store(maxCaptured)
	return w
}

// observe queues a matching request, or drops it. Part of watcher.
func (w *watch) observe(rec *rpc.Record) {
	kept, _ := rec.Capture.(*capture)
	if kept != nil && kept.watch != w {
		kept = nil
	}
	if !w.filter.record(rec) {
		kept.release()
		return
	}
	e := event{rec: *rec, kept: kept}
	e.rec.Exception, e.rec.Capture = strings.Clone(rec.Exception), nil
	select {
	case w.events <- e:
	default:
		w.dropped.Add(1)
		kept.release()
	}
}

// aggregate is part of watcher: a tap is of single requests.
func (w *watch) aggregate(*rpc.Call, *rpc.Aggregate) {}

// tell is part of watcher.
func (w *watch) tell(rec *rpc.Record) { w.observe(rec) }

// follow writes what matches until ctx ends, the reader does, or limit requests
// were written (0: no limit).
func (w *watch) follow(ctx context.Context, to *admin.Stream, limit int) error {
	// The first line says that the tap is on.
	if err := to.Send(&admin.TapEvent{APIVersion: admin.APIVersion}); err != nil {
		return err
	}
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for left := limit; ; {
		lines := maxSend
		if limit > 0 {
			lines = min(lines, left)
		}
		var batch []any
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events:
			batch = w.batch(e, lines)
		case <-tell.C:
			if n := w.dropped.Swap(0); n > 0 {
				batch, lines = []any{&admin.TapEvent{APIVersion: admin.APIVersion, Dropped: n}}, 0
			}
		}
		if len(batch) == 0 {
			continue
		}
		if err := to.Send(batch...); err != nil {
			return err
		}
		if lines > 0 {
			left -= len(batch)
		}
		if limit > 0 && left == 0 || !pause(ctx, len(batch)) {
			return nil
		}
	}
}

// pause holds the rate of lines; false if ctx ends meanwhile.
func pause(ctx context.Context, written int) bool {
	if written < maxSend {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(sendEvery):
		return true
	}
}

// batch makes lines of first and of what waits behind it. The first one tells
// of the requests that were dropped.
func (w *watch) batch(first event, most int) []any {
	line := w.line(&first)
	line.Dropped = w.dropped.Swap(0)
	lines := []any{line}
	for len(lines) < most {
		select {
		case e := <-w.events:
			lines = append(lines, w.line(&e))
		default:
			return lines
		}
	}
	return lines
}

// line makes the document of an event and gives its bytes back.
func (w *watch) line(e *event) *admin.TapEvent {
	line := document(&e.rec)
	if !w.bodies {
		return line
	}
	if e.kept == nil {
		line.BodiesMissing = true
		return line
	}
	line.Request, line.Response = e.kept.bodies()
	e.kept.release() // the document holds them for a moment longer
	return line
}
