package telemetry

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/wanted"
)

var _ rpc.Aggregator = (*observer)(nil)

// Aggregate counts calls of the lane as Observe counts records of a value. The mesh's own
// time is not among it: nobody measures it there.
func (o *observer) Aggregate(a *rpc.Aggregate) {
	t := o.target.Load()
	if !t.verdict.Final {
		t = o.settle(t, rpc.ResultValue)
	}
	if over := t.verdict.Over; over != names.Within {
		o.recorder.names.Exceed(over, a.Calls())
	}
	if t.overApp {
		o.recorder.apps.Exceed(a.Calls())
	}
	out := outcome{
		status: rpc.StatusOK, result: rpc.ResultValue, lane: true, shard: o.shard, serialization: serialization[a.Serialization],
	}
	for i := range t.parts {
		p := &t.parts[i]
		out.reporter = p.reporter
		p.group.cell(out).aggregate(a, p.of)
	}
	if tap := o.recorder.tap; tap != nil && tap.Watched() {
		tap.Aggregate(o.call, a)
	}
}

// Tells is part of rpc.Aggregator.
func (o *observer) Tells() bool {
	if tap := o.recorder.tap; tap != nil && tap.Watched() {
		return true
	}
	log := o.recorder.log
	switch {
	case log == nil:
		return false
	case o.says && log.Follows():
		return wanted.Values(o.call)
	}
	return log.Sample() > 0
}

// Tell is part of rpc.Aggregator.
func (o *observer) Tell(rec *rpc.Record) {
	if tap := o.recorder.tap; tap != nil && tap.Watched() {
		tap.Tell(rec)
	}
	if log := o.recorder.log; log != nil && o.logs(log, rec) {
		log.Request(o.fixed(), rec)
	}
}

// aggregate adds what is counted of calls.
func (c *cell) aggregate(a *rpc.Aggregate, of report.Set) {
	c.count(a.Calls(), of)
	if of.Has(report.Duration) {
		c.duration.Merge((*histogram.Tally)(&a.Duration))
	}
	if of.Has(report.RequestBytes) {
		c.request.Merge((*histogram.Tally)(&a.Request))
	}
	if of.Has(report.ResponseBytes) {
		c.response.Merge((*histogram.Tally)(&a.Response))
	}
}

// Ways returns how many calls with the labels of some calls took the lane and how many did
// not, once where several have the same labels: as the consumers' side counts them.
func (r *Recorder) Ways(calls ...*rpc.Call) (lane, proxy uint64) {
	var seen []*group
	for _, call := range calls {
		o, ok := call.Observer.(*observer)
		if !ok {
			continue
		}
		for i := range o.target.Load().parts {
			g := o.target.Load().parts[i].group
			if g.change != nil || slices.Contains(seen, g) {
				continue
			}
			seen = append(seen, g)
			for _, c := range g.all() {
				switch {
				case c.outcome.reporter&rpc.ReporterSource == 0:
				case c.outcome.lane:
					lane += c.records()
				default:
					proxy += c.records()
				}
			}
		}
	}
	return lane, proxy
}

// consumer is whose share of calls in the lane is told.
type consumer struct{ workload, namespace string }

// shares writes which part of each consumer's Dubbo calls took the lane, of those whose
// serialization is counted.
func (w *textWriter) shares(spoke map[serializationKey]uint64) {
	type ways struct{ lane, all uint64 }
	found := make(map[consumer]ways)
	for key, total := range spoke {
		if key.reporter != rpc.ReporterSource.String() {
			continue
		}
		c := consumer{key.workload, key.namespace}
		sum := found[c]
		sum.all += total
		if key.lane {
			sum.lane += total
		}
		found[c] = sum
	}
	lines := make([]string, 0, len(found))
	for c, sum := range found {
		labels := appendLabels(nil, []string{"source_workload", "source_workload_namespace"}, []string{c.workload, c.namespace})
		share := strconv.FormatFloat(float64(sum.lane)/float64(sum.all), 'g', -1, 64)
		lines = append(lines, "dubway_lane_share{"+string(labels)+"} "+share+"\n")
	}
	slices.Sort(lines)
	w.family("dubway_lane_share", "gauge", "Share of the Dubbo calls of the node's consumers that took the lane, since the proxy began.")
	w.WriteString(strings.Join(lines, ""))
}
