package learned

import (
	"slices"
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// trace writes which requests go to the proxy for their traces.
func trace(r *lane.Route, v *verdict.Verdict) {
	if v.Traced {
		r.Flags, r.Sampled = r.Flags|lane.Traced, uint32(uint64(v.Sampled)<<32/snapshot.Million)
	}
}

// Target is the target that was drawn for a request; 0: its names are not known any more.
func (b *Book) Target(key Key, a *Asked, d lane.Drawn) int {
	number, led := d.Share()
	n := b.Of(key).in(a.Header)[string(a.names())]
	if !led || n == nil || !n.Placed || number >= len(n.Verdict.Shares) {
		return 0
	}
	return n.Verdict.Shares[number].Target
}

// bind has the programs count what is in flight to the clusters of a name that have limits;
// false: there is no room.
func (b *Book) bind(n *Name, r *lane.Route) bool {
	for i := range n.Verdict.Shares {
		s := &n.Verdict.Shares[i]
		if s.Breaker == nil {
			continue
		}
		r.Flags, r.Shares[i].Limit = r.Flags|lane.Limited, s.Limit
		for k, e := range n.Edges {
			if e == nil || n.bounds[k] != 0 || !slices.ContainsFunc(s.Ends, func(end verdict.End) bool { return end.Edge == e }) {
				continue
			}
			number := b.Actives.bind(s.Breaker)
			if number == 0 {
				b.unbind(n)
				return false
			}
			s.Breaker.Share(&b.Memory.Active[number])
			n.bounds[k], r.Bounds[k] = number, uint16(number)
		}
	}
	return true
}

// unbind undoes bind, when no program counts for the name any more.
func (b *Book) unbind(n *Name) {
	for k, number := range n.bounds {
		if number != 0 {
			b.Actives.unbind(number, &b.Memory.Active[number])
			n.bounds[k] = 0
		}
	}
}

// keep is bind for a route of a proxy before this one, whose requests in flight are counted by its
// bounds: they are nobody else's meanwhile.
func (b *Book) keep(n *Name, r *lane.Route) {
	for k, number := range r.Bounds {
		number := uint32(number)
		if number == 0 || int(number) >= len(b.Actives.users) {
			continue
		}
		if of, kept := b.Actives.breakers[number]; b.Actives.users[number] == 0 || kept && of == nil {
			b.Actives.users[number]++
			b.Actives.breakers[number] = nil
			n.bounds[k] = number
		}
	}
}

// Left says that a request of the name to one of its ends was taken out of flight by the
// proxy: the programs have counted it.
func (n *Name) Left(active []uint64, end uint32) {
	if number := n.bounds[end]; number != 0 {
		atomic.AddUint64(&active[number], ^uint64(0))
	}
}

// Close ends the use of the memory but for what is in flight.
func (b *Book) Close() {
	for _, w := range b.ways {
		b.Forget(w)
	}
	for number, of := range b.Actives.breakers {
		if of != nil {
			of.Unshare(&b.Memory.Active[number])
		}
	}
	clear(b.Actives.breakers)
}

// bind returns the number of a breaker, until as many unbind; 0: there is none left.
func (a *Actives) bind(of *breaker.Breaker) uint32 {
	for number, other := range a.breakers {
		if other == of {
			a.users[number]++
			return number
		}
	}
	for number := 1; number < len(a.users); number++ {
		if a.users[number] == 0 {
			a.users[number], a.breakers[uint32(number)] = 1, of
			return uint32(number)
		}
	}
	return 0
}

// unbind gives the number back of a breaker, whose bound is at it.
func (a *Actives) unbind(number uint32, bound *uint64) {
	if a.users[number]--; a.users[number] > 0 {
		return
	}
	if of := a.breakers[number]; of != nil {
		of.Unshare(bound)
	}
	delete(a.breakers, number)
	atomic.StoreUint64(bound, 0)
}
