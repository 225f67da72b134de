package cluster

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/cluster/original"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// dialled makes the endpoints of an ORIGINAL_DST cluster: whatever was dialled.
var dialled = original.Kind[Endpoint]{
	Make: func(addr netip.AddrPort) *Endpoint {
		return newEndpoint(addr, &snapshot.Endpoint{Address: addr, Port: addr.Port(), Weight: 1, Healthy: true}, &health{})
	},
	Busy: func(e *Endpoint) bool { return e.Active() > 0 },
}

// original returns the endpoint that was dialled, if it may be chosen.
func (s *Set) original(c *Choice) *Endpoint {
	if !c.Original.IsValid() {
		return nil
	}
	if e := s.originals.Of(c.Original, &dialled); c.admits(e) {
		return e
	}
	return nil
}
