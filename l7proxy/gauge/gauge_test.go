package gauge

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestShare: what either side counts the other sees, and what either adds is not the other's
// when that ends.
func TestShare(t *testing.T) {
	var g Gauge
	g.Add(2)
	var one, other uint64
	atomic.AddUint64(&one, 2) // of lanes
	g.Share(&one)
	if one != 2<<32|2 || g.Load() != 4 || g.Own() != 2 {
		t.Errorf("word %x, %d in flight, %d of the proxy", one, g.Load(), g.Own())
	}
	g.Add(1)
	g.Share(&one) // again
	atomic.AddUint64(&one, ^uint64(0))
	if one != 3<<32|1 || g.Load() != 4 {
		t.Errorf("word %x, %d in flight", one, g.Load())
	}
	g.Share(&other) // another memory
	if one != 1 || other != 3<<32 || g.Load() != 3 {
		t.Errorf("words %x and %x, %d in flight", one, other, g.Load())
	}
	g.Unshare(&one)
	g.Add(1)
	if other != 4<<32 {
		t.Errorf("word %x", other)
	}
	g.Unshare(&other)
	g.Add(-4)
	if other != 0 || g.Load() != 0 {
		t.Errorf("word %x, %d in flight", other, g.Load())
	}
}

// TestShareUnderLoad: nothing is lost while a word becomes another.
func TestShareUnderLoad(t *testing.T) {
	var g Gauge
	var words [2]uint64
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for range 20_000 {
				g.Add(1)
				g.Add(-1)
				if g.Load() < 0 {
					t.Error("less than nothing is in flight")
				}
			}
			g.Add(1)
		})
	}
	for i := range 2000 {
		g.Share(&words[i%2])
		if i%3 == 0 {
			g.Unshare(&words[i%2])
		}
	}
	g.Share(&words[0])
	busy.Wait()
	if words[0] != 4<<32 || words[1] != 0 || g.Load() != 4 {
		t.Errorf("words %x, %d in flight, want 4 of the proxy", words, g.Load())
	}
}

// TestAlone: who shares with nobody pays nothing.
func TestAlone(t *testing.T) {
	var g Gauge
	if n := testing.AllocsPerRun(100, func() { g.Add(1); g.Add(-g.Load()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
