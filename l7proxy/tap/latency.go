package tap

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// tick is the finest difference that a latency tells, a microsecond nearly.
	tick = 1024 * time.Nanosecond
	// octave is how many buckets a doubling of the value has: a quantile is off
	// by a thirty-second of itself at most, or by half a tick.
	octave = 16
	// longest is the last octave's number of bits: 2^27 ticks are 137 s.
	longest    = 27
	numBuckets = (longest-5)*octave + 2*octave
)

// latency counts durations finely. Safe for concurrent use.
type latency [numBuckets]atomic.Uint64

func (l *latency) add(d time.Duration) { l[bucket(d)].Add(1) }

func bucket(d time.Duration) int {
	v := uint64(max(d, 0) / tick)
	v = min(v, 1<<longest-1)
	if v < 2*octave {
		return int(v)
	}
	shift := bits.Len64(v) - 5
	return shift*octave + int(v>>shift)
}

// middle is the duration in the middle of a bucket.
func middle(i int) time.Duration {
	if i < 2*octave {
		return time.Duration(i)*tick + tick/2
	}
	shift := i/octave - 1
	low := uint64(i-shift*octave) << shift
	return time.Duration(low)*tick + tick<<shift/2
}

// since returns what was counted since last, and makes that what is now.
func (l *latency) since(last *[numBuckets]uint64) (counts [numBuckets]uint64, total uint64) {
	for i := range l {
		now := l[i].Load()
		counts[i] = now - last[i]
		last[i] = now
		total += counts[i]
	}
	return counts, total
}

// quantile is the value below which a share of the counted values lie; 0 if
// there are none.
func quantile(counts *[numBuckets]uint64, total uint64, share float64) time.Duration {
	rank := uint64(share*float64(total) + 0.999999)
	var seen uint64
	for i, n := range counts {
		if seen += n; n > 0 && seen >= rank {
			return middle(i)
		}
	}
	return 0
}
