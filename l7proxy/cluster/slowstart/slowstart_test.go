package slowstart

import (
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestWeight: Envoy's formula, max(least, (ready / window) ^ (1 / aggression)).
func TestWeight(t *testing.T) {
	for _, tt := range []struct {
		aggression, least float64
		full              uint64
		ready             time.Duration
		want              uint64
	}{
		{1, 0.1, 1, 0, 100},
		{1, 0.1, 1, 5 * time.Second, 500},
		{1, 0.1, 3, 5 * time.Second, 1500},
		{2, 0.1, 1, 2500 * time.Millisecond, 500},
		{0.5, 0.1, 1, 5 * time.Second, 250},
		{1, 0, 1, 0, 1},
		{1, 0.1, 1, -time.Second, 100}, // the clock was set
		{1, 0.1, 7, 10 * time.Second, 7000},
		{1, 0.1, 0, time.Second, 0},
	} {
		s := &snapshot.SlowStart{Window: 10 * time.Second, Aggression: tt.aggression, Least: tt.least}
		if got := Weight(s, tt.full, tt.ready); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

func TestInterval(t *testing.T) {
	for window, want := range map[time.Duration]time.Duration{time.Second: 100 * time.Millisecond, time.Minute: 1200 * time.Millisecond} {
		if got := Interval(&snapshot.SlowStart{Window: window}); got != want {
			t.Errorf("in a window of %s it is %s, want %s", window, got, want)
		}
	}
}
