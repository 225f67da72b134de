package lot

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counter makes things that are their own number.
func counter() (add func() int, made *atomic.Int64) {
	made = &atomic.Int64{}
	return func() int { return int(made.Add(1)) }, made
}

func TestTake(t *testing.T) {
	l := New[int](2)
	add, made := counter()
	take := func() (int, bool) { return l.Take(t.Context(), time.Millisecond, add) }
	first, _ := take()
	take()
	if v, ok := take(); ok {
		t.Errorf("a full lot gave %d", v)
	}
	l.Park(first)
	if v, ok := take(); !ok || v != first {
		t.Errorf("Take = %d, %v; want the parked %d", v, ok, first)
	}
	l.Remove(first)
	l.Remove(first)
	l.Park(first) // removed: not to be had
	if v, ok := take(); !ok || v == first || made.Load() != 3 {
		t.Errorf("Take = %d, %v after %d were made; want a third", v, ok, made.Load())
	}
	l.Park(3)
	if all, parked := l.Count(); all != 2 || parked != 1 {
		t.Errorf("%d things, %d parked; want 2 and 1", all, parked)
	}
	l.Remove(3)
	if all, parked := l.Count(); all != 1 || parked != 0 {
		t.Errorf("%d things, %d parked; want 1 and 0", all, parked)
	}
}

// TestWait: who waits gets what becomes free, nobody is forgotten, and no thing
// has two users.
func TestWait(t *testing.T) {
	const things, users, rounds = 3, 40, 50
	l := New[int](things)
	add, made := counter()
	var using [1000]atomic.Int32
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			for r := range rounds {
				v, ok := l.Take(t.Context(), 2*time.Minute, add)
				if !ok {
					t.Errorf("user %d waited in vain", u)
					return
				}
				if using[v].Add(1) != 1 {
					t.Errorf("%d has two users", v)
				}
				time.Sleep(time.Duration(r%3) * 10 * time.Microsecond)
				using[v].Add(-1)
				if (u+r)%7 == 0 {
					l.Remove(v)
				} else {
					l.Park(v)
				}
			}
		})
	}
	wg.Wait()
	if all, parked := l.Count(); all > things || all != parked {
		t.Errorf("%d things, %d parked, want at most %d and all of them", all, parked, things)
	}
	if made.Load() == 0 {
		t.Error("nothing was made")
	}
}

func TestContextEnds(t *testing.T) {
	l := New[int](1)
	add, _ := counter()
	l.Take(t.Context(), 0, add)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	start := time.Now()
	if _, ok := l.Take(ctx, time.Minute, add); ok || time.Since(start) > 30*time.Second {
		t.Errorf("Take = %v after %s, want false when the context ends", ok, time.Since(start))
	}
}
