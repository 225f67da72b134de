package learned

import (
	"math/rand/v2"
	"slices"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/cluster/wheel"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Drawn is what was drawn for a request; its names may be known no more.
func (b *Book) Drawn(key Key, a *Asked, d lane.Drawn) (to router.Lead) {
	to.Span = d.Span()
	number, led := d.Share()
	w := b.ways[key]
	if !led || w == nil {
		return to
	}
	n := w.in(a.Header)[string(a.names())]
	if n == nil || !n.Placed || number >= len(n.Verdict.Shares) {
		return to
	}
	s := &n.Verdict.Shares[number]
	to.Target = s.Target
	if k, ok := d.End(); ok && k < lane.Ends && n.ends&(1<<k) != 0 {
		to.Endpoint = w.Ends[k]
	}
	i, there := d.There()
	switch i -= len(s.Ends); {
	case !there || len(s.Elsewhere) == 0:
	case i+len(s.Ends) == lane.Anybody:
		to.Endpoint = s.Elsewhere[n.deal(number)].Address
	case i >= 0 && i < len(s.Elsewhere):
		to.Endpoint = s.Elsewhere[i].Address
	}
	return to
}

// deal chooses among the endpoints elsewhere of a share, in turn or at random.
func (n *Name) deal(share int) int {
	s := &n.Verdict.Shares[share]
	if n.wheels[share] == nil {
		n.wheels[share] = wheel.New(len(s.Elsewhere), func(i int) uint64 { return uint64(s.Elsewhere[i].Weight) })
	}
	if s.Policy == snapshot.Random {
		return n.wheels[share].At(rand.Uint64())
	}
	return n.wheels[share].Next()
}

// spare makes of ends that lanes cannot have at present endpoints that are elsewhere, and of the
// ends that are left the name's. False: there are none.
func (w *Way) spare(n *Name) bool {
	here := false
	for i := range n.Verdict.Shares {
		s := &n.Verdict.Shares[i]
		var ends []verdict.End
		for _, e := range s.Ends {
			until := w.refused[e.Address]
			if !n.asked.Before(until) {
				ends, here = append(ends, e), true
				continue
			}
			if n.until.IsZero() || until.Before(n.until) {
				n.until = until
			}
			e.Edge = nil
			s.Elsewhere = append(slices.Clip(s.Elsewhere), e)
		}
		s.Ends = ends
	}
	return here
}

// Here is the part of the requests with the names of one that is for ends of lanes, by weight; 0:
// they are left to the proxy.
func (b *Book) Here(key Key, a *Asked) float64 {
	n := b.Of(key).in(a.Header)[string(a.names())]
	if n == nil || !n.Placed {
		return 0
	}
	var here, all float64
	for i := range n.Verdict.Shares {
		s := &n.Verdict.Shares[i]
		all += float64(s.Weight)
		if len(s.Ends) > 0 {
			here += float64(s.Weight) * (1 - float64(beyond(s))/(1<<32))
		}
	}
	return here / all
}
