// Package stale lists the addresses that consumers still have from their registries
// although nobody serves their requests there any more, with who asked for what, and
// how often. It decides nothing: package plan does.
package stale

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/telemetry/recent"
)

const (
	maxName       = 256 // bytes of an interface
	undecodedName = "(undecodable)"
)

// List counts requests to stale addresses. The zero value is ready. Safe for
// concurrent use.
type List struct{ recent.List[Key] }

// Key is an address that a consumer still has for an interface.
type Key struct {
	Address   netip.AddrPort
	Interface string // "" if it could not be read
	Consumer  string // namespace/name of the pod
}

// Count returns the counter of a key, one that is not listed if there is no room. It
// may be kept.
func (l *List) Count(k Key) *recent.Count {
	if k.Interface == "" {
		k.Interface = undecodedName
	}
	k.Interface = k.Interface[:min(len(k.Interface), maxName)]
	return l.List.Count(k)
}
