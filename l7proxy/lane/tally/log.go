package tally

import (
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// follow reads the log.
func (t *Table) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memory != nil {
		t.readLog()
	}
}

// readLog tells of the calls in the log.
func (t *Table) readLog() {
	m := t.memory
	if m.Log != nil {
		now, monotonic := time.Now(), lane.Now()
		m.Log.Read(func(r *lane.Record) { t.tell(r, now, monotonic) })
	}
	if m.Budget != nil {
		told, dropped := atomic.LoadUint64(&m.Budget.Told), atomic.LoadUint64(&m.Budget.Dropped)
		t.totals.Told += told - t.budget.Told
		t.totals.Dropped += dropped - t.budget.Dropped
		t.budget.Told, t.budget.Dropped = told, dropped
	}
}

// look finds out whether anybody wants records.
func (t *Table) look() {
	for number := range t.series {
		if s := &t.series[number]; s.users > 0 && t.tells(s.call) {
			t.wants.Store(true)
			return
		}
	}
	t.wants.Store(false)
}

// tells is whether records of a call are of any use.
func (t *Table) tells(call *rpc.Call) bool {
	to, ok := call.Observer.(rpc.Aggregator)
	return t.limit > 0 && ok && to.Tells()
}

// tell makes a Record of one call. Now is what time it was when the kernel's clock was
// monotonic.
func (t *Table) tell(r *lane.Record, now time.Time, monotonic uint64) {
	if int(r.Series) >= len(t.series) || int(r.Lane) >= len(t.lanes.consumers) {
		return
	}
	call := t.series[r.Series].call
	if call == nil {
		return
	}
	to, ok := call.Observer.(rpc.Aggregator)
	if !ok {
		return
	}
	t.record = rpc.Record{
		Call: call, Result: rpc.ResultValue, Status: r.Status, Serialization: r.Serialization, ID: r.ID,
		Start:    now.Add(-time.Duration(monotonic - r.Start)),
		Duration: time.Duration(r.Duration), RequestBytes: int(r.RequestBytes), ResponseBytes: int(r.AnswerBytes),
		Downstream: t.lanes.consumers[r.Lane], Lane: true,
	}
	to.Tell(&t.record)
}
