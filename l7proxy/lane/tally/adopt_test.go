package tally

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestAdopt: calls are counted once over two proxies of which the first just dies, whoever of
// them was there when they ended.
func TestAdopt(t *testing.T) {
	r := newRig(t, 0)
	call, before := newCall()
	number := r.put(call, 2)
	route := &r.memory.Routes[1]
	route.Series[0] = number
	atomic.StoreUint64(&route.Hash, 5)
	end := func(n int) {
		for range n {
			r.answer(n%3, number, time.Millisecond)
		}
	}
	end(7)
	r.Collect()
	end(5) // nobody has counted these

	next := New(0)
	next.Use(r.memory)
	end(3)
	again, after := newCall()
	for _, wrong := range []uint32{0, number + 1, 1 << 30} {
		if next.Adopt(wrong, again, 2, nil) {
			t.Errorf("series %d is adopted, which nobody left", wrong)
		}
	}
	for range 2 { // two names of one call
		if !next.Adopt(number, again, 2, nil) {
			t.Fatal("what a route has is not adopted")
		}
	}
	if other, _ := newCall(); next.Adopt(number, other, 2, nil) || next.Adopt(number, again, 23, nil) {
		t.Error("a series is two calls'")
	}
	end(2)
	next.Collect()
	if before.calls != 7 || after.calls != 10 || after.bytes != 3000 {
		t.Errorf("%d calls are counted before, %d after, %d bytes; want 7, 10, 3000", before.calls, after.calls, after.bytes)
	}
	if same, ok := next.Put(again, 2, nil); !ok || same != number {
		t.Errorf("the call has series %d too", same)
	}
	r.memory.Remove(1)
	for range 3 {
		next.Drop(number)
	}
	next.tidy(quiet)
	if next.Call(number) != nil {
		t.Error("the series stays")
	}
}
