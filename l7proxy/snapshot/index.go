package snapshot

import (
	"maps"
	"net/netip"
	"slices"
)

// index finds listeners by what a consumer dialled.
type index struct {
	exact     map[netip.AddrPort]*Listener
	ranges    []*Listener // longest prefix first, a given port before every port
	endpoints map[netip.AddrPort][]*Cluster
	services  services
	inbound   map[inboundKey]*Inbound
}

// Seal builds the look-up tables. Package xds calls it once, before it
// publishes the snapshot.
func (s *Snapshot) Seal() *Snapshot {
	s.index = index{
		exact:     make(map[netip.AddrPort]*Listener, len(s.Listeners)),
		endpoints: make(map[netip.AddrPort][]*Cluster),
	}
	for _, l := range s.Listeners {
		if l.Prefix.IsSingleIP() && l.Port != 0 {
			s.index.exact[netip.AddrPortFrom(l.Prefix.Addr(), l.Port)] = l
			continue
		}
		s.index.ranges = append(s.index.ranges, l)
	}
	slices.SortStableFunc(s.index.ranges, func(a, b *Listener) int {
		if d := b.Prefix.Bits() - a.Prefix.Bits(); d != 0 {
			return d
		}
		return int(b.Port) - int(a.Port)
	})
	for _, name := range slices.Sorted(maps.Keys(s.Clusters)) {
		c := s.Clusters[name]
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if at := s.index.endpoints[e.Address]; e.Address.IsValid() && !slices.Contains(at, c) {
					s.index.endpoints[e.Address] = append(at, c)
				}
			}
		}
	}
	s.index.services.build(s)
	s.index.inbound = s.inbounds()
	return s
}

// Listener returns the listener for a dialled address (not v4-mapped), or nil:
// an exact address and port first, then the longest prefix.
func (s *Snapshot) Listener(dst netip.AddrPort) *Listener {
	if l, ok := s.index.exact[dst]; ok {
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
func (s *Snapshot) IsEndpoint(dst netip.AddrPort) bool { return len(s.index.endpoints[dst]) > 0 }

// ClustersAt returns the clusters that have an endpoint at dst, by name. The
// caller must not change the slice.
func (s *Snapshot) ClustersAt(dst netip.AddrPort) []*Cluster { return s.index.endpoints[dst] }
