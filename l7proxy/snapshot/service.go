package snapshot

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// hosts lists the host of the cluster's service; a nil cluster has none.
func (c *Cluster) hosts() iter.Seq[string] {
	return func(yield func(string) bool) {
		if c != nil {
			yield(strings.ToLower(c.Service.Host))
		}
	}
}

// names lists the domains without a star; a nil table has none.
func (rc *RouteConfig) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		if rc == nil {
			return
		}
		for _, vh := range rc.VirtualHosts {
			for _, d := range vh.Domains {
				if !strings.Contains(d, "*") && !yield(strings.ToLower(d)) {
					return
				}
			}
		}
	}
}

// Settle finds the routes that name no host, as sealing does. A table whose routes another
// one will have too must be settled before that one is made: then there is nothing to write.
func (rc *RouteConfig) Settle() {
	rc.settled.Do(func() {
		for _, vh := range rc.VirtualHosts {
			if !slices.Contains(vh.Domains, "*") {
				continue
			}
			for _, r := range vh.Routes {
				if !r.catchAll && r.unconditional() {
					r.catchAll = true
				}
			}
		}
	})
}

// unconditional tells whether the route takes every request to one cluster.
func (r *Route) unconditional() bool {
	m, a := &r.Match, &r.Action
	for i := range m.Headers {
		if !m.Headers[i].AsksNothing() {
			return false
		}
	}
	return m.PathKind == PathPrefix && (m.Path == "" || m.Path == "/") &&
		m.Fraction >= 1_000_000 && len(a.Clusters) == 1 && len(a.Clusters[0].Subset) == 0
}

// AsksNothing tells whether every call has what is asked for: an interface, or a
// method, of any name.
func (h *HeaderMatch) AsksNothing() bool {
	return h.Kind == HeaderPrefix && h.Value == "" && !h.Invert && h.Source == SourceName &&
		(h.Name == "interface" || h.Name == "method")
}

// Dials tells whether the cluster leads to whatever was dialled and to nothing else: it is
// of type ORIGINAL_DST, and no endpoints of it are known.
func (c *Cluster) Dials() bool {
	return c.Kind == ClusterOriginalDst && !slices.ContainsFunc(c.Localities, func(l *Locality) bool { return len(l.Endpoints) > 0 })
}

// whole tells whether a cluster's name, outbound|port|subset|host, has no subset.
func (c *Cluster) whole() bool { return strings.Contains(c.Name, "||") || c.Name == c.Service.Host }

// NamesHost tells whether a route is a policy for the host that it serves: its
// virtual host has no domain "*", or it has a condition (anything but the prefix
// "/" for all requests), or it leads to several clusters, or to a subset by
// metadata_match. What is left, a catch-all that leads to one cluster, only says
// where the service is. The route is one of the snapshot's.
func (s *Snapshot) NamesHost(r *Route) bool { return !r.catchAll }

// ServiceOf returns what the snapshot knows of an interface, whatever the
// dialled address: the route configuration with a domain of exactly this name,
// and the cluster whose service's host is called so. Both may be nil.
func (s *Snapshot) ServiceOf(iface string) (*RouteConfig, *Cluster) {
	name := strings.ToLower(iface)
	if name == "" {
		return nil, nil
	}
	var rc *RouteConfig
	if list, ok := s.index.domains.Get(name); ok {
		rc = list.Items[0]
	}
	list, ok := s.index.hosts.Get(name)
	if !ok {
		return rc, nil
	}
	// Of a service's clusters the one without a subset has all its endpoints.
	if at := slices.IndexFunc(list.Items, (*Cluster).whole); at > 0 {
		return rc, list.Items[at]
	}
	return rc, list.Items[0]
}

// Names tells whether the configuration names a dialled address as such: by a
// listener of its own, or by a domain. Whoever dials it means a service, unless
// it is an endpoint too.
func (s *Snapshot) Names(dst netip.AddrPort) bool {
	if _, ok := s.index.exact.Get(dst); ok {
		return true
	}
	l := s.Listener(dst)
	if l == nil || l.Route == nil {
		return false
	}
	host, whole := dst.Addr().String(), dst.String()
	if l.Route.IgnorePort {
		whole = ""
	}
	return l.Route.hasDomain(whole, host, "["+host+"]")
}

// IsOwn tells whether dst is a provider's own address and not a service's: an
// endpoint, or an address that the configuration does not name.
func (s *Snapshot) IsOwn(dst netip.AddrPort) bool { return s.IsEndpoint(dst) || !s.Names(dst) }

// Serves tells whether dst is an endpoint of the service that c is a cluster of.
func (s *Snapshot) Serves(dst netip.AddrPort, c *Cluster) bool {
	return slices.ContainsFunc(s.ClustersAt(dst), func(at *Cluster) bool {
		return at == c || at.Service == c.Service
	})
}

// Live tells whether a route configuration leads to any healthy endpoint.
func (s *Snapshot) Live(rc *RouteConfig) bool {
	if rc == nil {
		return false
	}
	for _, vh := range rc.VirtualHosts {
		for _, r := range vh.Routes {
			for i := range r.Action.Clusters {
				if c := s.Clusters[r.Action.Clusters[i].Cluster]; c != nil && c.live() {
					return true
				}
			}
		}
	}
	return false
}

// live tells whether the cluster has a healthy endpoint, as far as is known: of
// names only a resolver knows.
func (c *Cluster) live() bool {
	return slices.ContainsFunc(c.Localities, func(l *Locality) bool {
		return slices.ContainsFunc(l.Endpoints, func(e *Endpoint) bool { return e.Healthy })
	})
}

// LiveBut tells whether a cluster has a healthy endpoint other than dst.
func (c *Cluster) LiveBut(dst netip.AddrPort) bool {
	return slices.ContainsFunc(c.Localities, func(l *Locality) bool {
		return slices.ContainsFunc(l.Endpoints, func(e *Endpoint) bool { return e.Healthy && e.Address != dst })
	})
}
