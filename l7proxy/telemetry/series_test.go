package telemetry

import (
	"runtime"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
)

func TestHistogram(t *testing.T) {
	tests := []struct {
		layout *layout
		value  int64
		bucket int
	}{
		{durations, -1, 0},
		{durations, 0, 0},
		{durations, 500_000, 0},
		{durations, 500_001, 1},
		{durations, 1_000_000, 1},
		{durations, 1_000_001, 2},
		{durations, int64(time.Hour), 18},
		{durations, int64(time.Hour) + 1, 19},
		{sizes, 0, 0},
		{sizes, 1, 1},
		{sizes, 2, 2},
		{sizes, 5, 2},
		{sizes, 6, 3},
		{sizes, 8 << 20, 19},
		{overheads, 4_999, 0},
		{overheads, 5_000, 0},
		{overheads, 5_001, 1},
		{overheads, 100_000_000, 18},
		{overheads, 100_000_001, 19},
	}
	for _, test := range tests {
		var h histogram
		h.observe(test.layout, test.value)
		for i := range h.counts {
			if want := uint64(0); i == test.bucket {
				if h.counts[i].Load() != 1 {
					t.Errorf("%d is not in bucket %d", test.value, i)
				}
			} else if h.counts[i].Load() != want {
				t.Errorf("%d is in bucket %d, want %d", test.value, i, test.bucket)
			}
		}
	}
	// Every bound is in its own bucket, one more is in the next.
	for _, l := range []*layout{durations, sizes, overheads} {
		for i, bound := range l.bounds {
			var h histogram
			h.observe(l, int64(bound))
			h.observe(l, int64(bound)+1)
			if h.counts[i].Load() != 1 || h.counts[i+1].Load() != 1 {
				t.Errorf("bound %s is not inclusive: %v %v", l.text[i], &h.counts[i], &h.counts[i+1])
			}
		}
	}
}

// TestSweep: series of pods that are gone go too, those in use stay, and no
// count is lost.
func TestSweep(t *testing.T) {
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	prepare := func(workload string) rpc.Observer {
		return r.Prepare(&rpc.Call{Reporter: rpc.ReporterSource, Source: &rpc.Peer{Workload: workload}})
	}
	names := func(after time.Duration) map[string]uint64 {
		runtime.GC()
		found := make(map[string]uint64)
		for _, g := range r.series.sweep(time.Now().Add(after)) {
			found[g.identity.source.workload] = g.total()
		}
		return found
	}
	kept := prepare("kept")
	for range 2 {
		kept.Observe(&rpc.Record{})
		prepare("gone").Observe(&rpc.Record{})
	}
	if got := names(0); got["kept"] != 2 || got["gone"] != 2 {
		t.Errorf("series at first = %v", got)
	}
	names(2 * idle)
	if got := names(2 * idle); len(got) != 1 || got["kept"] != 2 {
		t.Errorf("series after a long time = %v, want kept alone", got)
	}
	kept.Observe(&rpc.Record{})
	prepare("gone").Observe(&rpc.Record{})
	if got := names(3 * idle); got["kept"] != 3 || got["gone"] != 1 {
		t.Errorf("series in use again = %v", got)
	}
	if kept := prepare("kept"); kept == nil || names(0)["kept"] != 3 {
		t.Error("a call that is prepared later does not find its series")
	}

	r.Connection(&rpc.Connection{Call: &rpc.Call{Reporter: rpc.ReporterSource}})
	if got := r.tcp.sweep(time.Now()); len(got) != 1 {
		t.Errorf("tcp series = %v, want one", got)
	}
	if got := r.tcp.sweep(time.Now().Add(2 * idle)); len(got) != 0 {
		t.Errorf("tcp series after a long time = %v, want none", got)
	}
	runtime.KeepAlive(kept)
}
