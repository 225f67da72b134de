// Package learned remembers which names consumers of this node call and whether the kernel
// may route them, and has a route in the lane's memory for each that it may. It asks no
// verdict and opens no lane.
package learned

import (
	"net/netip"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// The bounds of what is learned.
const (
	maxNames    = 512         // of one way, in one serialization
	askAgain    = time.Second // after a name was left to the proxy
	forgetAfter = time.Minute // where there is no lane
)

// Series numbers the ways of calls that the programs count.
type Series interface {
	// Put returns the series of the calls of one way, until Drop; false: there is no room. Ended,
	// unless nil, is told how many more of them were answered in the lane; it must not wait.
	Put(call *rpc.Call, serialization uint8, ended func(calls uint64)) (series uint32, ok bool)
	Drop(series uint32)
	// Adopt is Put of a series that a proxy before this one gave; false: it is gone.
	Adopt(series uint32, call *rpc.Call, serialization uint8, ended func(calls uint64)) bool
}

// Book is what was learned for the lanes of one memory. Its caller locks, all of what it
// gives too.
type Book struct {
	Memory *lane.Memory
	// Stands is (*verdict.Verdict).Stands, but for tests.
	Stands func(v *verdict.Verdict) bool

	series  Series
	actives Actives
	ways    map[Key]*Way
	names   map[uint32]*Name // by their routes' places, those that rest too
	rests   []*Name          // whose routes are removed, and maybe used still
	class   uint32           // given last
}

// New returns a Book of which nothing is written, for a memory without routes.
func New(m *lane.Memory, s Series) *Book {
	return &Book{
		Memory: m, actives: newActives(m), series: s,
		Stands: (*verdict.Verdict).Stands, ways: make(map[Key]*Way), names: make(map[uint32]*Name),
	}
}

// Asked is a request whose names may be learned.
type Asked struct {
	Header codec.Header
	Body   []byte
	Prefix codec.Prefix // of Body, read to its end
	Now    time.Time
}

// names are the request's, as they are on the wire.
func (a *Asked) names() []byte { return a.Body[:a.Prefix.End] }

// Known tells whether the names of a request are learned, and then whether its like may
// take a lane.
func (b *Book) Known(key Key, a *Asked) (placed, known bool) {
	n := b.Of(key).in(a.Header)[string(a.names())]
	if n == nil || !n.Placed && !a.Now.Before(n.until) {
		return false, false
	}
	return n.Placed, true
}

// Learn writes down what becomes of requests with the names of one. It tells whether they
// may take a lane: then there is a route for them. Tapped says that none may now.
func (b *Book) Learn(key Key, a *Asked, v *verdict.Verdict, tapped bool) bool {
	w := b.Of(key)
	names := w.in(a.Header)
	n := names[string(a.names())]
	if n != nil && n.Placed {
		return true // another connection was faster
	}
	if len(names) >= maxNames && n == nil {
		return false
	}
	n = newName(a, v)
	names[string(a.names())] = n
	if v.Reason == verdict.Lane {
		n.Verdict.Reason = b.place(w, n, a)
	}
	if !n.Placed {
		n.until = a.Now.Add(askAgain)
	}
	// Behind place: whoever changes the configuration looks at the names afterwards.
	if n.Placed && (tapped || !b.Stands(&n.Verdict)) {
		b.remove(w, n)
	}
	if n.Placed {
		w.nudge()
	}
	return n.Placed
}

// Name returns whose the route at a place is, or was until nobody could use it any more.
func (b *Book) Name(place uint32) *Name { return b.names[place] }

// Limits are the time limits of names, in ns, by place.
func (b *Book) Limits() map[uint32]uint64 {
	limits := make(map[uint32]uint64)
	for place, n := range b.names {
		if n.Verdict.Timeout > 0 {
			limits[place] = uint64(n.Verdict.Timeout)
		}
	}
	return limits
}

// Ways lists the ways, and the names of each.
func (b *Book) Ways() map[Key]*Way { return b.ways }

// Look leaves names to the proxy whose verdicts do not stand any more, or that are to be asked
// again: all of them while somebody taps.
func (b *Book) Look(now time.Time, tapped bool) {
	for _, w := range b.ways {
		for n := range w.Names() {
			if n.Placed && (tapped || !n.until.IsZero() && !now.Before(n.until) || !b.Stands(&n.Verdict)) {
				b.remove(w, n)
			}
		}
	}
}

// Forget leaves everything of a way to the proxy.
func (b *Book) Forget(w *Way) {
	for n := range w.Names() {
		if n.Placed {
			b.remove(w, n)
		}
	}
}

// Tidy forgets the ways that nobody uses.
func (b *Book) Tidy(now time.Time) {
	for key, w := range b.ways {
		switch {
		case len(w.Lanes) > 0:
			w.idle = time.Time{}
		case w.idle.IsZero():
			w.idle = now
		case now.Sub(w.idle) > forgetAfter:
			b.Forget(w)
			delete(b.ways, key)
		}
	}
}

// Refuse leaves the names that lead to an endpoint to the proxy until a time.
func (b *Book) Refuse(w *Way, endpoint netip.AddrPort, until time.Time) {
	w.refused[endpoint] = until
	for k, a := range w.Ends {
		if a != endpoint {
			continue
		}
		for n := range w.Names() {
			if n.Placed && n.ends&(1<<k) != 0 {
				b.remove(w, n)
			}
		}
	}
}

// remove leaves a name to the proxy.
func (b *Book) remove(w *Way, n *Name) {
	b.Memory.Remove(n.place)
	n.Placed = false
	b.rests = append(b.rests, n)
	w.drop(n)
	w.nudge()
}

// Rest returns the names whose routes were removed, until Rested.
func (b *Book) Rest() []*Name {
	resting := b.rests
	b.rests = nil
	return resting
}

// Rested gives the places of removed routes back, which no program can be at any more, but
// for those that are used still: by requests in flight.
func (b *Book) Rested(resting []*Name, used func(place uint32) bool) {
	for _, n := range resting {
		if used(n.place) {
			b.rests = append(b.rests, n)
			continue
		}
		delete(b.names, n.place)
		n.drop(b.series)
		b.unbind(n)
	}
}
