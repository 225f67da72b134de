// Package histogram counts values in the buckets that Envoy has, and in those of what the mesh
// adds to calls. It knows no labels.
package histogram

import (
	"math"
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// NumBounds is the number of finite buckets, the same for every Layout so that a
// histogram is a plain array.
const NumBounds = 19

// Layout is the buckets of a histogram: values are integers (nanoseconds,
// bytes), the exposed ones are value/Unit.
type Layout struct {
	Unit   float64
	bounds [NumBounds]uint64 // inclusive
	Text   [NumBounds]string // of the buckets' bounds, as exposed
	// first is the first bucket that a value of so many bits can fall into, so
	// that a search takes one or two steps.
	first [65]uint8
}

func newLayout(unit float64, le [NumBounds]float64) *Layout {
	l := &Layout{Unit: unit}
	for i, bound := range le {
		l.bounds[i] = uint64(math.Floor(bound*unit + 1e-6)) // 0.5 bytes: only 0 is not above it
		l.Text[i] = strconv.FormatFloat(bound, 'g', -1, 64)
	}
	for n := range l.first {
		var smallest uint64
		if n > 0 {
			smallest = 1 << (n - 1)
		}
		for l.first[n] < NumBounds && smallest > l.bounds[l.first[n]] {
			l.first[n]++
		}
	}
	return l
}

// Middle is the value in the middle of a bucket; of the last one its lower bound.
func (l *Layout) Middle(bucket int) uint64 {
	switch bucket {
	case 0:
		return l.bounds[0] / 2
	case NumBounds:
		return l.bounds[NumBounds-1]
	}
	return (l.bounds[bucket-1] + l.bounds[bucket]) / 2
}

// envoyBounds are the buckets of Envoy, hence of Istio's sidecars: kept exactly,
// because a sum over le of two layouts is nonsense.
var envoyBounds = [NumBounds]float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000,
	300000, 600000, 1800000, 3600000,
}

// The layouts: milliseconds of nanoseconds, bytes, and seconds of nanoseconds.
var (
	Durations = newLayout(float64(time.Millisecond), envoyBounds)
	Sizes     = newLayout(1, envoyBounds)
	// Overheads are seconds, fine where a proxy's own work lies.
	Overheads = newLayout(float64(time.Second), [NumBounds]float64{
		5e-6, 10e-6, 15e-6, 20e-6, 30e-6, 40e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6,
		300e-6, 500e-6, 750e-6, 1e-3, 2.5e-3, 5e-3, 25e-3, 100e-3,
	})
)

// Histogram counts values. A histogram of client_golang costs a float CAS loop
// and a reader's lock; these are two additions.
// Safe for concurrent use.
type Histogram struct {
	counts [NumBounds + 1]atomic.Uint64
	sum    atomic.Uint64
}

// Observe counts a value.
func (h *Histogram) Observe(l *Layout, value int64) {
	v := uint64(max(value, 0)) // a clock may step, a size is never negative
	i := l.first[bits.Len64(v)]
	for i < NumBounds && v > l.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(v)
}

// Merge adds values that were counted elsewhere, by the same Layout.
func (h *Histogram) Merge(t *Tally) {
	for i, n := range t.Counts {
		if n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.sum.Add(t.Sum)
}

// Tally is a histogram at rest, or a sum of several.
type Tally struct {
	Counts [NumBounds + 1]uint64 // the last one is of what is above all bounds
	Sum    uint64
}

// Add adds what a histogram has at the moment.
func (t *Tally) Add(h *Histogram) {
	for i := range h.counts {
		t.Counts[i] += h.counts[i].Load()
	}
	t.Sum += h.sum.Load()
}

// Total is the number of values. It is computed, not kept, so that it always
// agrees with the buckets.
func (t *Tally) Total() uint64 {
	var n uint64
	for _, c := range t.Counts {
		n += c
	}
	return n
}
