package shelf

import (
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/files"
)

// Kinds are those of the resources that are implemented, in the order of their names.
var Kinds = [...]string{"Cluster", "ClusterLoadAssignment", "Listener", "MetaRouteConfiguration", "RouteConfiguration"}

// Types are the kinds as control planes name them.
var Types = [len(Kinds)]string{
	"type.googleapis.com/envoy.config.cluster.v3.Cluster",
	"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	"type.googleapis.com/envoy.config.listener.v3.Listener",
	"type.googleapis.com/" + files.MetaRoute,
	"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}

// Where the kinds are in Tables.
const (
	ClusterKind = iota
	EndpointKind
	ListenerKind
	MetaRouteKind
	RouteKind
)

// Tables are the last good version of everything. Immutable; those of one Shelf that
// hold the same are equal.
type Tables struct {
	Entries [len(Kinds)]table.Map[string, *Entry]
	// Assignments and Routes are the names that clusters and listeners refer to, and how
	// many do.
	Assignments, Routes table.Map[string, int]
	// Served are the tables of routes that other servers have: "CLUSTER NAME", and how many
	// listeners refer to them.
	Served table.Map[string, int]
}

// Sizes returns how many there are of each kind of which there are some.
func (t *Tables) Sizes() map[string]int {
	sizes := make(map[string]int)
	for at, kind := range Kinds {
		if n := t.Entries[at].Len(); n > 0 {
			sizes[kind] = n
		}
	}
	return sizes
}

// Edition makes Tables out of others. It is for one goroutine.
type Edition struct {
	entries             [len(Kinds)]*table.Editor[string, *Entry]
	assignments, routes *table.Editor[string, int]
	served              *table.Editor[string, int]
}

// Edit begins tables that are t.
func (l *Shelf) Edit(t *Tables) *Edition {
	e := &Edition{assignments: l.counts.Edit(t.Assignments), routes: l.counts.Edit(t.Routes), served: l.counts.Edit(t.Served)}
	for at := range Kinds {
		e.entries[at] = l.sets.Edit(t.Entries[at])
	}
	return e
}

// Get returns an entry as it is now; nil if there is none.
func (e *Edition) Get(kind, name string) *Entry {
	at := slices.Index(Kinds[:], kind)
	if at < 0 {
		return nil
	}
	one, _ := e.entries[at].Get(name)
	return one
}

// Put replaces an entry by one of its kind and name, which has no problems.
func (e *Edition) Put(one *Entry) {
	at := slices.Index(Kinds[:], one.Kind)
	if at < 0 {
		return
	}
	e.refer(e.Get(one.Kind, one.Name), -1)
	e.refer(one, 1)
	e.entries[at].Set(one.Name, one)
}

// Remove removes an entry and returns it; nil if there is none.
func (e *Edition) Remove(kind, name string) *Entry {
	old := e.Get(kind, name)
	if old != nil {
		e.refer(old, -1)
		e.entries[slices.Index(Kinds[:], kind)].Delete(name)
	}
	return old
}

// refer counts what an entry refers to.
func (e *Edition) refer(one *Entry, by int) {
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
	if one.Assignment != "" {
		count(e.assignments, one.Assignment)
	}
	for _, l := range one.Listeners {
		switch {
		case l.Route != nil || l.RouteName == "":
		case l.RouteServer != "":
			count(e.served, l.RouteServer+" "+l.RouteName)
		default:
			count(e.routes, AskedAs(l.RouteName))
		}
	}
}

// Tables ends the editing.
func (e *Edition) Tables() Tables {
	t := Tables{Assignments: e.assignments.Map(), Routes: e.routes.Map(), Served: e.served.Map()}
	for at := range Kinds {
		t.Entries[at] = e.entries[at].Map()
	}
	return t
}
