package learned

import (
	"slices"
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// trace writes which requests go to the proxy for their traces.
func trace(r *lane.Route, v *verdict.Verdict) {
	if v.Traced {
		r.Flags, r.Sampled = r.Flags|lane.Traced, uint32(uint64(v.Sampled)<<32/snapshot.Million)
	}
}

// binding gives the route of a name the numbers of who counts its requests: new ones, or those
// of old, the route that a proxy before this one has left for the same requests.
type binding struct {
	actives    *Actives
	way        *Way
	name       *Name
	route, old *lane.Route
}

// hold returns the number of a counter, which old has at the same place; false: there is none.
func (b *binding) hold(of counter, old uint16) (number uint16, ok bool) {
	if b.old != nil {
		number, ok = old, b.actives.adopt(uint32(old), of)
	} else {
		number = uint16(b.actives.take(of))
		ok = number != 0
	}
	if ok {
		b.name.held = append(b.name.held, uint32(number))
	}
	return number, ok
}

// bind has the programs count what is in flight to the clusters of a name that have limits, and
// to endpoints of which those with the least are taken; false: there is no room.
func (b *binding) bind() bool {
	r, old := b.route, b.old
	if old == nil {
		old = &lane.Route{}
	}
	for i := range b.name.Verdict.Shares {
		s := &b.name.Verdict.Shares[i]
		if s.Breaker != nil {
			r.Flags, r.Shares[i].Limit = r.Flags|lane.Limited, s.Limit
		}
		for e := range s.Ends {
			k, ok := slices.Index(b.way.Ends[:], s.Ends[e].Address), true
			if s.Breaker != nil && r.Bounds[k] == 0 {
				r.Bounds[k], ok = b.hold(s.Breaker, old.Bounds[k])
			}
			if of := s.Ends[e].Active; ok && s.Policy == snapshot.LeastRequest && of != nil && r.Actives[k] == 0 {
				r.Actives[k], ok = b.hold(of, old.Actives[k])
			}
			if !ok {
				return false
			}
		}
		if !b.compare(i, old) {
			return false
		}
	}
	for k := range lane.Ends {
		b.name.bounds[k], b.name.actives[k] = uint32(r.Bounds[k]), uint32(r.Actives[k])
	}
	return true
}

// compare gives the candidates of a share the numbers of who counts what they have in flight.
func (b *binding) compare(share int, old *lane.Route) bool {
	s, first := &b.name.Verdict.Shares[share], int(b.route.Shares[share].First)
	for i := range candidates(&b.route.Shares[share]) {
		c := &b.route.Candidates[first+i]
		if c.End < lane.Ends {
			c.Active = b.route.Actives[c.End]
			continue
		}
		of, ok := s.Elsewhere[i-len(s.Ends)].Active, true
		if of != nil && c.Weight > 0 {
			c.Active, ok = b.hold(of, old.Candidates[first+i].Active)
		}
		if !ok {
			return false
		}
	}
	return true
}

// unbind undoes bind, when no program counts for the name any more.
func (b *Book) unbind(n *Name) {
	for _, number := range n.held {
		b.actives.give(number)
	}
	n.held = nil
}

// keep is bind for a route of a proxy before this one, whose requests in flight are counted by
// its numbers: they are nobody else's meanwhile.
func (b *Book) keep(n *Name, r *lane.Route) {
	for number := range counted(r) {
		if b.actives.keep(number) {
			n.held = append(n.held, number)
		}
	}
	for k := range lane.Ends {
		n.bounds[k], n.actives[k] = b.held(n, r.Bounds[k]), b.held(n, r.Actives[k])
	}
}

// held is a number that the name has; 0: it is another's.
func (b *Book) held(n *Name, number uint16) uint32 {
	if slices.Contains(n.held, uint32(number)) {
		return uint32(number)
	}
	return 0
}

// Left says that a request of the name to one of its ends was taken out of flight by the
// proxy: the programs have counted it.
func (n *Name) Left(active []uint64, end uint32) {
	for _, number := range [...]uint32{n.bounds[end], n.actives[end]} {
		if number != 0 {
			atomic.AddUint64(&active[number], ^uint64(0))
		}
	}
}

// Gone says that a request was taken out of flight of which nobody will hear.
func (b *Book) Gone(f lane.Flight) {
	if n := b.names[f.Route]; n != nil && f.End < lane.Ends {
		n.Left(b.Memory.Active, f.End)
	}
}

// Close ends the use of the memory but for what is in flight.
func (b *Book) Close() {
	for _, w := range b.ways {
		b.Forget(w)
	}
	b.actives.close()
}
