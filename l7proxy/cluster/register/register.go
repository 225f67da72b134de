// Package register finds the sets of endpoints that clusters have: by the cluster of a
// snapshot, or by its name.
package register

import (
	"iter"
	"maps"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Register has the sets of clusters. Nobody changes one that was published. Snapshots that
// have one cluster share its set; different clusters of one name have several.
type Register[S any] struct {
	byConfig map[*snapshot.Cluster]*S
	byName   map[string][]*S // in the order of the snapshots
}

// New returns an empty one.
func New[S any]() *Register[S] {
	return &Register[S]{byConfig: make(map[*snapshot.Cluster]*S), byName: make(map[string][]*S)}
}

// Clone returns one that has the same, and may be changed: most of thousands of clusters
// are the same after a change.
func (r *Register[S]) Clone() *Register[S] {
	return &Register[S]{maps.Clone(r.byConfig), maps.Clone(r.byName)}
}

// Of returns the set of a cluster, or nil.
func (r *Register[S]) Of(c *snapshot.Cluster) *S { return r.byConfig[c] }

// Named returns the sets of a name. The caller must not change the slice.
func (r *Register[S]) Named(name string) []*S { return r.byName[name] }

// Add adds a set.
func (r *Register[S]) Add(name string, c *snapshot.Cluster, set *S) {
	r.byConfig[c] = set
	if list := r.byName[name]; !slices.Contains(list, set) {
		r.byName[name] = append(slices.Clip(list), set) // a clone has the same list
	}
}

// Prune forgets the clusters that are in none of the snapshots.
func (r *Register[S]) Prune(all []*snapshot.Snapshot) {
	gone := make(map[string]bool)
	for c := range r.byConfig {
		if !slices.ContainsFunc(all, func(s *snapshot.Snapshot) bool { return s.Clusters[c.Name] == c }) {
			gone[c.Name] = true
			delete(r.byConfig, c)
		}
	}
	for name := range gone {
		if left := r.Used(name, all); len(left) > 0 {
			r.byName[name] = left
		} else {
			delete(r.byName, name)
		}
	}
}

// Used returns the sets of a name that the snapshots' clusters have, in their order.
func (r *Register[S]) Used(name string, all []*snapshot.Snapshot) (list []*S) {
	for _, s := range all {
		if set := r.byConfig[s.Clusters[name]]; set != nil && !slices.Contains(list, set) {
			list = append(list, set)
		}
	}
	return list
}

// Heir is a set of a name whose clusters none of the snapshots has any more, and that is
// not taken; nil if there is none.
func (r *Register[S]) Heir(name string, all []*snapshot.Snapshot, taken map[*S]bool) *S {
	used := r.Used(name, all)
	for _, set := range r.byName[name] {
		if !taken[set] && !slices.Contains(used, set) {
			return set
		}
	}
	return nil
}

// All lists the sets.
func (r *Register[S]) All() iter.Seq[*S] {
	return func(yield func(*S) bool) {
		for _, list := range r.byName {
			for _, set := range list {
				if !yield(set) {
					return
				}
			}
		}
	}
}

// Without lists the sets that another one has not.
func (r *Register[S]) Without(other *Register[S]) iter.Seq[*S] {
	return func(yield func(*S) bool) {
		for name := range r.byName {
			for set := range r.without(name, other) {
				if !yield(set) {
					return
				}
			}
		}
	}
}

// without lists those of a name.
func (r *Register[S]) without(name string, other *Register[S]) iter.Seq[*S] {
	return func(yield func(*S) bool) {
		for _, set := range r.byName[name] {
			if !slices.Contains(other.byName[name], set) && !yield(set) {
				return
			}
		}
	}
}
