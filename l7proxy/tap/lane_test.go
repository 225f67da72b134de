package tap

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
)

// inLane is calls of a time each, as the kernel counts them.
func inLane(calls int, took time.Duration) *rpc.Aggregate {
	var h histogram.Histogram
	for range calls {
		h.Observe(histogram.Durations, int64(took))
	}
	a := &rpc.Aggregate{Serialization: 2}
	(*histogram.Tally)(&a.Duration).Add(&h)
	return a
}

// TestTopOfLane: every call of the lane is counted once, and latencies are those of all calls
// of a row, by whichever way.
func TestTopOfLane(t *testing.T) {
	r := newRig(t, false)
	top := newTop(admin.TopByBoth, &filter{})
	if err := r.hub.join(top); err != nil {
		t.Fatal(err)
	}
	defer r.hub.leave(top)
	call := r.prepared(nil)
	observer := call.Observer.(rpc.Aggregator)
	tell := func(took time.Duration, times int) {
		for range times {
			rec := record(call)
			rec.Lane, rec.Duration = true, took
			observer.Tell(rec)
		}
	}
	for _, test := range []struct {
		name        string
		make        func()
		calls, lane uint64
		p50, p99    float64 // ms
	}{
		{"both ways, of which one in a hundred is told of", func() {
			observer.Aggregate(inLane(9000, 100*time.Microsecond))
			tell(100*time.Microsecond, 90)
			for range 1000 {
				observe(record(call))
			}
		}, 10000, 9000, 0.1, 1.5},
		{"mostly by the proxy", func() {
			observer.Aggregate(inLane(2, 100*time.Microsecond))
			tell(100*time.Microsecond, 2)
			for range 998 {
				observe(record(call))
			}
		}, 1000, 2, 1.5, 1.5},
		{"in the lane alone, more told of than there were", func() {
			observer.Aggregate(inLane(1, 100*time.Microsecond))
			tell(200*time.Microsecond, 3)
		}, 1, 1, 0.2, 0.2},
		{"told of is none", func() { observer.Aggregate(inLane(50, 3*time.Millisecond)) }, 50, 50, 3, 3},
		{"told of is one that was counted before", func() {
			tell(time.Second, 1)
			observe(record(call))
		}, 1, 0, 1.5, 1.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.make()
			report := top.report(time.Now(), time.Second)
			if len(report.Items) != 1 {
				t.Fatalf("%d rows", len(report.Items))
			}
			row := &report.Items[0]
			near := func(got, want float64) bool { return got > want*0.96 && got < want*1.04 }
			if row.Calls != test.calls || row.Lane != test.lane || row.Failed != 0 || !near(row.P50Ms, test.p50) || !near(row.P99Ms, test.p99) {
				t.Errorf("%+v", row)
			}
		})
	}
	if len(top.report(time.Now(), time.Second).Items) != 0 {
		t.Error("calls came again")
	}
}

// TestTopCollects: what the kernel has counted is asked for before each report.
func TestTopCollects(t *testing.T) {
	r := newRig(t, false)
	call := r.prepared(nil)
	r.hub.Collect = func() { call.Observer.(rpc.Aggregator).Aggregate(inLane(7, time.Millisecond)) }
	err := r.client.Follow(t.Context(), admin.PathTop, &admin.TopRequest{Interval: "100ms", By: admin.TopByMethod, Reports: 2},
		func(line []byte) error {
			var report admin.TopReport
			if err := json.Unmarshal(line, &report); err != nil {
				return err
			}
			if len(report.Items) != 1 || report.Items[0].Calls != 7 || report.Items[0].Lane != 7 {
				t.Errorf("%+v", report.Items)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTapOfLane: a tap shows what it is told of, by its filter, and says that it was the lane.
func TestTapOfLane(t *testing.T) {
	r := newRig(t, false)
	call := r.prepared(nil)
	seen := 0
	r.follow(&admin.TapRequest{TapFilter: admin.TapFilter{SlowerThan: "1ms"}, Limit: 1}, func() {
		observer := call.Observer.(rpc.Aggregator)
		if !observer.Tells() {
			t.Error("nobody is to be told")
		}
		observer.Aggregate(inLane(2, time.Millisecond))
		for _, took := range []time.Duration{time.Microsecond, 2 * time.Millisecond} {
			rec := record(call)
			rec.Lane, rec.Duration = true, took
			observer.Tell(rec)
		}
	}, func(e *admin.TapEvent) error {
		seen++
		if !e.Lane || e.DurationMs != 2 || e.Method != "greet" || e.Result != "value" {
			t.Errorf("%+v", e)
		}
		return nil
	})
	if seen != 1 {
		t.Errorf("%d calls were shown", seen)
	}
}
