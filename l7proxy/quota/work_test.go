package quota

import (
	"net/netip"
	"testing"
	"time"
)

// TestPace: a workload reads at its rate, whatever the number of its connections; what
// it reads costs another workload nothing, and one of its clients has a part of it.
func TestPace(t *testing.T) {
	n := NewNode(100, 100, 100)
	n.Pace(1000)
	start := time.Unix(1000, 0)
	busy, other := n.Workload(), n.Workload()
	for i, step := range []struct {
		w      *Workload
		values int
		after  time.Duration
		want   time.Duration
	}{
		{busy, 100, 0, 0}, // the burst
		{busy, 500, 0, 500 * time.Millisecond},
		{busy, 500, 0, time.Second}, // another connection, behind that
		{other, 50, 0, -50 * time.Millisecond},
		{busy, 100, time.Second, 100 * time.Millisecond},
		{busy, 10, time.Hour, -90 * time.Millisecond},
	} {
		if got := step.w.Decoded(step.values, start.Add(step.after)); got != max(step.want, 0) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	if n.Waits().Count.Load() != 3 || n.Waits().Nanos.Load() != int64(1600*time.Millisecond) {
		t.Errorf("%d waits, %d ns", n.Waits().Count.Load(), n.Waits().Nanos.Load())
	}
	provider := n.Workload()
	greedy, modest := provider.Client(netip.MustParseAddr("10.0.0.1")), provider.Client(netip.MustParseAddr("10.0.0.2"))
	if got := greedy.Decoded(50, start); got != 100*time.Millisecond {
		t.Errorf("a client that read a fifth of a second's part: %v", got)
	}
	if got := modest.Decoded(20, start); got != 0 {
		t.Errorf("another client of the same pod: %v", got)
	}
	if got := (*Workload)(nil).Decoded(1<<20, start); got != 0 {
		t.Errorf("without a quota: %v", got)
	}
	if got := NewNode(1, 1, 1).Workload().Decoded(1<<20, start); got != 0 {
		t.Errorf("without a rate: %v", got)
	}
}
