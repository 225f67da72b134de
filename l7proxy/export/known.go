package export

import "net/netip"

// most bounds what one connection remembers of interfaces at endpoints.
const most = 1024

// key is an interface at an endpoint.
type key struct {
	iface, version string
	endpoint       netip.AddrPort
}

// Known is what one connection knows of interfaces at endpoints. It outlives the
// snapshots that led it there. Its zero value knows nothing. Not safe for concurrent use.
type Known struct{ all map[key]*Export }

// Of returns what is known of a version of an interface at an endpoint.
func (k *Known) Of(iface, version string, endpoint netip.AddrPort) *Export {
	at := key{iface, version, endpoint}
	if known := k.all[at]; known != nil {
		return known
	}
	if k.all == nil || len(k.all) == most {
		k.all = make(map[key]*Export)
	}
	made := &Export{}
	k.all[at] = made
	return made
}
