// Package recent lists what has happened of late, by kind, for people who look: a
// bounded list with how often and when last. Metrics are made elsewhere.
package recent

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of a List: beyond MaxListed what has been quiet for quietAfter
// makes room, and if nothing has, what happens is counted in the total alone.
const (
	MaxListed  = 512
	quietAfter = time.Hour
)

// List counts by key. The zero value is ready. Safe for concurrent use.
type List[K comparable] struct {
	total atomic.Uint64

	mu    sync.Mutex
	known map[K]*Count
}

// Count counts one Key. Safe for concurrent use.
type Count struct {
	total *atomic.Uint64
	count atomic.Uint64
	last  atomic.Int64 // Unix nanoseconds
}

// Entry is a Key with what was counted.
type Entry[K comparable] struct {
	Key   K
	Count uint64
	Last  time.Time
}

// Total counts everything, listed or not.
func (l *List[K]) Total() uint64 { return l.total.Load() }

// All returns what is listed, the latest first.
func (l *List[K]) All() []Entry[K] {
	l.mu.Lock()
	list := make([]Entry[K], 0, len(l.known))
	for k, c := range l.known {
		if n := c.count.Load(); n > 0 {
			list = append(list, Entry[K]{k, n, time.Unix(0, c.last.Load())})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b Entry[K]) int { return b.Last.Compare(a.Last) })
	return list
}

// Count returns the counter of a key, one that is not listed if there is no room. It
// may be kept.
func (l *List[K]) Count(k K) *Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.known[k]; known != nil {
		return known
	}
	made := &Count{total: &l.total}
	made.last.Store(time.Now().UnixNano())
	if len(l.known) >= MaxListed {
		before := time.Now().Add(-quietAfter).UnixNano()
		for old, c := range l.known {
			if c.last.Load() < before {
				delete(l.known, old)
			}
		}
	}
	if len(l.known) >= MaxListed {
		return made
	}
	if l.known == nil {
		l.known = make(map[K]*Count)
	}
	l.known[k] = made
	return made
}

// Add counts once. On a nil Count it does nothing.
func (c *Count) Add() {
	if c == nil {
		return
	}
	c.total.Add(1)
	c.count.Add(1)
	c.last.Store(time.Now().UnixNano())
}
