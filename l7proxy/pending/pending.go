// Package pending gives what is in flight on one connection its ids there, and
// finds it again when the answer comes. It knows no protocol and no connection.
package pending

// Max bounds what is in flight on one connection.
const Max = 1 << 16

// Unused is an id that is never given, for what must not be taken for an answer.
const Unused = uint64(1<<32 - 1)

// Table is what is in flight. An id is a slot's index in its low half and the
// slot's turn in the high half, so that a late answer to an id that was given up
// finds nobody. Its zero value is empty; the caller locks.
type Table[T any] struct {
	all  []slot[T]
	free []uint32
}

type slot[T any] struct {
	value T
	turn  uint32 // how often the slot was used
	used  bool
}

// Take stores a value and returns its id, or false if there are Max.
func (t *Table[T]) Take(v T) (uint64, bool) {
	var i uint32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		if len(t.all) == Max {
			return 0, false
		}
		i = uint32(len(t.all))
		t.all = append(t.all, slot[T]{})
	}
	s := &t.all[i]
	s.value, s.used = v, true
	return uint64(s.turn)<<32 | uint64(i), true
}

// Give returns the value of an id and frees its slot; false if there is none.
func (t *Table[T]) Give(id uint64) (T, bool) {
	i := uint32(id)
	if uint64(i) >= uint64(len(t.all)) {
		var none T
		return none, false
	}
	s := &t.all[i]
	if !s.used || s.turn != uint32(id>>32) {
		var none T
		return none, false
	}
	v := s.value
	t.drop(i)
	return v, true
}

// Leave frees the slots for which mine is true and returns what was in them.
func (t *Table[T]) Leave(mine func(*T) bool) []T {
	var left []T
	for i := range t.all {
		if s := &t.all[i]; s.used && mine(&s.value) {
			left = append(left, s.value)
			t.drop(uint32(i))
		}
	}
	return left
}

// Busy is the number of values in flight.
func (t *Table[T]) Busy() int { return len(t.all) - len(t.free) }

func (t *Table[T]) drop(i uint32) {
	// A turn stays below 1<<31, so that ids are positive for peers which read
	// them as signed.
	t.all[i] = slot[T]{turn: (t.all[i].turn + 1) & (1<<31 - 1)}
	t.free = append(t.free, i)
}
