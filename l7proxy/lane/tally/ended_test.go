package tally

import (
	"testing"
	"time"
)

// TestEnded: who is told of calls is told of each once, when it is counted: also of one way
// alone, and whoever is told in their place only of those behind.
func TestEnded(t *testing.T) {
	r := newRig(t, 0)
	call, _ := newCall()
	other, _ := newCall()
	var first, second, others uint64
	to := func(sum *uint64) func(uint64) { return func(n uint64) { *sum += n } }
	number, _ := r.Put(call, 2, to(&first))
	beside, _ := r.Put(other, 2, to(&others))
	calls := func(n int) {
		for range n {
			r.answer(0, number, time.Millisecond)
			r.answer(0, beside, time.Millisecond)
		}
	}
	calls(3)
	r.Count(call, 2)
	r.Count(call, 23) // has no series
	if first != 3 || others != 0 {
		t.Errorf("of one way alone: %d and %d", first, others)
	}
	r.Collect()
	r.Count(call, 2)
	if first != 3 || others != 3 {
		t.Errorf("of all: %d and %d", first, others)
	}
	calls(4)
	if again, _ := r.Put(call, 2, to(&second)); again != number {
		t.Errorf("the call has series %d too", again)
	}
	calls(5)
	r.Collect()
	if first != 7 || second != 5 || others != 12 {
		t.Errorf("in another's place: %d, %d and %d", first, second, others)
	}
	for range 2 {
		r.Drop(number)
	}
	calls(1)
	r.tidy(quiet)
	if second != 6 || r.Call(number) != nil {
		t.Errorf("at the end: %d", second)
	}
}
