package router

import (
	"net/netip"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Dialled is what the address that a connection's consumer dialled is to the
// snapshots of its time: a service's, or a provider's own (docs/xds.md, "Who chooses
// the endpoint"). Its fields and Look are of the connection's reader alone; Served
// may be called by any goroutine.
type Dialled struct {
	Address netip.AddrPort
	Own     bool // a provider's own
	Live    bool // an endpoint now

	was    bool                   // it has been an endpoint in the connection's time
	named  bool                   // a listener or a domain names it
	routes atomic.Pointer[string] // the route configuration that it came by
}

// Look finds out what the address is in a snapshot, and returns its listener. The
// listener of a provider may go with it while its service, and the connection, live
// on: then its routes are returned as one, as long as they are there.
func (d *Dialled) Look(s *snapshot.Snapshot) *snapshot.Listener {
	d.Live = s.IsEndpoint(d.Address)
	d.was = d.was || d.Live
	l := s.Listener(d.Address)
	if l != nil {
		d.named = s.Names(d.Address)
	}
	d.Own = d.was || !d.named
	if d.Own && l != nil {
		d.remember(l)
	} else if rc := d.remembered(s); l == nil && d.was && rc != nil {
		return &snapshot.Listener{Name: rc.Name, RouteName: rc.Name, Route: rc}
	}
	return l
}

// Binds tells whether the connection lives and dies with the address: it is a
// provider's own, and where it is no endpoint, no route leads to another one. It is
// asked before Look.
func (d *Dialled) Binds(s *snapshot.Snapshot) bool {
	if !s.IsOwn(d.Address) {
		return false
	}
	if l := s.Listener(d.Address); l != nil {
		d.remember(l)
	}
	return s.IsEndpoint(d.Address) || !d.Served(s)
}

// Served tells whether requests can be served although nobody is at the address: it
// is no endpoint, and its routes lead to one.
func (d *Dialled) Served(s *snapshot.Snapshot) bool {
	if s.IsEndpoint(d.Address) {
		return false
	}
	if l := s.Listener(d.Address); l != nil {
		return s.Live(l.Route)
	}
	return s.Live(d.remembered(s))
}

// Gone tells whether it was an endpoint and is none any more.
func (d *Dialled) Gone() bool { return d.was && !d.Live }

// Stale tells whether a request to c should not have come to the address: it is no
// endpoint of c's service. An endpoint that the configuration names, and leads
// elsewhere from, is not stale, unless Rightful corrected where to.
func (d *Dialled) Stale(s *snapshot.Snapshot, c *snapshot.Cluster, corrected bool) bool {
	if !d.Own || c.Dials() || s.Serves(d.Address, c) {
		return false
	}
	return corrected || !d.named || !d.Live
}

// remember keeps the name of a listener's routes: not the listener, which would keep
// a whole snapshot.
func (d *Dialled) remember(l *snapshot.Listener) {
	if old := d.routes.Load(); old == nil || *old != l.RouteName {
		name := l.RouteName
		d.routes.Store(&name)
	}
}

func (d *Dialled) remembered(s *snapshot.Snapshot) *snapshot.RouteConfig {
	if name := d.routes.Load(); name != nil {
		return s.Routes[*name]
	}
	return nil
}
