package router

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/cluster"
)

// Lead is what somebody has drawn for a request before it is routed. The zero value is nothing.
type Lead struct {
	Span     bool           // it is to have a span, unless it says otherwise itself
	Target   int            // of its route, from 1 on; 0: any
	Endpoint netip.AddrPort // of the target, if that may be chosen; the zero value: any
}

// Again is Lead for a request that is routed once more.
func (l *Lead) Again() Lead { return Lead{Span: l.Span} }

// Pick chooses in the target: the endpoint that was drawn, unless it is avoided, or is no more
// among whom the Set chooses; and where the choice excludes some, as if none was.
func (l *Lead) Pick(set *cluster.Set, c cluster.Choice) (*cluster.Endpoint, error) {
	if c.Exclude != nil || !l.Endpoint.IsValid() {
		return set.Pick(c)
	}
	if e := set.At(l.Endpoint, c.Subset); e != nil {
		return e, nil
	}
	if e := l.unfit(set, c); e != nil {
		return e, nil
	}
	return set.Pick(c)
}

// unfit is the endpoint that was drawn although it is not fit: in panic such are chosen too.
func (l *Lead) unfit(set *cluster.Set, c cluster.Choice) *cluster.Endpoint {
	to := l.Endpoint
	if set.Avoids(to) {
		return nil // to look for it would take the others' turns
	}
	c.Exclude = func(a netip.AddrPort) bool { return a != to }
	e, _ := set.Pick(c) // nil: it is gone
	return e
}
