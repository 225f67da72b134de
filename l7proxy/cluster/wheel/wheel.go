// Package wheel deals turns to slots in proportion to their weights. It knows nothing of
// what the slots stand for.
package wheel

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// golden is 2^64 divided by the golden ratio.
const golden = 0x9e3779b97f4a7c15

// Wheel deals turns to slots in proportion to their weights, smoothly: equal
// slots one after the other; others by walking around a circle, on which each
// slot holds an arc of its weight, in steps of the golden ratio, which of all
// steps visit the circle most evenly. One round visits every point once, so it
// gives each slot exactly its weight, as Envoy's earliest-deadline schedule
// does; but it needs no heap and no lock. Safe for concurrent use.
type Wheel struct {
	slots uint64
	ends  []uint64 // where each slot's arc ends; nil when all weights are equal
	total uint64   // length of the circle
	step  uint64   // has no divisor in common with total

	_    [64]byte // turn is written by every pick, the rest is only read
	turn atomic.Uint64
	_    [56]byte
}

// New returns a wheel of n slots, one at least.
func New(n int, weight func(i int) uint64) *Wheel {
	w := &Wheel{slots: uint64(n)}
	// A random start keeps the proxies of many nodes from choosing in step.
	w.turn.Store(uint64(rand.Uint32()))
	var unit uint64
	equal := true
	for i := range n {
		unit = gcd(unit, weight(i))
		equal = equal && weight(i) == weight(0)
	}
	if equal {
		return w
	}
	w.ends = make([]uint64, n)
	for i := range w.ends {
		w.total += weight(i) / unit
		w.ends[i] = w.total
	}
	w.step = step(w.total)
	return w
}

// step returns the most even step around a circle of a whole length: among the
// numbers next to its golden section the one that is hardest to write as a
// fraction of it, which shows in the quotients of Euclid's algorithm being small.
func step(total uint64) uint64 {
	const tries = 64
	first, _ := bits.Mul64(total, golden)
	best, least := uint64(1), total
	for s := max(first, 1); s < min(first+tries, total); s++ {
		var sum uint64
		a, b := total, s
		for b != 0 {
			sum += a / b
			a, b = b, a%b
		}
		if a == 1 && sum < least {
			best, least = s, sum
		}
	}
	return best
}

// Next returns the slot whose turn it is. The wheel has slots.
func (w *Wheel) Next() int {
	turn := w.turn.Add(1)
	if w.ends == nil {
		return int(turn % w.slots)
	}
	high, low := bits.Mul64(turn%w.total, w.step)
	return w.slot(bits.Rem64(high, low, w.total))
}

// At returns the slot at a place of the circle, of which a random number is any
// fraction.
func (w *Wheel) At(random uint64) int {
	if w.ends == nil {
		slot, _ := bits.Mul64(random, w.slots)
		return int(slot)
	}
	place, _ := bits.Mul64(random, w.total)
	return w.slot(place)
}

// Weights returns the weights of the slots without what they have in common.
func (w *Wheel) Weights() []uint64 {
	list := make([]uint64, w.slots)
	for i := range list {
		list[i] = 1
		if w.ends != nil {
			list[i] = w.ends[i]
		}
		if w.ends != nil && i > 0 {
			list[i] -= w.ends[i-1]
		}
	}
	return list
}

// slot returns the slot that holds a place.
func (w *Wheel) slot(place uint64) int {
	low, high := 0, len(w.ends)-1
	for low < high {
		mid := (low + high) / 2
		if w.ends[mid] > place {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
