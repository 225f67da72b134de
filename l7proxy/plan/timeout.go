package plan

import (
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/recent"
)

// inversion is what a plan remembers of a consumer that waits for less than its route
// allows.
type inversion struct {
	route *snapshot.Route
	waits time.Duration
	count *recent.Count
}

// invert counts a request whose consumer does.
func (p *Planner) invert(pl *plan, route *snapshot.Route, waits time.Duration) {
	if i := &pl.inverted; i.route != route || i.waits != waits {
		name := route.Name
		if name == "" {
			name = route.Origin
		}
		w := p.source.Workload
		*i = inversion{route: route, waits: waits, count: p.env.Inverted.Count(inverted.Key{
			Consumer: w.Namespace + "/" + w.Name, Interface: pl.iface, Method: pl.method, Route: name,
			Allows: route.Action.Timeout, Waits: waits,
		})}
	}
	pl.inverted.count.Add()
}
