package learned

import (
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/left"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// After says that classes up to one were given by a proxy before this one.
func (b *Book) After(class uint32) { b.class = max(b.class, class) }

// Left is Of for a lane that a proxy before this one has left, whose routes are of a class.
func (b *Book) Left(key Key, class uint32) *Way {
	if w := b.ways[key]; w != nil {
		return w
	}
	w := b.Of(key)
	w.Class = class
	return w
}

// Found is a route that a proxy before this one has left.
type Found struct {
	Place   uint32
	Asked   Asked // like its requests
	Verdict verdict.Verdict
	// Rest is the way of requests in flight that went to ends which the verdict does not know.
	Rest *upstream.Edge
}

// Own makes a name of a route that was left: it stays if it is what would be made now, and
// calls that are counted by it are the name's. Tapped is as of Learn.
func (b *Book) Own(w *Way, f *Found, tapped bool) {
	if b.names[f.Place] != nil {
		return // another connection was faster
	}
	place, a, v := f.Place, &f.Asked, &f.Verdict
	old, n := &b.Memory.Routes[place], newName(a, v)
	n.place, n.rest = place, f.Rest
	b.names[place] = n
	same := v.Reason == verdict.Lane && atomic.LoadUint64(&old.Hash) != 0 && w.Class == old.Class &&
		w.number(n) == verdict.Lane
	if same {
		var r lane.Route
		trace(&r, &n.Verdict)
		of := binding{actives: &b.actives, way: w, name: n, route: &r, old: old}
		same = fill(&r, n.Verdict.Shares, w.Ends[:]) && of.bind() && left.Same(&r, old)
	}
	b.keep(n, old)
	for k, series := range old.Series {
		e := n.Edge(uint32(k))
		switch {
		case series == 0 || e == nil:
		case b.series.Adopt(series, e.SameNode, n.Serialization, n.Verdict.Ended(e)):
			n.series = append(n.series, series)
		default:
			same = false
		}
	}
	names := w.in(a.Header)
	if names[string(a.names())] != nil {
		same = false // it was learned of a new connection
	} else {
		names[string(a.names())] = n
	}
	n.Placed = true
	w.Timed = max(w.Timed, n.Verdict.Timeout)
	w.reckon()
	if !same || tapped || !b.Stands(&n.Verdict) {
		b.remove(w, n)
	}
}

// Settle removes the routes that a proxy before this one has left and that are nobody's.
func (b *Book) Settle() {
	for place := range uint32(len(b.Memory.Routes)) {
		if atomic.LoadUint64(&b.Memory.Routes[place].Hash) != 0 && b.names[place] == nil {
			n := &Name{place: place}
			b.names[place] = n
			b.keep(n, &b.Memory.Routes[place])
			b.Memory.Remove(place)
			b.rests = append(b.rests, n)
		}
	}
}

// Settled says that nothing is in flight any more of lanes that a proxy before this one has left
// and that are nobody's.
func (b *Book) Settled() { b.actives.settle() }

// Edge is the way of what was sent to an end; nil: there is none.
func (n *Name) Edge(k uint32) *upstream.Edge {
	switch {
	case k >= lane.Ends:
		return nil
	case n.Edges[k] != nil:
		return n.Edges[k]
	}
	return n.rest
}
