package telemetry

import (
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// observer takes the records of one call.
type observer struct {
	recorder *Recorder
	call     *rpc.Call
	shard    uint8
	target   atomic.Pointer[target]
	last     atomic.Pointer[cell]   // of the record before; mostly this one's too
	line     atomic.Pointer[string] // what every log line of this call says
}

var _ rpc.Observer = (*observer)(nil)

// target is where an observer's records are counted.
type target struct {
	group   *group
	verdict verdict
	overApp bool // the consumer's own name is beyond a budget
}

// aim makes v the labels of the records that follow.
func (o *observer) aim(v verdict) *target {
	id := o.recorder.identify(o.call, v)
	t := &target{group: o.recorder.series.group(id), verdict: v, overApp: id.application == other}
	o.target.Store(t)
	return t
}

// Observe counts a record, and logs it if it is sampled.
func (o *observer) Observe(rec *rpc.Record) {
	t := o.target.Load()
	if !t.verdict.final {
		t = o.settle(t, rec.Result)
	}
	if t.verdict.over != within {
		o.recorder.names.exceeded[t.verdict.over].Add(1)
	}
	if t.overApp {
		o.recorder.apps.exceeded.Add(1)
	}
	c := o.cell(t.group, rec)
	c.duration.observe(durations, int64(rec.Duration))
	c.request.observe(sizes, int64(rec.RequestBytes))
	c.response.observe(sizes, int64(rec.ResponseBytes))
	if reached(rec.Result) {
		c.overhead.observe(overheads, int64(rec.Overhead))
	}
	if tap := o.recorder.tap; tap != nil && tap.Watched() {
		tap.Observe(rec)
	}
	if rec.Span != nil {
		rec.Span.End(rec)
	}
	if log := o.recorder.log; log != nil && log.Sampled() {
		log.Request(o.fixed(), rec)
	}
}

// settle looks whether the names of the call have been confirmed meanwhile; an
// answer to this very record confirms them.
func (o *observer) settle(t *target, result rpc.Result) *target {
	var v verdict
	if answered(result) {
		v = o.recorder.names.admit(o.call.Interface, o.call.Method)
	} else {
		v = o.recorder.names.look(o.call.Interface, o.call.Method)
	}
	if v == t.verdict {
		return t
	}
	return o.aim(v)
}

// fixed is what every log line of the call says.
func (o *observer) fixed() string {
	if line := o.line.Load(); line != nil {
		return *line
	}
	line := accesslog.Fixed(o.call)
	o.line.Store(&line)
	return line
}

func (o *observer) cell(g *group, rec *rpc.Record) *cell {
	out := outcome{
		reporter: o.call.Reporter, status: rec.Status, result: rec.Result, why: rec.Why, delayed: rec.Delayed,
		shard:         o.shard,
		serialization: serialization[rec.Serialization],
	}
	if strange(rec.Status) {
		out.status = statusOther
		o.recorder.strangers.Add(1)
	}
	if rec.Result == rpc.ResultException {
		out.exception = o.recorder.classes.number(rec.Exception)
	}
	if c := o.last.Load(); c != nil && c.group == g && c.outcome == out {
		return c
	}
	c := g.cell(out)
	if c.outcome.exception != out.exception {
		o.recorder.classes.exceeded.Add(1)
	}
	o.last.Store(c)
	return c
}

// answered tells whether a provider confirmed that it knows the method. An error
// status does not: that is how it answers what it does not know.
func answered(result rpc.Result) bool {
	return result == rpc.ResultValue || result == rpc.ResultException
}

// reached tells whether the request went to a provider and, if it wanted an
// answer, came back: only then did the mesh add something to a call.
func reached(result rpc.Result) bool {
	return result != rpc.ResultLocal && result != rpc.ResultGone
}
