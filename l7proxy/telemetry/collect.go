package telemetry

import (
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
	"github.com/dubway/dubway/l7proxy/telemetry/shape"
)

// requestSeries are the values of one set of labels of the request metrics.
type requestSeries struct {
	labels                      string
	total                       uint64
	duration, request, response histogram.Tally
}

// tcpSeries are the values of one set of labels of the TCP metrics.
type tcpSeries struct {
	labels string
	tcpCounts
}

// overheadSeries are the values of one set of labels of dubway_overhead_seconds.
type overheadSeries struct {
	labels string
	histogram.Tally
}

// serializationSeries are the requests of one set of labels of
// dubway_serialization_requests_total.
type serializationSeries struct {
	labels string
	total  uint64
}

// collection is all series as they were at one moment, ordered by their labels.
type collection struct {
	requests       []*requestSeries
	tcp            []*tcpSeries
	overheads      []*overheadSeries
	serializations []serializationSeries
	spoke          map[serializationKey]uint64 // the same
}

func (r *Recorder) collect() collection {
	var (
		now   = time.Now()
		spent = make(map[overheadKey]*histogram.Tally)
		spoke = make(map[serializationKey]uint64)
		found = collection{spoke: spoke}
	)
	for _, g := range r.series.sweep(now) {
		for _, s := range sides {
			found.requests = append(found.requests, r.merge(g, s)...)
			addSerializations(spoke, g, s)
		}
		addOverheads(spent, g)
	}
	for key, sum := range spent {
		text := appendLabels(nil, []string{"reporter", "request_protocol"}, []string{key.reporter.String(), key.protocol})
		found.overheads = append(found.overheads, &overheadSeries{labels: string(text), Tally: *sum})
	}
	for key, counts := range r.tcp.sweep(now) {
		for _, s := range sides {
			if key.reporter&s.reporter != 0 {
				text := key.identity.tcpText(s.name, key.flags, counts.change)
				found.tcp = append(found.tcp, &tcpSeries{labels: text, tcpCounts: counts})
			}
		}
	}
	for key, total := range spoke {
		found.serializations = append(found.serializations, serializationSeries{labels: key.text(), total: total})
	}
	slices.SortFunc(found.serializations, func(a, b serializationSeries) int { return strings.Compare(a.labels, b.labels) })
	slices.SortFunc(found.requests, func(a, b *requestSeries) int { return strings.Compare(a.labels, b.labels) })
	slices.SortFunc(found.tcp, func(a, b *tcpSeries) int { return strings.Compare(a.labels, b.labels) })
	slices.SortFunc(found.overheads, func(a, b *overheadSeries) int { return strings.Compare(a.labels, b.labels) })
	return found
}

// published is an outcome as the labels tell of it: several outcomes may look
// the same.
type published struct {
	code, status, flags, result, exception string
}

// merge adds up the cells of a group that count for one side. A call that was
// counted for both sides in one cell is told of by both.
func (r *Recorder) merge(g *group, s side) []*requestSeries {
	merged := make(map[published]*requestSeries)
	for _, c := range g.all() {
		if c.outcome.reporter&s.reporter == 0 {
			continue
		}
		out := published{
			code:      responseCode(c.outcome.status),
			status:    statusName(c.outcome.status),
			flags:     rpc.Flags(c.outcome.why, c.outcome.delayed),
			result:    c.outcome.result.String(),
			exception: r.classes.Name(c.outcome.exception),
		}
		if g.change != nil {
			shape.Clear(g.change, map[string]*string{
				"response_code": &out.code, "dubbo_status": &out.status, "response_flags": &out.flags,
				"dubbo_result": &out.result, "dubbo_exception": &out.exception,
			})
		}
		series := merged[out]
		if series == nil {
			series = &requestSeries{labels: g.requestText(s.name, out)}
			merged[out] = series
		}
		series.total += c.requests()
		series.duration.Add(&c.duration)
		series.request.Add(&c.request)
		series.response.Add(&c.response)
	}
	list := make([]*requestSeries, 0, len(merged))
	for _, series := range merged {
		list = append(list, series)
	}
	return list
}

type overheadKey struct {
	reporter rpc.Reporter
	protocol string
}

func addOverheads(spent map[overheadKey]*histogram.Tally, g *group) {
	if g.change != nil {
		return
	}
	for _, c := range g.all() {
		key := overheadKey{reporter: c.outcome.reporter, protocol: g.identity.protocol}
		if spent[key] == nil {
			spent[key] = &histogram.Tally{}
		}
		spent[key].Add(&c.overhead)
	}
}

type serializationKey struct {
	service, reporter, workload, namespace string
	id                                     uint8
	lane                                   bool
}

func addSerializations(spoke map[serializationKey]uint64, g *group, s side) {
	for _, c := range g.all() {
		if g.change != nil || c.outcome.reporter&s.reporter == 0 || c.outcome.serialization == 0 {
			continue
		}
		spoke[serializationKey{
			service: g.identity.serviceHost, reporter: s.name, workload: g.identity.source.workload,
			namespace: g.identity.source.namespace, id: c.outcome.serialization, lane: c.outcome.lane,
		}] += c.records()
	}
}
