package telemetry

import (
	"runtime"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
)

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
