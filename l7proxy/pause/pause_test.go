package pause

import (
	"testing"
	"time"
)

// TestAfter: the waits grow to a bound, and are not the same for two nodes.
func TestAfter(t *testing.T) {
	const soonest, latest = 100 * time.Millisecond, 5 * time.Second
	for failures := range 100 {
		most := min(latest, soonest<<min(failures, 10))
		seen := make(map[time.Duration]bool)
		for range 20 {
			d := After(failures, soonest, latest)
			if d < most/2 || d > most {
				t.Errorf("After(%d) = %s, want %s to %s", failures, d, most/2, most)
			}
			seen[d] = true
		}
		if len(seen) == 1 {
			t.Errorf("After(%d) is always the same", failures)
		}
	}
}
