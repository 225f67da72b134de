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
	m.sets.Store(m.following(all, true))
}

// Update is Prepare for snapshots that are in use: what is in none of them goes.
func (m *Manager) Update(all ...*snapshot.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sets.Load()
	next := m.following(all, false)
	next.Prune(all)
	m.sets.Store(next)
	for set := range old.Without(next) {
		set.state.Store(nil)
		m.watch(set, nil)
	}
}

// following makes the Sets of snapshots, beside those that there are. A cluster that
// replaces another takes over its Set. Names are resolved of those, and with keep of all.
// The caller locks.
func (m *Manager) following(all []*snapshot.Snapshot, keep bool) *register.Register[Set] {
	old := m.sets.Load()
	next := old.Clone()
	unknown := make(map[*snapshot.Cluster]string) // and their names
	m.dns.Want(func(yield func(*snapshot.Cluster) bool) {
		for _, s := range all {
			for _, c := range s.Clusters {
				if !yield(c) {
					return
				}
			}
		}
		if !keep {
			return
		}
		for set := range old.All() {
			if c := set.Config(); c != nil && !yield(c) {
				return
			}
		}
	})
	for _, s := range all {
		for name, c := range s.Clusters {
			if set := old.Of(c); set == nil || set.Config() != c {
				unknown[c] = name
			}
		}
	}
	taken := make(map[*Set]bool)
	for c, name := range unknown {
		set := old.Heir(name, all, taken)
		if set == nil {
			set = &Set{name: name}
			if list := next.Named(name); len(list) > 0 {
				set.known = list[0].known // what is known of an address is so for all
			}
		}
		taken[set] = true
		m.rebuild(set, c)
		next.Add(name, c, set)
	}
	return next
}
