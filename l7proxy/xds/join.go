package xds

import (
	"slices"
	"strings"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds/convert"
)

// join makes a sealed snapshot of the set's resources: endpoints go into their
// clusters, route configurations into the listeners that name them.
func (s *set) join(generation uint64) *snapshot.Snapshot {
	out := &snapshot.Snapshot{
		Generation: generation,
		Routes:     make(map[string]*snapshot.RouteConfig),
		Clusters:   make(map[string]*snapshot.Cluster),
	}
	assignments := make(map[string]*convert.Assignment)
	for _, k := range s.order {
		switch e := s.entries[k]; {
		case e.route != nil:
			out.Routes[k.name] = e.route
		case e.endpoints != nil:
			assignments[k.name] = e.endpoints
		}
	}
	for _, k := range s.order {
		e := s.entries[k]
		if e.cluster != nil {
			out.Clusters[k.name] = withEndpoints(e, assignments)
		}
		for _, l := range e.listeners {
			if l.Route != nil { // inline
				out.Routes[l.RouteName] = l.Route
			}
			out.Listeners = append(out.Listeners, l)
		}
		out.Inbounds = append(out.Inbounds, e.inbounds...)
		if e.unknown != nil {
			out.Unknown = max(out.Unknown, *e.unknown)
		}
	}
	for i, l := range out.Listeners {
		if l.RouteName != "" && l.Route == nil {
			named := *l // what convert made is shared between snapshots
			named.Route = routesOf(l.RouteName, out.Routes)
			out.Listeners[i] = &named
		}
	}
	slices.SortStableFunc(out.Listeners, func(a, b *snapshot.Listener) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.Inbounds, func(a, b *snapshot.Inbound) int { return strings.Compare(a.Name, b.Name) })
	return out.Seal()
}

// routesOf finds the route configuration of a name, under the name that it was asked by
// too; then it has both names.
func routesOf(name string, all map[string]*snapshot.RouteConfig) *snapshot.RouteConfig {
	asked := all[AskedAs(name)]
	if all[name] == nil && asked != nil {
		all[name] = &snapshot.RouteConfig{ // what convert made is shared between snapshots
			Name: name, VirtualHosts: asked.VirtualHosts, IgnorePort: asked.IgnorePort,
			Static: asked.Static, Whole: asked.Whole, Needs: asked.Needs,
		}
	}
	return all[name]
}

// withEndpoints returns the cluster of e with the endpoints that EDS has given.
func withEndpoints(e *entry, assignments map[string]*convert.Assignment) *snapshot.Cluster {
	a, ok := assignments[e.assignment]
	if e.assignment == "" || !ok {
		return e.cluster
	}
	c := *e.cluster
	c.Localities, c.Overprovision = a.Localities, a.Overprovision
	return &c
}

// AskedAs is how a control plane is asked for a route configuration: istiod knows those
// of HOST:PORT by hosts in lower case, while its listeners name them as they are written,
// and answers what it does not know with an empty one.
func AskedAs(route string) string {
	if host, port, ok := strings.Cut(route, ":"); ok {
		return strings.ToLower(host) + ":" + port
	}
	return route
}
