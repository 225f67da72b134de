package table

import (
	"hash/maphash"
	"slices"
	"sync"
	"weak"
)

// Pool has the parts of Maps that somebody holds, each once. The zero Pool is empty. Its
// methods are safe for concurrent use.
type Pool[K, V comparable] struct {
	shards Weak[uint64, shard[K, V]]
	roots  Weak[uint64, root[K, V]]
}

// Len returns how many parts there are that somebody holds.
func (p *Pool[K, V]) Len() int { return p.shards.Len() + p.roots.Len() }

// shard returns the shard of some entries, which are in its order.
func (p *Pool[K, V]) shard(list []hashed[K, V]) *shard[K, V] {
	var sum uint64
	for i := range list {
		sum = mix(sum, maphash.Comparable(seed, list[i].entry))
	}
	same := func(s *shard[K, V]) bool {
		return slices.EqualFunc(s.entries, list, func(a entry[K, V], b hashed[K, V]) bool { return a == b.entry })
	}
	return p.shards.Keep(sum, same, func() *shard[K, V] {
		s := &shard[K, V]{make([]entry[K, V], len(list))}
		for i := range list {
			s.entries[i] = list[i].entry
		}
		return s
	})
}

// root returns the root of some shards of the pool.
func (p *Pool[K, V]) root(shards []*shard[K, V], size int) *root[K, V] {
	var sum uint64
	for _, s := range shards {
		sum = mix(sum, maphash.Comparable(seed, s))
	}
	same := func(r *root[K, V]) bool { return slices.Equal(r.shards, shards) }
	return p.roots.Keep(sum, same, func() *root[K, V] { return &root[K, V]{shards: shards, size: size} })
}

// mix makes one hash of two, whose order counts.
func mix(a, b uint64) uint64 { return (a ^ b) * 0x9e3779b97f4a7c15 }

// List is an immutable list that is as good as any other with the same items.
type List[T comparable] struct{ Items []T }

// Lists has the Lists that somebody holds, each once. The zero Lists is empty. Its methods
// are safe for concurrent use.
type Lists[T comparable] struct{ held Weak[uint64, List[T]] }

// Len returns how many lists there are that somebody holds.
func (l *Lists[T]) Len() int { return l.held.Len() }

// Of returns the List of some items; nil if there are none. It keeps no reference to items.
func (l *Lists[T]) Of(items ...T) *List[T] {
	if len(items) == 0 {
		return nil
	}
	var sum uint64
	for _, one := range items {
		sum = mix(sum, maphash.Comparable(seed, one))
	}
	same := func(list *List[T]) bool { return slices.Equal(list.Items, items) }
	return l.held.Keep(sum, same, func() *List[T] { return &List[T]{slices.Clone(items)} })
}

// Weak has objects by what they are made of, as long as somebody else holds them. The zero
// Weak is empty. Its methods are safe for concurrent use.
type Weak[K comparable, T any] struct {
	mu    sync.Mutex // what follows; make and same are called under it
	held  map[K]weak.Pointer[T]
	swept int // how many were left when those that nobody holds were last forgotten
}

// Get returns the object of a key; nil if nobody holds one.
func (w *Weak[K, T]) Get(k K) *T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held[k].Value()
}

// Keep returns the object of a key, if somebody holds one and it is the same as what would
// be made, and makes it otherwise. A nil same takes every object.
func (w *Weak[K, T]) Keep(k K, same func(*T) bool, fresh func() *T) *T {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.held[k].Value(); old != nil && (same == nil || same(old)) {
		return old
	}
	if len(w.held) >= 2*w.swept+64 {
		w.sweep()
	}
	if w.held == nil {
		w.held = make(map[K]weak.Pointer[T])
	}
	made := fresh()
	w.held[k] = weak.Make(made)
	return made
}

// Len returns how many objects there are that somebody holds.
func (w *Weak[K, T]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweep()
	return len(w.held)
}

// sweep forgets what nobody holds. The caller locks.
func (w *Weak[K, T]) sweep() {
	for k, p := range w.held {
		if p.Value() == nil {
			delete(w.held, k)
		}
	}
	w.swept = len(w.held)
}
