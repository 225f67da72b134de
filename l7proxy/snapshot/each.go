package snapshot

import "iter"

// Each lists what several snapshots hold, each once: it is shared by those that were told
// the same.
func Each[T comparable](all []*Snapshot, of func(*Snapshot) iter.Seq[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		seen := make(map[T]bool)
		for _, s := range all {
			for one := range of(s) {
				if seen[one] {
					continue
				}
				if seen[one] = true; !yield(one) {
					return
				}
			}
		}
	}
}
