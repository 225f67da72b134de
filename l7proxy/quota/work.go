package quota

import (
	"sync/atomic"
	"time"
)

// burst is how far ahead of its rate a workload may be before it waits.
const burst = 100 * time.Millisecond

// pace is how fast the values of one workload's bodies may be read: a bucket that may be
// overdrawn, since what a body costs is known when it has been read. In one word is when
// what has been read will be paid for.
type pace struct{ paid atomic.Int64 }

// take adds what was read at a time, and returns how long its reader is to wait: as
// long as those before it have to, and it.
func (p *pace) take(cost time.Duration, now time.Time) time.Duration {
	at := now.UnixNano()
	for {
		old := p.paid.Load()
		paid := max(old, at-int64(burst)) + int64(cost)
		if p.paid.CompareAndSwap(old, paid) {
			return time.Duration(paid - at)
		}
	}
}

// Waits counts the waits for decoding, of all workloads.
type Waits struct {
	Count atomic.Uint64
	Nanos atomic.Int64
}

// Pace bounds the values that are read of one workload's bodies, each second; 0: not.
// It is called before the first connection.
func (n *Node) Pace(values int64) { n.values = values }

// Waits returns the counter.
func (n *Node) Waits() *Waits { return &n.waits }

// Decoded says that so many values of the workload's bodies were read, and returns how
// long who read them is to wait before he reads more; 0 or less: not at all. A client
// of a workload has its part of that, and waits for what the others have read too.
func (w *Workload) Decoded(values int, now time.Time) (wait time.Duration) {
	if w == nil || w.node.values == 0 {
		return 0
	}
	for part := w; part != nil; part = part.parent {
		cost := time.Duration(int64(values) * part.part * int64(time.Second) / w.node.values)
		wait = max(wait, part.pace.take(cost, now))
	}
	if wait > 0 {
		w.node.waits.Count.Add(1)
		w.node.waits.Nanos.Add(int64(wait))
	}
	return wait
}
