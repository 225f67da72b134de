package learned

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/cluster/wheel"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Key is what the requests of the same names must have in common to be treated alike.
type Key struct {
	Workload string // UID of the consumer
	Original netip.AddrPort
}

// Lane is one of a way.
type Lane interface {
	// Nudge says that the way's names are others. It must not wait.
	Nudge()
	// Has tells whether the lane has a connection with a number.
	Has(end int) bool
}

// Way is what was learned of the requests of a workload to a destination.
type Way struct {
	Key    Key
	Class  uint32
	Lanes  map[Lane]bool
	Ends   [lane.Ends]netip.AddrPort // of every lane, by number; the zero value: free
	Wanted uint32                    // the ends that names lead to, a bit for each
	Timed  time.Duration             // the longest time limit that a name ever had; 0: none

	names   [2]map[string]*Name // by names as they are on the wire; of hessian2, of fastjson2
	idle    time.Time           // since when it has no lanes; zero: it has
	refused map[netip.AddrPort]time.Time
}

// Name is one method, and what becomes of its requests.
type Name struct {
	Path, Version, Method string
	Serialization         byte
	Verdict               verdict.Verdict
	Placed                bool                      // it has a route
	Edges                 [lane.Ends]*upstream.Edge // by the numbers of ends

	rest   *upstream.Edge // of a proxy's before this one: of what was sent to other ends
	asked  time.Time
	until  time.Time // when it is asked again; zero: while its verdict stands
	place  uint32
	ends   uint32
	series []uint32
	held   []uint32 // numbers of Actives
	wheels [lane.Shares]*wheel.Wheel

	bounds, actives [lane.Ends]uint32 // as of the route
}

func newName(a *Asked, v *verdict.Verdict) *Name {
	n := &Name{
		Path: strings.Clone(a.Prefix.Path), Version: strings.Clone(a.Prefix.Version), Method: strings.Clone(a.Prefix.Method),
		Serialization: a.Header.Serialization(), Verdict: *v, asked: a.Now,
	}
	n.Verdict.Shares = slices.Clone(v.Shares)
	return n
}

// drop gives the series of a name back.
func (n *Name) drop(s Series) {
	for _, number := range n.series {
		s.Drop(number)
	}
	n.series = nil
}

// Of finds or makes the way of a key.
func (b *Book) Of(key Key) *Way {
	w := b.ways[key]
	if w == nil {
		b.class++
		w = &Way{Key: key, Class: b.class, Lanes: make(map[Lane]bool), refused: make(map[netip.AddrPort]time.Time)}
		for i := range w.names {
			w.names[i] = make(map[string]*Name)
		}
		b.ways[key] = w
	}
	return w
}

// place makes the route of a name.
func (b *Book) place(w *Way, n *Name, a *Asked) verdict.Reason {
	var r lane.Route
	if !walkable(n.Serialization, a.names()) {
		return verdict.Undecodable
	}
	if r.Name(w.Class, n.Serialization, a.names()) != nil {
		return verdict.LongNames
	}
	if why := w.number(n); why != verdict.Lane {
		return why
	}
	if !fill(&r, n.Verdict.Shares, w.Ends[:]) || !b.count(n, &r) {
		return verdict.TooMany
	}
	trace(&r, &n.Verdict)
	place, found, ok := b.Memory.Find(&r, func(place uint32) bool { return b.names[place] != nil })
	of := binding{actives: &b.actives, way: w, name: n, route: &r}
	if !ok || found || !of.bind() {
		n.drop(b.series)
		b.unbind(n)
		return verdict.TooMany
	}
	n.place, n.Placed = place, true
	b.names[place] = n
	w.Timed = max(w.Timed, n.Verdict.Timeout)
	w.reckon()
	b.Memory.Put(place, &r)
	return verdict.Lane
}

// count gives the ends of a name their series; false: there is no room.
func (b *Book) count(n *Name, r *lane.Route) bool {
	for k, e := range n.Edges {
		if e == nil {
			continue
		}
		series, ok := b.series.Put(e.SameNode, n.Serialization, n.Verdict.Ended(e))
		if !ok {
			n.drop(b.series)
			return false
		}
		r.Series[k] = series
		n.series = append(n.series, series)
	}
	return true
}

// number gives the ends of a name their numbers.
func (w *Way) number(n *Name) verdict.Reason {
	if !w.spare(n) {
		return verdict.Remote
	}
	for _, s := range n.Verdict.Shares {
		for _, e := range s.Ends {
			k := w.end(e.Address, n.ends)
			if k < 0 {
				return verdict.TooMany
			}
			w.Ends[k] = e.Address
			n.Edges[k] = e.Edge
			n.ends |= 1 << k
		}
	}
	return verdict.Lane
}

// end finds the number of an address, or a free one; -1: there is none. Taken are those of
// the same name.
func (w *Way) end(addr netip.AddrPort, taken uint32) int {
	if k := slices.Index(w.Ends[:], addr); k >= 0 {
		return k
	}
	if k := slices.Index(w.Ends[:], netip.AddrPort{}); k >= 0 {
		return k
	}
	for k := range w.Ends {
		if (taken|w.Wanted)&(1<<k) == 0 && !w.has(k) {
			return k
		}
	}
	return -1
}

// has tells whether a lane has a connection with a number.
func (w *Way) has(k int) bool {
	for l := range w.Lanes {
		if l.Has(k) {
			return true
		}
	}
	return false
}

// reckon sums up what the names need.
func (w *Way) reckon() {
	w.Wanted = 0
	for n := range w.Names() {
		if n.Placed {
			w.Wanted |= n.ends
		}
	}
}

// drop takes a name out.
func (w *Way) drop(n *Name) {
	for _, names := range w.names {
		maps.DeleteFunc(names, func(_ string, known *Name) bool { return known == n })
	}
	w.reckon()
}

func (w *Way) nudge() {
	for l := range w.Lanes {
		l.Nudge()
	}
}

// in finds the names in a frame's serialization.
func (w *Way) in(h codec.Header) map[string]*Name {
	if h.Serialization() == lane.Fastjson2 {
		return w.names[1]
	}
	return w.names[0]
}

// Names lists the names. They may be removed meanwhile.
func (w *Way) Names() iter.Seq[*Name] {
	return func(yield func(*Name) bool) {
		for _, names := range w.names {
			for _, n := range names {
				if !yield(n) {
					return
				}
			}
		}
	}
}
