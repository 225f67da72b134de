// Package destinations lists what of a snapshot the agent is asked to steer.
package destinations

import (
	"net/netip"
	"slices"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Destination is what the agent is asked to steer: connections to the
// addresses of Prefix, at Port or, when it is 0, at every port.
type Destination struct {
	Prefix netip.Prefix
	Port   uint16
	Lane   bool // requests are read there, so that they may take a lane
}

// Of lists what the listeners of a snapshot are for, without duplicates, ordered by
// prefix and port. A prefix inside the loopback range is never listed: what a
// pod says to itself is its own. (A wider range, such as 0.0.0.0/0, does cover
// loopback; the datapath leaves that out.)
func Of(s *snapshot.Snapshot) []Destination {
	list := make([]Destination, 0, len(s.Listeners))
	for _, l := range s.Listeners {
		p := l.Prefix.Masked()
		if isLoopback(p) {
			continue
		}
		list = append(list, Destination{Prefix: p, Port: l.Port, Lane: l.RouteName != ""})
	}
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b Destination) bool { return a.Prefix == b.Prefix && a.Port == b.Port })
}

// isLoopback tells whether all of p is loopback: 127.0.0.0/8 or ::1.
func isLoopback(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() >= 8 && p.Addr().IsLoopback()
	}
	return p.IsSingleIP() && p.Addr().IsLoopback()
}

func compare(a, b Destination) int {
	if d := a.Prefix.Addr().Compare(b.Prefix.Addr()); d != 0 {
		return d
	}
	if d := a.Prefix.Bits() - b.Prefix.Bits(); d != 0 {
		return d
	}
	if d := int(a.Port) - int(b.Port); d != 0 || a.Lane == b.Lane {
		return d
	}
	if a.Lane { // it stands for both
		return -1
	}
	return 1
}
