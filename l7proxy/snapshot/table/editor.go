package table

import (
	"cmp"
	"hash/maphash"
	"slices"
)

// Editor makes a Map out of another one. It is for one goroutine.
type Editor[K, V comparable] struct {
	pool   *Pool[K, V]
	from   Map[K, V]
	shards []*shard[K, V] // nil: nothing has changed yet
	own    []bool         // which of the shards are this Editor's to change
	size   int
}

// Edit begins a Map of the pool that is m, which is of the pool too.
func (p *Pool[K, V]) Edit(m Map[K, V]) *Editor[K, V] {
	return &Editor[K, V]{pool: p, from: m, size: m.Len()}
}

// Get returns the value of a key as it is now.
func (e *Editor[K, V]) Get(k K) (v V, ok bool) {
	if e.shards == nil {
		return e.from.Get(k)
	}
	return e.shards[e.at(k)].get(k)
}

// Set sets the value of a key.
func (e *Editor[K, V]) Set(k K, v V) {
	if old, ok := e.Get(k); ok && old == v {
		return
	}
	s := e.change(k)
	for i := range s.entries {
		if s.entries[i].key == k {
			s.entries[i].value = v
			return
		}
	}
	s.entries = append(s.entries, entry[K, V]{k, v})
	if e.size++; e.size > fullest*len(e.shards) {
		e.spread(2 * len(e.shards))
	}
}

// Delete removes a key, if it is there.
func (e *Editor[K, V]) Delete(k K) {
	if _, ok := e.Get(k); !ok {
		return
	}
	s := e.change(k)
	s.entries = slices.DeleteFunc(s.entries, func(one entry[K, V]) bool { return one.key == k })
	if e.size--; e.size < emptiest*len(e.shards) && len(e.shards) > 1 {
		e.spread(len(e.shards) / 2)
	}
}

func (e *Editor[K, V]) at(k K) int {
	return int(maphash.Comparable(seed, k) & uint64(len(e.shards)-1))
}

// change returns the shard of a key as one that may be changed.
func (e *Editor[K, V]) change(k K) *shard[K, V] {
	if e.shards == nil {
		e.shards = make([]*shard[K, V], 1)
		if e.from.root != nil {
			e.shards = slices.Clone(e.from.root.shards)
		}
		e.own = make([]bool, len(e.shards))
	}
	i := e.at(k)
	if !e.own[i] {
		fresh := new(shard[K, V])
		if e.shards[i] != nil {
			fresh.entries = append(make([]entry[K, V], 0, len(e.shards[i].entries)+1), e.shards[i].entries...)
		}
		e.shards[i], e.own[i] = fresh, true
	}
	return e.shards[i]
}

// spread puts the entries into another number of shards.
func (e *Editor[K, V]) spread(n int) {
	old := e.shards
	e.shards, e.own = make([]*shard[K, V], n), make([]bool, n)
	for _, s := range old {
		if s == nil {
			continue
		}
		for _, one := range s.entries {
			to := e.change(one.key)
			to.entries = append(to.entries, one)
		}
	}
}

// Map ends the editing.
func (e *Editor[K, V]) Map() Map[K, V] {
	switch {
	case e.shards == nil:
		return e.from
	case e.size == 0:
		return Map[K, V]{}
	}
	var buffer []hashed[K, V]
	for i, s := range e.shards {
		if !e.own[i] {
			continue
		}
		if len(s.entries) == 0 {
			e.shards[i] = nil
			continue
		}
		buffer = buffer[:0]
		for _, one := range s.entries {
			buffer = append(buffer, hashed[K, V]{maphash.Comparable(seed, one.key), one})
		}
		slices.SortFunc(buffer, func(a, b hashed[K, V]) int { return cmp.Compare(a.hash, b.hash) })
		e.shards[i] = e.pool.shard(buffer)
	}
	return Map[K, V]{e.pool.root(e.shards, e.size)}
}

// hashed is an entry with the hash of its key.
type hashed[K, V comparable] struct {
	hash uint64
	entry[K, V]
}
