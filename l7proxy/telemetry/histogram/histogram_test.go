package histogram

import (
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	tests := []struct {
		layout *Layout
		value  int64
		bucket int
	}{
		{Durations, -1, 0},
		{Durations, 0, 0},
		{Durations, 500_000, 0},
		{Durations, 500_001, 1},
		{Durations, 1_000_000, 1},
		{Durations, 1_000_001, 2},
		{Durations, int64(time.Hour), 18},
		{Durations, int64(time.Hour) + 1, 19},
		{Sizes, 0, 0},
		{Sizes, 1, 1},
		{Sizes, 2, 2},
		{Sizes, 5, 2},
		{Sizes, 6, 3},
		{Sizes, 8 << 20, 19},
		{Overheads, 4_999, 0},
		{Overheads, 5_000, 0},
		{Overheads, 5_001, 1},
		{Overheads, 100_000_000, 18},
		{Overheads, 100_000_001, 19},
	}
	for _, test := range tests {
		var h Histogram
		h.Observe(test.layout, test.value)
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
	for _, l := range []*Layout{Durations, Sizes, Overheads} {
		for i, bound := range l.bounds {
			var h Histogram
			h.Observe(l, int64(bound))
			h.Observe(l, int64(bound)+1)
			if h.counts[i].Load() != 1 || h.counts[i+1].Load() != 1 {
				t.Errorf("bound %s is not inclusive: %v %v", l.Text[i], &h.counts[i], &h.counts[i+1])
			}
		}
	}
}
