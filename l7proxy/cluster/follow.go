package cluster

import (
	"github.com/dubway/dubway/l7proxy/cluster/register"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Prepare makes the Sets follow snapshots that are about to be used, in place of those of
// the last Update, whose clusters can still be found. Endpoints keep their counters and
// back-off by cluster and address.
func (m *Manager) Prepare(all ...*snapshot.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets.Load()
	next := m.following(all, old)
	next.AddAll(old)
	m.sets.Store(next)
}

// Update is Prepare for snapshots that are in use: what is in none of them goes.
func (m *Manager) Update(all ...*snapshot.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets.Load()
	next := m.following(all, nil)
	m.sets.Store(next)
	for set := range old.Without(next) {
		set.state.Store(nil)
		m.watch(set, nil)
	}
}

// following makes the Sets of snapshots. A cluster that replaces another takes over its
// Set. Names are resolved of those, and of what is kept. The caller locks.
func (m *Manager) following(all []*snapshot.Snapshot, kept *register.Register[Set]) *register.Register[Set] {
	old := m.sets.Load()
	next := register.New(old)
	unknown := make(map[*snapshot.Cluster]string) // and their names
	m.dns.Want(func(yield func(*snapshot.Cluster) bool) {
		for _, s := range all {
			for _, c := range s.Clusters {
				if !yield(c) {
					return
				}
			}
		}
		if kept == nil {
			return
		}
		for set := range kept.All() {
			if c := set.Config(); c != nil && !yield(c) {
				return
			}
		}
	})
	for _, s := range all {
		for name, c := range s.Clusters {
			if set := old.Of(c); set == nil || set.Config() != c {
				unknown[c] = name
			} else if next.Of(c) == nil { // several snapshots may have it
				next.Add(name, c, set)
			}
		}
	}
	for c, name := range unknown {
		set := old.Heir(name, next)
		if set == nil {
			set = &Set{name: name}
			if list := next.Named(name); len(list) > 0 {
				set.known = list[0].known // what is known of an address is so for all
			}
		}
		m.rebuild(set, c)
		next.Add(name, c, set)
	}
	return next
}
