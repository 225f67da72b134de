package plan

import (
	"cmp"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
)

// invert counts a request whose consumer waits for less than its route allows.
func (p *Planner) invert(pl *plan, route *snapshot.Route, waits time.Duration) {
	if i := &pl.inverted; !i.Is(route, waits) {
		w := p.source.Workload
		i.Keep(route, waits, p.env.Inverted.Count(inverted.Key{
			Consumer: w.Namespace + "/" + w.Name, Interface: pl.iface, Method: pl.method, Route: cmp.Or(route.Name, route.Origin),
			Allows: route.Action.Timeout, Waits: waits,
		}))
	}
	pl.inverted.Add()
}
