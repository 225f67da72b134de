package snapshot

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot/table"
)

// index finds listeners by what a consumer dialled, and services by their names.
type index struct {
	exact     table.Map[netip.AddrPort, *Listener]
	ranges    []*Listener // longest prefix first, a given port before every port
	endpoints table.Map[netip.AddrPort, *clusters]
	hosts     table.Map[string, *clusters] // by the service's host, in lower case
	domains   table.Map[string, *tables]   // by each domain without a star, in lower case
	inbound   map[inboundKey]*Inbound
}

// clusters and tables are some of a snapshot's, by name.
type (
	clusters = table.List[*Cluster]
	tables   = table.List[*RouteConfig]
)

// Shared is the parts of look-up tables that snapshots have in common: those of one
// Shared have each once. The zero Shared is empty. It is safe for concurrent use.
type Shared struct {
	exact     table.Pool[netip.AddrPort, *Listener]
	endpoints table.Groups[netip.AddrPort, *Cluster]
	hosts     table.Groups[string, *Cluster]
	domains   table.Groups[string, *RouteConfig]
}

// Len returns how many parts there are that a snapshot holds.
func (s *Shared) Len() int {
	return s.exact.Len() + s.endpoints.Len() + s.hosts.Len() + s.domains.Len()
}

// Changes are what a snapshot has in place of what the one before it has. Old or New is
// nil where there was, or is, none.
type Changes struct {
	Clusters  []table.Change[*Cluster]
	Routes    []table.Change[*RouteConfig]
	Listeners []table.Change[*Listener]
	Inbounds  bool // some of them changed
}

// Seal builds the look-up tables of a snapshot that has nothing in common with another.
// Call it once, before the snapshot is published.
func (s *Snapshot) Seal() *Snapshot {
	changes := &Changes{Inbounds: true}
	for _, c := range s.Clusters {
		changes.Clusters = append(changes.Clusters, table.Change[*Cluster]{New: c})
	}
	for _, rc := range s.Routes {
		changes.Routes = append(changes.Routes, table.Change[*RouteConfig]{New: rc})
	}
	for _, l := range s.Listeners {
		changes.Listeners = append(changes.Listeners, table.Change[*Listener]{New: l})
		if l.Route != nil && s.Routes[l.RouteName] != l.Route {
			changes.Routes = append(changes.Routes, table.Change[*RouteConfig]{New: l.Route})
		}
	}
	return s.SealAfter(new(Snapshot), new(Shared), changes)
}

// SealAfter builds the look-up tables out of those of the snapshot before it, which was
// sealed with the same Shared or is empty. It costs what the changes cost.
func (s *Snapshot) SealAfter(last *Snapshot, shared *Shared, changes *Changes) *Snapshot {
	s.index = last.index
	s.index.listeners(shared, changes.Listeners)
	for _, c := range changes.Routes {
		if c.New != nil {
			c.New.Settle()
		}
	}
	s.index.endpoints = shared.endpoints.Follow(last.index.endpoints, changes.Clusters, (*Cluster).addresses)
	s.index.hosts = shared.hosts.Follow(last.index.hosts, changes.Clusters, (*Cluster).hosts)
	s.index.domains = shared.domains.Follow(last.index.domains, changes.Routes, (*RouteConfig).names)
	if changes.Inbounds {
		s.index.inbound = s.inbounds()
	}
	return s
}

// listeners follows changes of listeners.
func (i *index) listeners(shared *Shared, changes []table.Change[*Listener]) {
	exact, ranges := shared.exact.Edit(i.exact), slices.Clone(i.ranges)
	moved := false
	for _, c := range changes {
		if l := c.Old; l != nil && l.isExact() {
			exact.Delete(l.dialled())
		} else if l != nil {
			ranges, moved = slices.DeleteFunc(ranges, func(r *Listener) bool { return r == l }), true
		}
	}
	for _, c := range changes {
		if l := c.New; l != nil && l.isExact() {
			exact.Set(l.dialled(), l)
		} else if l != nil {
			ranges, moved = append(ranges, l), true
		}
	}
	i.exact = exact.Map()
	if moved {
		slices.SortStableFunc(ranges, func(a, b *Listener) int {
			if d := b.Prefix.Bits() - a.Prefix.Bits(); d != 0 {
				return d
			}
			return int(b.Port) - int(a.Port)
		})
		i.ranges = ranges
	}
}

// isExact tells whether the listener is for one address and port, dialled which they are.
func (l *Listener) isExact() bool { return l.Prefix.IsSingleIP() && l.Port != 0 }

func (l *Listener) dialled() netip.AddrPort { return netip.AddrPortFrom(l.Prefix.Addr(), l.Port) }

// addresses lists the addresses of the cluster's endpoints, one as often as it has it; a
// nil cluster has none.
func (c *Cluster) addresses() iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		if c == nil {
			return
		}
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if e.Address.IsValid() && !yield(e.Address) {
					return
				}
			}
		}
	}
}

// Listener returns the listener for a dialled address (not v4-mapped), or nil:
// an exact address and port first, then the longest prefix.
func (s *Snapshot) Listener(dst netip.AddrPort) *Listener {
	if l, ok := s.index.exact.Get(dst); ok {
		return l
	}
	for _, l := range s.index.ranges {
		if (l.Port == 0 || l.Port == dst.Port()) && l.Prefix.Contains(dst.Addr()) {
			return l
		}
	}
	return nil
}

// IsEndpoint tells whether dst is the address of a provider in some cluster: a
// consumer that dials it chose that very pod.
func (s *Snapshot) IsEndpoint(dst netip.AddrPort) bool { return len(s.ClustersAt(dst)) > 0 }

// ClustersAt returns the clusters that have an endpoint at dst, by name. The
// caller must not change the slice.
func (s *Snapshot) ClustersAt(dst netip.AddrPort) []*Cluster {
	if list, ok := s.index.endpoints.Get(dst); ok {
		return list.Items
	}
	return nil
}
