package cluster

import (
	"iter"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// sets are a Manager's Sets. Immutable.
type sets struct {
	// byConfig finds those of the snapshots' clusters, and of the ones before which they
	// replaced, as long as those are in use.
	byConfig map[*snapshot.Cluster]*Set
	// byName has those that are in the snapshots, in the order of these. Snapshots that
	// have one cluster share its Set; different clusters of one name have several.
	byName map[string][]*Set
}

func (s *sets) all() iter.Seq[*Set] {
	return func(yield func(*Set) bool) {
		for _, list := range s.byName {
			for _, set := range list {
				if !yield(set) {
					return
				}
			}
		}
	}
}

// Prepare makes the Sets follow snapshots that are about to be used, in place of those of
// the last Update, whose clusters can still be found. Endpoints keep their counters and
// back-off by cluster and address.
func (m *Manager) Prepare(all ...*snapshot.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets.Load()
	m.dns.Want(append(resolvable(all), old.resolvable()...))
	next := m.following(all)
	for c, set := range old.byConfig {
		if next.byConfig[c] == nil {
			next.byConfig[c] = set
		}
	}
	for name, list := range old.byName {
		for _, set := range list {
			if !slices.Contains(next.byName[name], set) {
				next.byName[name] = append(next.byName[name], set)
			}
		}
	}
	m.sets.Store(next)
}

// Update is Prepare for snapshots that are in use: what is in none of them goes.
func (m *Manager) Update(all ...*snapshot.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets.Load()
	m.dns.Want(resolvable(all))
	next := m.following(all)
	m.sets.Store(next)
	for name, list := range old.byName {
		for _, set := range list {
			if !slices.Contains(next.byName[name], set) {
				set.state.Store(nil)
				m.watch(set, nil)
			}
		}
	}
}

// following makes the Sets of snapshots. A cluster that replaces another takes over its
// Set. The caller locks.
func (m *Manager) following(all []*snapshot.Snapshot) *sets {
	old := m.sets.Load()
	next := &sets{byConfig: make(map[*snapshot.Cluster]*Set, len(old.byConfig)), byName: make(map[string][]*Set, len(old.byName))}
	type unseen struct {
		name    string
		cluster *snapshot.Cluster
	}
	var unknown []unseen
	for _, s := range all {
		for name, c := range s.Clusters {
			set := old.byConfig[c]
			switch {
			case next.byConfig[c] != nil:
			case set != nil && set.Config() == c:
				next.add(name, c, set)
			default:
				unknown = append(unknown, unseen{name, c})
			}
		}
	}
	for _, u := range unknown {
		if next.byConfig[u.cluster] != nil {
			continue // several snapshots have it
		}
		set := heir(old.byName[u.name], next.byName[u.name])
		if set == nil {
			set = &Set{name: u.name}
			if list := next.byName[u.name]; len(list) > 0 {
				set.known = list[0].known // what is known of an address is so for all
			}
		}
		m.rebuild(set, u.cluster)
		next.add(u.name, u.cluster, set)
	}
	return next
}

// heir is the first of the Sets of a name that no cluster has any more.
func heir(before, taken []*Set) *Set {
	for _, set := range before {
		if !slices.Contains(taken, set) {
			return set
		}
	}
	return nil
}

func (s *sets) add(name string, c *snapshot.Cluster, set *Set) {
	s.byConfig[c] = set
	s.byName[name] = append(s.byName[name], set)
}

// resolvable are the clusters of snapshots whose endpoints have names to be resolved.
func resolvable(all []*snapshot.Snapshot) []*snapshot.Cluster {
	var list []*snapshot.Cluster
	for _, s := range all {
		for _, c := range s.Clusters {
			if c.Kind == snapshot.ClusterStrictDNS {
				list = append(list, c)
			}
		}
	}
	return list
}

// resolvable is the same of Sets.
func (s *sets) resolvable() []*snapshot.Cluster {
	var list []*snapshot.Cluster
	for set := range s.all() {
		if c := set.Config(); c != nil && c.Kind == snapshot.ClusterStrictDNS {
			list = append(list, c)
		}
	}
	return list
}
