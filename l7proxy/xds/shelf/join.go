package shelf

import (
	"maps"
	"slices"
	"strings"
	"weak"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/table"
)

// Joined is a snapshot and what it was made of. Immutable.
type Joined struct {
	Tables   Tables
	Snapshot *snapshot.Snapshot

	clusters  table.Map[string, *snapshot.Cluster]
	routes    table.Map[string, *snapshot.RouteConfig]
	listeners table.Map[string, *table.List[*snapshot.Listener]] // by the resource's name
	listed    *table.List[*snapshot.Listener]                    // all of them, in the order of their names
}

// Nothing is what the first snapshot is made after.
func Nothing() *Joined { return &Joined{Snapshot: (&snapshot.Snapshot{}).Seal()} }

// Join makes the snapshot of Tables that follows last, sealed: endpoints go into their
// clusters, route configurations into the listeners that name them. It costs what differs.
func (l *Shelf) Join(last *Joined, next Tables) *Joined {
	j := &joiner{Shelf: l, last: last, next: &Joined{
		Tables: next, clusters: last.clusters, routes: last.routes, listeners: last.listeners, listed: last.listed,
	}}
	j.joinClusters()
	j.joinRoutes()
	j.next.Snapshot = (&snapshot.Snapshot{
		Generation: last.Snapshot.Generation + 1,
		Inbounds:   last.Snapshot.Inbounds,
		Unknown:    last.Snapshot.Unknown,
		Routes:     j.next.routes.Flat(last.routes),
		Clusters:   j.next.clusters.Flat(last.clusters),
	})
	if j.next.listed != nil {
		j.next.Snapshot.Listeners = j.next.listed.Items
	}
	if j.changes.Inbounds {
		j.next.Snapshot.Inbounds = j.inbounds()
	}
	if j.unknown {
		j.next.Snapshot.Unknown = snapshot.UnknownPass
		for _, e := range j.now(ListenerKind).All() {
			if e.Unknown != nil {
				j.next.Snapshot.Unknown = max(j.next.Snapshot.Unknown, *e.Unknown)
			}
		}
	}
	j.next.Snapshot.SealAfter(last.Snapshot, &l.shared, &j.changes)
	return j.next
}

// joiner makes one snapshot out of another one.
type joiner struct {
	*Shelf

	last, next *Joined
	changes    snapshot.Changes
	unknown    bool // what becomes of unknown destinations may have changed
}

// now and before are the entries of a kind.
func (j *joiner) now(kind int) table.Map[string, *Entry]    { return j.next.Tables.Entries[kind] }
func (j *joiner) before(kind int) table.Map[string, *Entry] { return j.last.Tables.Entries[kind] }

// joinClusters joins the clusters that changed, and those whose endpoints did.
func (j *joiner) joinClusters() {
	names, elsewhere := make(map[string]bool), make(map[string]bool)
	for name := range table.Diff(j.before(ClusterKind), j.now(ClusterKind)) {
		names[name] = true
	}
	for name := range table.Diff(j.before(EndpointKind), j.now(EndpointKind)) {
		users := j.next.Tables.Assignments.Value(name)
		if e := j.now(ClusterKind).Value(name); e != nil && e.Assignment == name {
			names[name] = true // nearly every cluster has the name of its endpoints
			users--
		}
		if users > 0 {
			elsewhere[name] = true
		}
	}
	if len(elsewhere) > 0 {
		for name, e := range j.now(ClusterKind).All() {
			if elsewhere[e.Assignment] {
				names[name] = true
			}
		}
	}
	clusters := j.joined.clusters.Edit(j.last.clusters)
	for name := range names {
		if e := j.now(ClusterKind).Value(name); e != nil {
			clusters.Set(name, j.withEndpoints(e))
		} else {
			clusters.Delete(name)
		}
	}
	j.next.clusters = clusters.Map()
	for _, c := range table.Diff(j.last.clusters, j.next.clusters) {
		j.changes.Clusters = append(j.changes.Clusters, c)
	}
}

// withEndpoints returns the cluster of e with the endpoints that EDS has given.
func (j *joiner) withEndpoints(e *Entry) *snapshot.Cluster {
	if e.Assignment == "" {
		return e.Cluster
	}
	given := j.now(EndpointKind).Value(e.Assignment)
	if given == nil {
		return e.Cluster
	}
	return j.clusters.Keep(pair[Entry, Entry]{weak.Make(e), weak.Make(given)}, nil, func() *snapshot.Cluster {
		c := *e.Cluster
		c.Localities, c.Overprovision = given.Endpoints.Localities, given.Endpoints.Overprovision
		return &c
	})
}

// joinRoutes joins the route configurations and the listeners that changed, and the
// listeners whose route configurations did.
func (j *joiner) joinRoutes() {
	tables, again := make(map[string]bool), make(map[string]bool) // route configurations, listeners: by name
	for _, kind := range []int{RouteKind, MetaRouteKind} {
		for name := range table.Diff(j.before(kind), j.now(kind)) {
			tables[name] = true
		}
	}
	for name, c := range table.Diff(j.before(ListenerKind), j.now(ListenerKind)) {
		again[name] = true
		for _, e := range []*Entry{c.Old, c.New} {
			if e == nil {
				continue
			}
			j.changes.Inbounds = j.changes.Inbounds || len(e.Inbounds) > 0
			j.unknown = j.unknown || e.Unknown != nil
			for _, l := range e.Listeners {
				tables[l.RouteName] = true
			}
		}
	}
	if len(tables)+len(again) == 0 {
		return
	}
	found := make(map[string]*snapshot.RouteConfig)
	for name := range tables {
		if e := j.table(name); e != nil {
			found[name] = e.Route
		}
	}
	for name, e := range j.now(ListenerKind).All() {
		if j.routed(e, tables, found) {
			again[name] = true
		}
	}
	routes := j.joined.routes.Edit(j.last.routes)
	for name := range tables {
		if rc := found[name]; rc != nil {
			routes.Set(name, rc)
		} else {
			routes.Delete(name)
		}
	}
	j.next.routes = routes.Map()
	for _, c := range table.Diff(j.last.routes, j.next.routes) {
		j.changes.Routes = append(j.changes.Routes, c)
	}
	j.relist(again)
}

// table finds a table of routes of either form: Aeraki calls its own HOST_PORT, as nobody
// else does.
func (j *joiner) table(name string) *Entry {
	if e := j.now(RouteKind).Value(name); e != nil {
		return e
	}
	return j.now(MetaRouteKind).Value(name)
}

// routed tells whether a listener has one of some route configurations, and finds those
// that it has inline, or by a name that it alone has for them.
func (j *joiner) routed(e *Entry, tables map[string]bool, found map[string]*snapshot.RouteConfig) bool {
	has := false
	for _, l := range e.Listeners {
		switch asked := AskedAs(l.RouteName); {
		case l.RouteName == "":
		case l.Route != nil: // inline
			if tables[l.RouteName] {
				found[l.RouteName] = l.Route
			}
		case tables[l.RouteName] || tables[asked]:
			has = true
			tables[l.RouteName] = true
			if found[l.RouteName] != nil {
				continue
			}
			if own := j.table(l.RouteName); own != nil {
				found[l.RouteName] = own.Route
			} else if of := j.now(RouteKind).Value(asked); of != nil {
				found[l.RouteName] = j.named(of.Route, l.RouteName)
			}
		}
	}
	return has
}

// named returns a route configuration under the name by which a listener has it.
func (j *joiner) named(of *snapshot.RouteConfig, name string) *snapshot.RouteConfig {
	return j.aliases.Keep(alias{weak.Make(of), name}, nil, func() *snapshot.RouteConfig {
		return &snapshot.RouteConfig{
			Name: name, VirtualHosts: written(of.VirtualHosts, name), IgnorePort: of.IgnorePort,
			Static: of.Static, Whole: of.Whole, Needs: of.Needs,
		}
	})
}

// relist joins listeners and lists all of them.
func (j *joiner) relist(names map[string]bool) {
	listeners := j.joined.listeners.Edit(j.last.listeners)
	for name := range names {
		var list *table.List[*snapshot.Listener]
		if e := j.now(ListenerKind).Value(name); e != nil {
			list = j.withRoutes(e)
		}
		if list == nil {
			listeners.Delete(name)
			continue
		}
		listeners.Set(name, list)
	}
	j.next.listeners = listeners.Map()
	changed := make(map[string]*table.List[*snapshot.Listener])
	for name, c := range table.Diff(j.last.listeners, j.next.listeners) {
		changed[name] = c.New
		if c.Old != nil {
			for _, l := range c.Old.Items {
				j.changes.Listeners = append(j.changes.Listeners, table.Change[*snapshot.Listener]{Old: l})
			}
		}
		if c.New != nil {
			for _, l := range c.New.Items {
				j.changes.Listeners = append(j.changes.Listeners, table.Change[*snapshot.Listener]{New: l})
			}
		}
	}
	if len(changed) == 0 {
		return
	}
	var all, rest []*snapshot.Listener
	if j.last.listed != nil {
		rest = j.last.listed.Items
	}
	byName := func(l *snapshot.Listener, name string) int { return strings.Compare(l.Name, name) }
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		from, _ := slices.BinarySearchFunc(rest, name, byName)
		all = append(all, rest[:from]...)
		rest = rest[from:]
		for len(rest) > 0 && rest[0].Name == name {
			rest = rest[1:]
		}
		if list := changed[name]; list != nil {
			all = append(all, list.Items...)
		}
	}
	j.next.listed = j.joined.lists.Of(append(all, rest...)...)
}

// withRoutes returns the listeners of e with the route configurations that they name; nil
// if it has none.
func (j *joiner) withRoutes(e *Entry) *table.List[*snapshot.Listener] {
	list := slices.Clone(e.Listeners)
	for i, l := range list {
		if l.RouteName == "" || l.Route != nil {
			continue
		}
		rc := j.next.routes.Value(l.RouteName)
		if rc == nil {
			continue
		}
		list[i] = j.listeners.Keep(pair[snapshot.Listener, snapshot.RouteConfig]{weak.Make(l), weak.Make(rc)}, nil,
			func() *snapshot.Listener {
				named := *l
				named.Route = rc
				return &named
			})
	}
	return j.joined.lists.Of(list...)
}

// inbounds lists what is held against connections to providers, in the order of the names.
func (j *joiner) inbounds() []*snapshot.Inbound {
	var all []*snapshot.Inbound
	for _, e := range j.now(ListenerKind).All() {
		all = append(all, e.Inbounds...)
	}
	slices.SortStableFunc(all, func(a, b *snapshot.Inbound) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// AskedAs is how a control plane is asked for a route configuration: istiod knows those
// of HOST:PORT by hosts in lower case, while its listeners name them as they are written,
// and answers what it does not know with an empty one.
func AskedAs(route string) string {
	host, port, ok := strings.Cut(route, ":")
	if lower := strings.ToLower(host); ok && lower != host {
		return lower + ":" + port
	}
	return route
}
