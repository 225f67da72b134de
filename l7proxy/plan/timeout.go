package plan

import (
	"math"
	"strconv"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/recent"
)

// The attachments in which a consumer says how long it waits, in milliseconds: for
// this call, and what is left of the time of the call that it serves itself
// (RpcUtils and TimeoutCountDown of Dubbo Java; Java sends the first with each call).
const (
	timeoutAttachment   = "timeout"
	countdownAttachment = "timeout-countdown"
)

// callersLimit returns how long the consumer of the opened request waits.
func (p *Planner) callersLimit() time.Duration {
	limit := time.Duration(math.MaxInt64)
	for _, name := range [...]string{timeoutAttachment, countdownAttachment} {
		text, ok, err := p.body.Lookup(name)
		if err != nil || !ok {
			continue
		}
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && n > 0 {
			limit = min(limit, time.Duration(n)*time.Millisecond)
		}
	}
	return limit
}

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
