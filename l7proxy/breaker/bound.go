package breaker

import "sync/atomic"

// A bound is a number in two halves, in memory that the lanes' programs see: below, the
// requests in flight of lanes, which they and who ends such requests count, and above, those
// of a Breaker. See bpf/lane_limit.h.
const (
	half  = 32
	lower = 1<<half - 1
)

// Share makes the programs see what is in flight, and counts what is in flight of lanes: in a
// bound, which is the Breaker's alone until Unshare.
func (b *Breaker) Share(bound *uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bound != bound {
		b.publish(0)
		b.bound = bound
		b.publish(b.requests.Load())
	}
}

// Unshare ends Share of a bound, which is not touched any more. Others it leaves alone.
func (b *Breaker) Unshare(bound *uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bound == bound {
		b.publish(0)
		b.bound = nil
	}
}

// publish sets the upper half. The caller locks.
func (b *Breaker) publish(n int64) {
	for b.bound != nil {
		old := atomic.LoadUint64(b.bound)
		if atomic.CompareAndSwapUint64(b.bound, old, old&lower|uint64(n)<<half) {
			return
		}
	}
}

// add counts requests.
func (b *Breaker) add(n int64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.requests.Add(n)
	if b.bound != nil {
		atomic.AddUint64(b.bound, uint64(n)<<half)
	}
}

// inFlight is the number of requests in flight, those of lanes too.
func (b *Breaker) inFlight() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n := b.requests.Load()
	if b.bound != nil {
		n += int64(atomic.LoadUint64(b.bound) & lower)
	}
	return n
}
