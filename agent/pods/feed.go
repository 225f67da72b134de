package pods

import (
	"context"
	"sync"
)

// Feed is a Source of which several readers hear, one after another or at the same
// time, while one other Source is followed once. Its methods may be called concurrently.
type Feed struct {
	source Source

	mu      sync.Mutex
	last    *Set          // nil before the first
	changed chan struct{} // closed at the next one
}

var _ Source = (*Feed)(nil)

// NewFeed makes the Feed of a Source, which Follow runs.
func NewFeed(source Source) *Feed { return &Feed{source: source, changed: make(chan struct{})} }

// Follow runs the Source until ctx ends. An error is the Source's.
func (f *Feed) Follow(ctx context.Context) error {
	return f.source.Run(ctx, func(set Set) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.last = &set
		close(f.changed)
		f.changed = make(chan struct{})
	})
}

// Last returns the latest set, nil before there is one, and a channel that is closed at
// the next.
func (f *Feed) Last() (*Set, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.changed
}

// Run is part of Source. A reader that is slow misses sets, never the last.
func (f *Feed) Run(ctx context.Context, publish func(Set)) error {
	var told *Set
	for {
		set, changed := f.Last()
		if set != told {
			told = set
			publish(*set)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
