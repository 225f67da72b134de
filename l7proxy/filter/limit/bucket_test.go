package limit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestBucketIsExact: what many goroutines take at once is what there is, no more and
// no less.
func TestBucketIsExact(t *testing.T) {
	const goroutines, attempts = 8, 2000
	b := &snapshot.Bucket{Max: 1000, Fill: 10, Interval: time.Second}
	start := time.Unix(1000, 0)
	k := newBucket(b, start)
	var taken atomic.Int64
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for i := range attempts {
				// The clocks of goroutines differ: some were read before others' words.
				if k.take(b, start.Add(time.Duration(i%100)*time.Second+time.Duration(g)*time.Millisecond)) {
					taken.Add(1)
				}
			}
		})
	}
	group.Wait()
	// The first 100 of anybody's attempts bring 99 fills; later ones bring none. The
	// bucket is never full again after the first 1,000: so nothing is lost, unless it
	// was full while filled, which the first tokens of each goroutine can be.
	if n := taken.Load(); n > 1000+99*10 || n < 1000 {
		t.Errorf("%d tokens taken, want from 1000 to 1990", n)
	}
	if k.take(b, start.Add(99*time.Second)) {
		t.Error("there is one left")
	}
	if !k.take(b, start.Add(100*time.Second)) {
		t.Error("there is no other fill")
	}
}

func TestBucketLimits(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, tt := range []struct {
		name  string
		b     snapshot.Bucket
		later time.Duration
		want  int // of 10
	}{
		{"full", snapshot.Bucket{Max: 3, Fill: 1, Interval: time.Second}, 0, 3},
		{"never more than full", snapshot.Bucket{Max: 3, Fill: 4, Interval: time.Second}, time.Hour, 3},
		{"the largest", snapshot.Bucket{Max: 1<<32 - 1, Fill: 1<<32 - 1, Interval: 50 * time.Millisecond}, 1000 * time.Hour, 10},
		{"a year later", snapshot.Bucket{Max: 3, Fill: 1, Interval: 50 * time.Millisecond}, 365 * 24 * time.Hour, 3},
		{"before its time", snapshot.Bucket{Max: 3, Fill: 1, Interval: time.Second}, -time.Hour, 3},
	} {
		k := newBucket(&tt.b, start)
		got := 0
		for range 10 {
			if k.take(&tt.b, start.Add(tt.later)) {
				got++
			}
		}
		if got != tt.want {
			t.Errorf("%s: %d taken, want %d", tt.name, got, tt.want)
		}
	}
}

// TestWrap: the number of fills starts again, and the bucket goes on.
func TestWrap(t *testing.T) {
	b := &snapshot.Bucket{Max: 2, Fill: 1, Interval: time.Millisecond}
	start := time.Unix(1000, 0)
	k := newBucket(b, start)
	for _, at := range []int64{1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1<<32 + 3} {
		now := start.Add(time.Duration(at-1) * time.Millisecond)
		k.take(b, now)
		k.take(b, now)
		k.take(b, now)
		if !k.take(b, now.Add(time.Millisecond)) {
			t.Errorf("no token at fill %d", at)
		}
	}
}
