// Package lot is a parking lot: a bounded number of things of which each has one
// user at a time, and who finds none free waits. It knows not what they are, and
// neither makes nor ends them.
package lot

import (
	"context"
	"sync"
	"time"
)

// Lot is a parking lot. Safe for concurrent use.
type Lot[T comparable] struct {
	max  int
	room chan struct{} // a token: one may be had

	mu     sync.Mutex
	all    map[T]bool
	parked []T
}

// New returns a lot for at most limit things.
func New[T comparable](limit int) *Lot[T] {
	return &Lot[T]{max: limit, room: make(chan struct{}, 1), all: make(map[T]bool)}
}

// Take returns a parked thing, or one that add makes if there may be more. It
// waits for that until ctx ends; false then. Add must not call the lot.
func (l *Lot[T]) Take(ctx context.Context, wait time.Duration, add func() T) (T, bool) {
	if v, ok := l.Try(add); ok {
		return v, true
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		select {
		case <-l.room:
		case <-limit.C:
			return l.Try(add)
		case <-ctx.Done():
			var none T
			return none, false
		}
		if v, ok := l.Try(add); ok {
			return v, true
		}
	}
}

// Try is Take that does not wait.
func (l *Lot[T]) Try(add func() T) (v T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := len(l.parked); {
	case n > 0:
		v = l.parked[n-1]
		l.parked = l.parked[:n-1]
	case len(l.all) < l.max:
		v = add()
		l.all[v] = true
	default:
		return v, false
	}
	l.tell() // one token may have been for several
	return v, true
}

// Park makes a taken thing free, unless it was removed.
func (l *Lot[T]) Park(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[v] {
		l.parked = append(l.parked, v)
		l.tell()
	}
}

// Remove takes a thing out, parked or not, and makes room for another one.
func (l *Lot[T]) Remove(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.all[v] {
		return
	}
	delete(l.all, v)
	for i, p := range l.parked {
		if p == v {
			l.parked = append(l.parked[:i], l.parked[i+1:]...)
			break
		}
	}
	l.tell()
}

// Count returns how many things there are, and how many of them are parked.
func (l *Lot[T]) Count() (all, parked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all), len(l.parked)
}

// tell wakes one who waits, if there is something. The caller locks.
func (l *Lot[T]) tell() {
	if len(l.parked) == 0 && len(l.all) >= l.max {
		return
	}
	select {
	case l.room <- struct{}{}:
	default:
	}
}
