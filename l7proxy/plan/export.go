package plan

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/export"
)

// maxExports bounds what one connection remembers of interfaces at endpoints.
const maxExports = 1024

// exportKey is an interface at an endpoint.
type exportKey struct {
	iface, version string
	endpoint       netip.AddrPort
}

// export returns what is known of a plan's interface at an endpoint. It outlives
// the plans, which go with each snapshot.
func (p *Planner) export(pl *plan, endpoint netip.AddrPort) *export.Export {
	k := exportKey{pl.iface, pl.version, endpoint}
	if known := p.exports[k]; known != nil {
		return known
	}
	if p.exports == nil || len(p.exports) == maxExports {
		p.exports = make(map[exportKey]*export.Export)
	}
	made := &export.Export{}
	p.exports[k] = made
	return made
}
