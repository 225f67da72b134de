package limit

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// bucket is a token bucket in one word: in the upper half the fills since start, in
// the lower the tokens. So taking one is one compare-and-swap, and finding none
// writes nothing: a storm that is refused does not fight for the word.
type bucket struct {
	word  atomic.Uint64
	start time.Time
}

// newBucket returns a full one.
func newBucket(b *snapshot.Bucket, now time.Time) *bucket {
	made := &bucket{start: now}
	made.word.Store(uint64(b.Max))
	return made
}

// take takes a token; false if there is none. B is what the bucket was made of.
func (k *bucket) take(b *snapshot.Bucket, now time.Time) bool {
	// The number wraps around after 6.8 years of the shortest interval; differences
	// hold as long as a bucket is used every three.
	fills := uint32(max(now.Sub(k.start), 0) / b.Interval)
	for {
		old := k.word.Load()
		last, tokens := uint32(old>>32), old&math.MaxUint32
		next := last
		// A clock that was read before another's newer word adds nothing.
		if since := int32(fills - last); since > 0 {
			tokens = min(tokens+uint64(since)*uint64(b.Fill), uint64(b.Max))
			next = fills
		}
		if tokens == 0 {
			return false
		}
		if k.word.CompareAndSwap(old, uint64(next)<<32|(tokens-1)) {
			return true
		}
	}
}
