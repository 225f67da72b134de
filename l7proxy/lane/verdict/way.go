package verdict

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Explained is what the configuration alone says of calls to an address: Lane if the kernel
// may route them where all providers that may be chosen are enrolled pods of the consumer's
// node, judge nobody themselves and have answered. A policy that judges by names may deny.
func Explained(s *snapshot.Snapshot, to netip.AddrPort, names codec.Prefix) Reason {
	c := Case{Protocol: seam.Protocol(), Prefix: names, Original: to, Listener: s.Listener(to)}
	switch {
	case c.Listener == nil || c.Listener.Route == nil:
		return NoRoute
	case s.IsOwn(to) && router.Pinned(names.Path, names.Method):
		return Pinned
	}
	if r := c.match(); r != Lane {
		return r
	}
	needs := filter.Place{Listener: c.Listener, Route: c.route}.Needs(false)
	switch {
	case needs.Limit, needs.Global:
		return Limited
	case needs.PerRequest, needs.Body:
		return PolicyByBody
	}
	if r := Way(c.Listener, c.route); r != Lane {
		return r
	}
	for i := range c.route.Action.Clusters {
		known := s.Clusters[c.route.Action.Clusters[i].Cluster]
		if r := clusterOf(known); r != Lane {
			return r
		}
		if known.Policy == snapshot.RingHash || known.Policy == snapshot.Maglev {
			return Hashed // but for one endpoint
		}
	}
	return Lane
}
