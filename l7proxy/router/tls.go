package router

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
)

// TLSOf returns how an endpoint of a cluster is reached; plaintext if the cluster is gone.
func TLSOf(snap *snapshot.Snapshot, cluster string, e *snapshot.Endpoint) mutual.TLS {
	if c := snap.Clusters[cluster]; c != nil && len(c.Sockets) > 0 && e != nil {
		return mutual.Of(c.Sockets, e.Socket)
	}
	return mutual.TLS{}
}

// TLSAt returns how the provider at an address is reached, as the first cluster by name
// says that has an endpoint there; plaintext where none has.
func TLSAt(snap *snapshot.Snapshot, dst netip.AddrPort) mutual.TLS {
	for _, c := range snap.ClustersAt(dst) {
		if len(c.Sockets) == 0 {
			return mutual.TLS{}
		}
		for _, l := range c.Localities {
			for _, e := range l.Endpoints {
				if e.Address == dst {
					return mutual.Of(c.Sockets, e.Socket)
				}
			}
		}
	}
	return mutual.TLS{}
}
