package table

import (
	"iter"
	"slices"
	"strings"
)

// Named is what has its place in a group by a name.
type Named interface {
	comparable
	Called() string
}

// Groups has the parts of Maps of lists, and the lists, that somebody holds, each once: the
// items of a list are in the order of their names. The zero Groups is empty. Its methods
// are safe for concurrent use.
type Groups[K comparable, T Named] struct {
	pool  Pool[K, *List[T]]
	lists Lists[T]
}

// Len returns how many parts and lists there are that somebody holds.
func (g *Groups[K, T]) Len() int { return g.pool.Len() + g.lists.Len() }

// Follow makes a Map out of m, which is of these Groups too: an item is in the lists of its
// keys, which of no item are none.
func (g *Groups[K, T]) Follow(m Map[K, *List[T]], changes []Change[T], keys func(T) iter.Seq[K]) Map[K, *List[T]] {
	e := g.pool.Edit(m)
	for _, c := range changes {
		for k := range keys(c.Old) {
			g.remove(e, k, c.Old)
		}
	}
	for _, c := range changes {
		for k := range keys(c.New) {
			g.add(e, k, c.New)
		}
	}
	return e.Map()
}

// add adds an item to the list of a key, if it is not there. Of two with one name the first
// stays the first.
func (g *Groups[K, T]) add(to *Editor[K, *List[T]], k K, item T) {
	var items []T
	if old, ok := to.Get(k); ok {
		items = old.Items
	}
	if slices.Contains(items, item) {
		return
	}
	at, _ := slices.BinarySearchFunc(items, item.Called(), func(one T, name string) int {
		if one.Called() <= name {
			return -1
		}
		return strings.Compare(one.Called(), name)
	})
	to.Set(k, g.lists.Of(slices.Insert(slices.Clone(items), at, item)...))
}

// remove removes an item from the list of a key, if it is there.
func (g *Groups[K, T]) remove(from *Editor[K, *List[T]], k K, item T) {
	old, ok := from.Get(k)
	if !ok {
		return
	}
	at := slices.Index(old.Items, item)
	switch {
	case at < 0:
	case len(old.Items) == 1:
		from.Delete(k)
	default:
		from.Set(k, g.lists.Of(slices.Concat(old.Items[:at], old.Items[at+1:])...))
	}
}
