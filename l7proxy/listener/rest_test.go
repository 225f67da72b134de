package listener

import (
	"testing"
)

// TestRest: memory is given back twice when many connections have become idle, and not
// for a few.
func TestRest(t *testing.T) {
	given := 0
	r := rest{give: func() { given++ }}
	for i, step := range []struct{ quiet, given int }{
		{0, 0}, {10, 0}, {manyQuiet - 11, 0}, {1, 1}, {0, 2}, {0, 2}, {manyQuiet / 2, 2}, {3 * manyQuiet, 3}, {manyQuiet, 4}, {0, 5}, {0, 5},
	} {
		if r.collect(step.quiet); given != step.given {
			t.Errorf("step %d: given back %d times, want %d", i, given, step.given)
		}
	}
}
