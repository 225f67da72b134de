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
	}
	for i, l := range out.Listeners {
		if l.RouteName != "" && l.Route == nil {
			named := *l // what convert made is shared between snapshots
			named.Route = out.Routes[l.RouteName]
			out.Listeners[i] = &named
		}
	}
	slices.SortStableFunc(out.Listeners, func(a, b *snapshot.Listener) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.Inbounds, func(a, b *snapshot.Inbound) int { return strings.Compare(a.Name, b.Name) })
	return out.Seal()
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
