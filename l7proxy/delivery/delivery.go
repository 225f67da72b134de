// Package delivery sorts what one read brought by who receives it, so that each
// receiver gets all of it in one write. It reads and writes nothing itself, and
// keeps its memory, so that the steady path allocates nothing.
package delivery

import (
	"time"

	"github.com/dubway/dubway/l7proxy/sock"
)

// Receiver is a consumer's connection.
type Receiver interface {
	// Deliver writes whole frames.
	Deliver(frames ...[]byte) error
	// Settled says that n requests are no longer pending.
	Settled(n int)
}

// Observer is told of each answer, behind the write: failed says that its receiver
// has gone.
type Observer[T any] interface {
	Delivered(item *T, written time.Time, failed bool)
}

// Round is what one read brought: frames, and for each answer an item. Its zero
// value is empty. One goroutine uses it.
type Round[T any] struct {
	parcels []parcel[T]
	used    int
}

type parcel[T any] struct {
	to     Receiver
	frames [][]byte // adjacent frames are one
	items  []T
}

// Add adds an answer.
func (r *Round[T]) Add(to Receiver, frame []byte, item T) {
	p := r.of(to)
	p.frames = sock.Join(p.frames, frame)
	p.items = append(p.items, item)
}

// Pass adds a frame that answers nothing.
func (r *Round[T]) Pass(to Receiver, frame []byte) {
	p := r.of(to)
	p.frames = sock.Join(p.frames, frame)
}

// of finds or adds a receiver's parcel. A read holds answers for a few dozen
// consumers at most, and mostly for the one just seen.
func (r *Round[T]) of(to Receiver) *parcel[T] {
	for i := r.used - 1; i >= 0; i-- {
		if r.parcels[i].to == to {
			return &r.parcels[i]
		}
	}
	if r.used == len(r.parcels) {
		r.parcels = append(r.parcels, parcel[T]{})
	}
	r.used++
	p := &r.parcels[r.used-1]
	p.to = to
	return p
}

// Deliver writes what was collected and starts a new round.
func (r *Round[T]) Deliver(o Observer[T]) {
	for i := range r.parcels[:r.used] {
		p := &r.parcels[i]
		// A consumer that is gone is noticed by its own reader.
		failed := p.to.Deliver(p.frames...) != nil
		now := time.Now()
		for j := range p.items {
			o.Delivered(&p.items[j], now, failed)
		}
		p.to.Settled(len(p.items))
		clear(p.frames)
		clear(p.items)
		*p = parcel[T]{frames: p.frames[:0], items: p.items[:0]}
	}
	r.used = 0
}
