package dubboload

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets of 1/32 of their power of two.
type histogram struct {
	buckets [64 * 32]int64
	count   int64
	max     time.Duration
}

func (h *histogram) record(d time.Duration) {
	h.buckets[bucket(uint64(max(d, 0)))]++
	h.count++
	h.max = max(h.max, d)
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// quantile returns the upper end of the bucket that holds it.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(q*float64(h.count)) + 1
	for i, n := range h.buckets {
		if rank -= n; rank <= 0 && n > 0 {
			return min(h.max, upper(i))
		}
	}
	return h.max
}

func bucket(v uint64) int {
	if v < 64 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return shift*32 + int(v>>shift)
}

func upper(i int) time.Duration {
	if i < 64 {
		return time.Duration(i)
	}
	shift := i/32 - 1
	return time.Duration(uint64(i-shift*32+1)<<shift - 1)
}
