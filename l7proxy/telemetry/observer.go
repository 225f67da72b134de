package telemetry

import (
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/shape"
	"github.com/dubway/dubway/l7proxy/telemetry/wanted"
)

// observer takes the records of one call.
type observer struct {
	recorder *Recorder
	call     *rpc.Call
	shard    uint8
	target   atomic.Pointer[target]
	says     bool                   // the configuration says of which records a line is wanted
	line     atomic.Pointer[string] // what every log line of this call says
}

var _ rpc.Observer = (*observer)(nil)

// target is where an observer's records are counted.
type target struct {
	parts   []part // one, unless the configuration changes metrics
	verdict names.Verdict
	overApp bool // the consumer's own name is beyond a budget
}

// part is what of a record is counted in one group.
type part struct {
	group    *group
	reporter rpc.Reporter
	of       report.Set
	last     atomic.Pointer[cell] // of the record before; mostly this one's too
}

// aim makes v the labels of the records that follow.
func (o *observer) aim(v names.Verdict) *target {
	id := o.recorder.identify(o.call, v)
	shapes := shape.Parts(o.call)
	t := &target{parts: make([]part, len(shapes)), verdict: v, overApp: id.application == names.Other}
	for i := range shapes {
		p := &shapes[i]
		t.parts[i].group = o.recorder.series.group(o.recorder.as(id, p, o.call.Source), p.Change)
		t.parts[i].reporter, t.parts[i].of = p.Reporter, p.Of
	}
	o.target.Store(t)
	return t
}

// Observe counts a record, and logs it if it is sampled.
func (o *observer) Observe(rec *rpc.Record) {
	t := o.target.Load()
	if !t.verdict.Final {
		t = o.settle(t, rec.Result)
	}
	if over := t.verdict.Over; over != names.Within {
		o.recorder.names.Exceed(over, 1)
	}
	if t.overApp {
		o.recorder.apps.Exceed(1)
	}
	out := o.outcome(rec)
	for i := range t.parts {
		p := &t.parts[i]
		out.reporter = p.reporter
		c := o.cell(p, out)
		c.observe(rec, p.of)
		if p.group.change == nil && reached(rec.Result) {
			c.overhead.Observe(histogram.Overheads, int64(rec.Overhead))
		}
	}
	if tap := o.recorder.tap; tap != nil && tap.Watched() {
		tap.Observe(rec)
	}
	if rec.Span != nil {
		rec.Span.End(rec)
	}
	if log := o.recorder.log; log != nil && o.logs(log, rec) {
		log.Request(o.fixed(), rec)
	}
}

// logs tells whether a record gets a line: as the configuration says, where it says
// something and nobody has said otherwise at this node.
func (o *observer) logs(log *accesslog.Log, rec *rpc.Record) bool {
	if o.says && log.Follows() {
		return wanted.Request(o.call, rec)
	}
	return log.Sampled()
}

// settle looks whether the names of the call have been confirmed meanwhile; an
// answer to this very record confirms them.
func (o *observer) settle(t *target, result rpc.Result) *target {
	var v names.Verdict
	if answered(result) {
		v = o.recorder.names.Admit(o.call.Interface, o.call.Method)
	} else {
		v = o.recorder.names.Look(o.call.Interface, o.call.Method)
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

// outcome is that of a record, for no side yet.
func (o *observer) outcome(rec *rpc.Record) outcome {
	out := outcome{
		status: rec.Status, result: rec.Result, why: rec.Why, delayed: rec.Delayed,
		shard:         o.shard,
		serialization: serialization[rec.Serialization],
	}
	if strange(rec.Status) {
		out.status = statusOther
		o.recorder.strangers.Add(1)
	}
	if rec.Result == rpc.ResultException {
		out.exception = o.recorder.classes.Number(rec.Exception)
	}
	return out
}

func (o *observer) cell(p *part, out outcome) *cell {
	if c := p.last.Load(); c != nil && c.outcome == out {
		return c
	}
	c := p.group.cell(out)
	if c.outcome.exception != out.exception {
		o.recorder.classes.Exceed()
	}
	p.last.Store(c)
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
