// Package table is immutable maps that share what they have in common: a Map that differs
// from another in a few entries has the rest of its memory from it, and Maps of one Pool
// that hold the same are one object, whoever made them. What nobody holds any more goes.
//
// It knows nothing of what is in a Map, and is no cache: nothing is in it that its owner
// did not put there.
package table

import (
	"hash/maphash"
	"iter"
	"maps"
	"sync"
)

// Map is an immutable map. The zero Map is empty. Of two Maps of one Pool, m == n tells
// whether they hold the same (save for a collision of hashes, when equal ones may differ).
type Map[K, V comparable] struct{ root *root[K, V] }

// root holds the entries by the low bits of their keys' hashes. Nobody changes it.
type root[K, V comparable] struct {
	shards []*shard[K, V] // as many as a power of two; nil: an empty one
	size   int

	once sync.Once
	flat map[K]V
}

// shard is a few entries, in the order of their keys' hashes, so that equal shards have an
// equal order. Nobody changes it.
type shard[K, V comparable] struct{ entries []entry[K, V] }

type entry[K, V comparable] struct {
	key   K
	value V
}

// How many entries a shard has on average: at most, and, so that a Map at the edge is not
// made anew all the time, at least.
const (
	fullest  = 16
	emptiest = 4
)

// seed is that of all hashes.
var seed = maphash.MakeSeed()

func (r *root[K, V]) shard(k K) int {
	return int(maphash.Comparable(seed, k) & uint64(len(r.shards)-1))
}

// Len returns how many entries there are.
func (m Map[K, V]) Len() int {
	if m.root == nil {
		return 0
	}
	return m.root.size
}

// Get returns the value of a key, and whether there is one. It allocates nothing.
func (m Map[K, V]) Get(k K) (v V, ok bool) {
	if m.root == nil {
		return v, false
	}
	return m.root.shards[m.root.shard(k)].get(k)
}

// Value returns the value of a key, or the zero value.
func (m Map[K, V]) Value(k K) V {
	v, _ := m.Get(k)
	return v
}

func (s *shard[K, V]) get(k K) (v V, ok bool) {
	if s == nil {
		return v, false
	}
	for i := range s.entries {
		if s.entries[i].key == k {
			return s.entries[i].value, true
		}
	}
	return v, false
}

// All lists the entries in no order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root == nil {
			return
		}
		for _, s := range m.root.shards {
			if s == nil {
				continue
			}
			for i := range s.entries {
				if !yield(s.entries[i].key, s.entries[i].value) {
					return
				}
			}
		}
	}
}

// Flat returns the entries as a Go map, never nil, which nobody may change: whoever has
// the same Map has it too. It is made of that of another Map, which should differ in
// little.
func (m Map[K, V]) Flat(last Map[K, V]) map[K]V {
	if m.root == nil {
		return map[K]V{}
	}
	m.root.once.Do(func() {
		if last == m {
			last = Map[K, V]{}
		}
		if last.root == nil {
			m.root.flat = make(map[K]V, m.root.size)
		} else {
			m.root.flat = maps.Clone(last.Flat(Map[K, V]{}))
		}
		for k, c := range Diff(last, m) {
			if _, ok := m.Get(k); ok {
				m.root.flat[k] = c.New
			} else {
				delete(m.root.flat, k)
			}
		}
	})
	return m.root.flat
}

// Change is what became of a value; zero: there was, or is, none.
type Change[V any] struct{ Old, New V }

// Diff lists the keys whose values differ between two Maps of one Pool, in no order. What
// they share it does not look at.
func Diff[K, V comparable](old, now Map[K, V]) iter.Seq2[K, Change[V]] {
	return func(yield func(K, Change[V]) bool) {
		switch {
		case old == now:
		case old.root != nil && now.root != nil && len(old.root.shards) == len(now.root.shards):
			for i, s := range now.root.shards {
				if before := old.root.shards[i]; before != s && !diffShards(before, s, yield) {
					return
				}
			}
		default:
			for k, v := range old.All() {
				if w, ok := now.Get(k); (!ok || v != w) && !yield(k, Change[V]{v, w}) {
					return
				}
			}
			for k, w := range now.All() {
				if _, ok := old.Get(k); !ok && !yield(k, Change[V]{New: w}) {
					return
				}
			}
		}
	}
}

func diffShards[K, V comparable](old, now *shard[K, V], yield func(K, Change[V]) bool) bool {
	if old != nil {
		for i := range old.entries {
			e := &old.entries[i]
			if w, ok := now.get(e.key); (!ok || e.value != w) && !yield(e.key, Change[V]{e.value, w}) {
				return false
			}
		}
	}
	if now != nil {
		for i := range now.entries {
			e := &now.entries[i]
			if _, ok := old.get(e.key); !ok && !yield(e.key, Change[V]{New: e.value}) {
				return false
			}
		}
	}
	return true
}
