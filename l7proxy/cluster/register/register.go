// Package register finds the sets of endpoints that clusters have: by the cluster of a
// snapshot, or by its name.
package register

import (
	"iter"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Register has the sets of clusters. Nobody changes one that was published. Snapshots that
// have one cluster share its set; different clusters of one name have several.
type Register[S any] struct {
	byConfig map[*snapshot.Cluster]*S
	byName   map[string][]*S // in the order of the snapshots
}

// New returns an empty one, with room for as many as another has.
func New[S any](like *Register[S]) *Register[S] {
	r := &Register[S]{byConfig: make(map[*snapshot.Cluster]*S), byName: make(map[string][]*S)}
	if like != nil {
		r.byConfig = make(map[*snapshot.Cluster]*S, len(like.byConfig))
		r.byName = make(map[string][]*S, len(like.byName))
	}
	return r
}

// Of returns the set of a cluster, or nil.
func (r *Register[S]) Of(c *snapshot.Cluster) *S { return r.byConfig[c] }

// Named returns the sets of a name. The caller must not change the slice.
func (r *Register[S]) Named(name string) []*S { return r.byName[name] }

// Add adds a set.
func (r *Register[S]) Add(name string, c *snapshot.Cluster, set *S) {
	r.byConfig[c] = set
	if !slices.Contains(r.byName[name], set) {
		r.byName[name] = append(r.byName[name], set)
	}
}

// AddAll adds what another has: clusters that are not in r, and their sets.
func (r *Register[S]) AddAll(other *Register[S]) {
	for c, set := range other.byConfig {
		if r.byConfig[c] == nil {
			r.Add(c.Name, c, set)
		}
	}
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

// Heir is the first set of a name that r has and another one has not; nil if there is
// none.
func (r *Register[S]) Heir(name string, other *Register[S]) *S {
	for set := range r.without(name, other) {
		return set
	}
	return nil
}
