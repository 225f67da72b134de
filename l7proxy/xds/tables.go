package xds

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot/table"
)

// kinds are those of the resources that are implemented, in the order of their names.
var kinds = [...]string{"Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"}

// Where the kinds are in tables.
const (
	clusterKind = iota
	endpointKind
	listenerKind
	routeKind
)

// tables are the last good version of everything. Immutable; those of one Library that
// hold the same are equal.
type tables struct {
	entries [len(kinds)]table.Map[string, *entry]
	// assignments and routes are the names that clusters and listeners refer to, and how
	// many do.
	assignments, routes table.Map[string, int]
}

// get returns an entry; nil if there is none.
func (t *tables) get(k key) *entry {
	if at := slices.Index(kinds[:], k.kind); at >= 0 {
		return t.entries[at].Value(k.name)
	}
	return nil
}

// sizes returns how many there are of each kind of which there are some.
func (t *tables) sizes() map[string]int {
	sizes := make(map[string]int)
	for at, kind := range kinds {
		if n := t.entries[at].Len(); n > 0 {
			sizes[kind] = n
		}
	}
	return sizes
}

// edition makes tables out of others. It is for one goroutine.
type edition struct {
	entries             [len(kinds)]*table.Editor[string, *entry]
	assignments, routes *table.Editor[string, int]
}

func (l *Library) edit(t *tables) *edition {
	e := &edition{assignments: l.counts.Edit(t.assignments), routes: l.counts.Edit(t.routes)}
	for at := range kinds {
		e.entries[at] = l.sets.Edit(t.entries[at])
	}
	return e
}

// get returns an entry as it is now; nil if there is none.
func (e *edition) get(k key) *entry {
	at := slices.Index(kinds[:], k.kind)
	if at < 0 {
		return nil
	}
	one, _ := e.entries[at].Get(k.name)
	return one
}

// put replaces an entry by one of its kind and name, which has no problems.
func (e *edition) put(one *entry) {
	at := slices.Index(kinds[:], one.kind)
	if at < 0 {
		return
	}
	e.refer(e.get(key{one.kind, one.name}), -1)
	e.refer(one, 1)
	e.entries[at].Set(one.name, one)
}

// remove removes an entry; nil if there is none.
func (e *edition) remove(k key) *entry {
	old := e.get(k)
	if old != nil {
		e.refer(old, -1)
		e.entries[slices.Index(kinds[:], k.kind)].Delete(k.name)
	}
	return old
}

// refer counts what an entry refers to.
func (e *edition) refer(one *entry, by int) {
	if one == nil {
		return
	}
	count := func(in *table.Editor[string, int], name string) {
		if n, _ := in.Get(name); n+by != 0 {
			in.Set(name, n+by)
		} else {
			in.Delete(name)
		}
	}
	if one.assignment != "" {
		count(e.assignments, one.assignment)
	}
	for _, l := range one.listeners {
		if l.Route == nil && l.RouteName != "" {
			count(e.routes, AskedAs(l.RouteName))
		}
	}
}

// tables ends the editing.
func (e *edition) tables() tables {
	t := tables{assignments: e.assignments.Map(), routes: e.routes.Map()}
	for at := range kinds {
		t.entries[at] = e.entries[at].Map()
	}
	return t
}
