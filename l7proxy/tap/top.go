package tap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
)

const (
	// maxRows bounds the lines of a top; requests of further ones share one.
	maxRows = 1024
	// maxCalls bounds the calls whose line is remembered.
	maxCalls = 16 << 10
	// maxText is how much of a name a line shows: names come from the wire.
	maxText = 256
)

// line is what a row of top adds up.
type line struct {
	iface, method, consumer, provider string
	reporter                          rpc.Reporter
}

// row is the values of one line.
type row struct {
	line               line
	calls              atomic.Uint64
	failed, exceptions atomic.Uint64
	latency            latency
	lane               lane

	last struct { // of the report before; the reporter's alone
		calls, failed, exceptions uint64
		latency                   [numBuckets]uint64
		lane                      lanes
	}
}

// top adds up every request while somebody looks: it drops none. A request
// costs one look-up without a lock and a few atomic additions.
type top struct {
	by      string
	filter  *filter
	collect func()   // as of Hub
	byCall  sync.Map // *rpc.Call -> *row, or nil where the filter says no
	calls   atomic.Int64

	mu   sync.Mutex
	rows map[line]*row
}

func newTop(by string, f *filter) *top {
	return &top{by: by, filter: f, rows: make(map[line]*row)}
}

// observe counts a request. Part of watcher.
func (t *top) observe(rec *rpc.Record) {
	r := t.row(rec.Call)
	if r == nil {
		return
	}
	switch rec.Result {
	case rpc.ResultException:
		r.exceptions.Add(1)
	case rpc.ResultError, rpc.ResultLocal, rpc.ResultGone:
		r.failed.Add(1)
	case rpc.ResultNone, rpc.ResultValue:
	}
	if rec.Result != rpc.ResultNone { // a one-way request has no end to wait for
		r.latency.add(rec.Duration)
	}
	r.calls.Add(1)
}

// row finds the row of a call. Calls are made once for each connection and
// snapshot: those that are remembered are forgotten from time to time, the rows
// never, so that no count is lost.
func (t *top) row(c *rpc.Call) *row {
	if found, ok := t.byCall.Load(c); ok {
		return found.(*row) //nolint:forcetypeassert // nothing else is stored
	}
	if t.calls.Add(1) > maxCalls {
		t.byCall.Clear()
		t.calls.Store(1)
	}
	var r *row
	if t.filter.call(c) {
		r = t.add(t.lineOf(c))
	}
	t.byCall.Store(c, r)
	return r
}

func (t *top) add(l line) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[l]
	if r == nil && len(t.rows) >= maxRows {
		l = line{iface: "other", method: "other", consumer: "other", provider: "other", reporter: l.reporter}
		r = t.rows[l]
	}
	if r == nil {
		r = &row{line: l}
		t.rows[l] = r
	}
	return r
}

func (t *top) lineOf(c *rpc.Call) line {
	l := line{reporter: c.Reporter}
	if t.by != admin.TopByPair {
		l.iface, l.method = clip(c.Interface), clip(c.Method)
	}
	if t.by != admin.TopByMethod {
		l.consumer, l.provider = end(c.Source), end(c.Destination)
		if c.Destination == nil {
			l.provider = cmp.Or(c.Service.Host, c.Cluster)
		}
	}
	return l
}

// end names a workload, or the address of a pod that is not known.
func end(p *rpc.Peer) string {
	switch {
	case p == nil:
		return ""
	case p.Workload != "":
		return clip(p.Namespace + "/" + p.Workload)
	case p.Address.IsValid():
		return p.Address.String()
	}
	return ""
}

func clip(s string) string { return strings.Clone(s[:min(len(s), maxText)]) }

// report tells what came since the report before, the busiest line first.
func (t *top) report(now time.Time, passed time.Duration) *admin.TopReport {
	t.mu.Lock()
	rows := make([]*row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, r)
	}
	t.mu.Unlock()
	report := &admin.TopReport{APIVersion: admin.APIVersion, Time: now, Seconds: passed.Seconds(), Items: []admin.TopRow{}}
	for _, r := range rows {
		if item := r.report(passed); item.Calls > 0 {
			report.Items = append(report.Items, item)
		}
	}
	slices.SortFunc(report.Items, func(a, b admin.TopRow) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(name(&a), name(&b)))
	})
	return report
}

func name(r *admin.TopRow) string {
	return fmt.Sprint(r.Interface, ".", r.Method, " ", r.Consumer, " ", r.Provider, " ", r.Reporter)
}

func (r *row) report(passed time.Duration) admin.TopRow {
	delta := func(now *atomic.Uint64, last *uint64) uint64 {
		n := now.Load()
		d := n - *last
		*last = n
		return d
	}
	item := admin.TopRow{
		Interface: r.line.iface, Method: r.line.method, Consumer: r.line.consumer, Provider: r.line.provider,
		Reporter: r.line.reporter.String(),
		Calls:    delta(&r.calls, &r.last.calls), Failed: delta(&r.failed, &r.last.failed),
		Exceptions: delta(&r.exceptions, &r.last.exceptions),
	}
	counts, total := r.latency.since(&r.last.latency)
	var inLane lanes
	item.Lane = r.lane.since(&r.last.lane, &inLane)
	total = inLane.spread(&counts, total, item.Lane)
	item.P50Ms, item.P99Ms = milliseconds(quantile(&counts, total, 0.5)), milliseconds(quantile(&counts, total, 0.99))
	item.CallsPerSecond = float64(item.Calls) / passed.Seconds()
	return item
}
