package lane

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// The bounds of what is learned.
const (
	maxNames  = 512             // of one way
	askAgain  = time.Second     // after a name was left to the proxy
	shortcut  = 5 * time.Second // after a provider could not be reached
	misbehave = 10 * time.Minute
)

// wayKey is what the requests of the same names must have in common to be treated alike.
type wayKey struct {
	workload string
	original netip.AddrPort
}

// way is what was learned of the requests of a workload to a destination. Lanes.mu guards it.
type way struct {
	key     wayKey
	class   uint32
	names   [2]map[string]*name // by names as they are on the wire; of hessian2, of fastjson2
	lanes   map[*Lane]bool
	idle    time.Time                 // since when it has no lanes; zero: it has
	ends    [lane.Ends]netip.AddrPort // by number; the zero value: free
	wanted  uint32                    // the ends that names lead to, a bit for each
	refused map[netip.AddrPort]time.Time
	timed   time.Duration // the longest time limit of a name
}

// name is one method, and what becomes of its requests.
type name struct {
	verdict       verdict.Verdict
	until         time.Time // when it is asked again; of one that is left to the proxy
	serialization byte
	placed        bool // it has a route
	place         uint32
	counts        bool // lane.CountsActive
	ends          uint32
	edges         [lane.Ends]*upstream.Edge
	series        []uint32

	path, version, method string
}

// asked is a request whose names may be learned.
type asked struct {
	plans  Planner
	header codec.Header
	body   []byte
	prefix codec.Prefix
}

// names are the request's, as they are on the wire.
func (a *asked) names() []byte { return a.body[:a.prefix.End] }

// of finds or makes the way of a key. The caller locks.
func (ls *Lanes) of(key wayKey) *way {
	w := ls.ways[key]
	if w == nil {
		ls.class++
		w = &way{key: key, class: ls.class, lanes: make(map[*Lane]bool), refused: make(map[netip.AddrPort]time.Time)}
		for i := range w.names {
			w.names[i] = make(map[string]*name)
		}
		ls.ways[key] = w
	}
	return w
}

// learn finds what becomes of requests like one that came by the proxy, and makes a route
// for them if it is new. It tells whether they may take a lane.
func (ls *Lanes) learn(key wayKey, a *asked, now time.Time) bool {
	ls.mu.Lock()
	n := ls.of(key).in(a.header)[string(a.names())]
	ls.mu.Unlock()
	if n != nil && (n.placed || now.Before(n.until)) {
		return n.placed
	}
	v := a.plans.Lane(a.header, a.body)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	w := ls.of(key)
	names := w.in(a.header)
	if n = names[string(a.names())]; n != nil && n.placed {
		return true // another connection was faster
	}
	if len(names) >= maxNames && n == nil || !ls.On() {
		return false
	}
	n = &name{
		verdict: v, until: now.Add(askAgain), serialization: a.header.Serialization(),
		path: strings.Clone(a.prefix.Path), version: strings.Clone(a.prefix.Version), method: strings.Clone(a.prefix.Method),
	}
	names[string(a.names())] = n
	if v.Reason == verdict.Lane {
		n.verdict.Reason = ls.place(w, n, a.names(), now)
	}
	// Behind place: whoever changes the configuration looks at the names afterwards.
	if n.placed && (ls.tapped() || !n.verdict.Stands()) {
		ls.remove(w, n)
	}
	if n.placed {
		for l := range w.lanes {
			l.nudge()
		}
	}
	return n.placed
}

// place makes the route of a name. The caller locks.
func (ls *Lanes) place(w *way, n *name, names []byte, now time.Time) verdict.Reason {
	var r lane.Route
	if !walkable(n.serialization, names) {
		return verdict.Undecodable
	}
	if r.Name(w.class, n.serialization, names) != nil {
		return verdict.LongNames
	}
	numbers := make(map[netip.AddrPort]uint8)
	for _, s := range n.verdict.Shares {
		for _, e := range s.Ends {
			if now.Before(w.refused[e.Address]) {
				return verdict.Remote
			}
			k, ok := w.number(e.Address, n.ends)
			if !ok {
				return verdict.TooMany
			}
			numbers[e.Address] = k
			n.edges[k] = e.Edge
			n.ends |= 1 << k
		}
	}
	if !fill(&r, n.verdict.Shares, numbers) {
		return verdict.TooMany
	}
	for k, e := range n.edges {
		if e == nil {
			continue
		}
		series, ok := ls.opts.Tally.Put(e.SameNode, n.serialization)
		if !ok {
			n.drop(ls.opts.Tally)
			return verdict.TooMany
		}
		r.Series[k] = series
		n.series = append(n.series, series)
	}
	b := ls.book
	place, found, ok := b.memory.Find(&r, func(place uint32) bool { return b.names[place] != nil })
	if !ok || found {
		n.drop(ls.opts.Tally)
		return verdict.TooMany
	}
	n.place, n.placed, n.counts = place, true, r.Flags&lane.CountsActive != 0
	b.names[place] = n
	w.reckon()
	b.memory.Put(place, &r)
	return verdict.Lane
}

// number gives an address its number among the ends of lanes; false: there are as many as
// may be. Taken are those of the same name.
func (w *way) number(addr netip.AddrPort, taken uint32) (uint8, bool) {
	if k := slices.Index(w.ends[:], addr); k >= 0 {
		return uint8(k), true
	}
	free := slices.IndexFunc(w.ends[:], func(a netip.AddrPort) bool { return !a.IsValid() })
	for k := 0; free < 0 && k < len(w.ends); k++ {
		if taken&(1<<k) == 0 && w.unused(k) {
			free = k
		}
	}
	if free < 0 {
		return 0, false
	}
	w.ends[free] = addr
	return uint8(free), true
}

// unused tells whether no name and no lane has an end.
func (w *way) unused(k int) bool {
	if w.wanted&(1<<k) != 0 {
		return false
	}
	for l := range w.lanes {
		if l.ends[k] != nil {
			return false
		}
	}
	return true
}

// reckon sums up what the names need.
func (w *way) reckon() {
	w.wanted = 0 // timed stays: what is removed may be in flight
	for n := range w.each() {
		if n.placed {
			w.wanted |= n.ends
			w.timed = max(w.timed, n.verdict.Timeout)
		}
	}
}

// remove leaves a name to the proxy. The caller locks.
func (ls *Lanes) remove(w *way, n *name) {
	ls.book.memory.Remove(n.place)
	n.placed, n.until = false, time.Time{}
	n.verdict.Reason = verdict.Changing
	ls.rests = append(ls.rests, n)
	for _, names := range w.names {
		maps.DeleteFunc(names, func(_ string, known *name) bool { return known == n })
	}
	w.reckon()
	for l := range w.lanes {
		l.nudge()
	}
}

// forget removes everything that was learned of a way. The caller locks.
func (ls *Lanes) forget(w *way) {
	for n := range w.each() {
		if n.placed {
			ls.remove(w, n)
		}
	}
}

// refuse leaves the names that lead to an endpoint to the proxy until a time. The caller
// locks.
func (ls *Lanes) refuse(w *way, endpoint netip.AddrPort, until time.Time) {
	w.refused[endpoint] = until
	for k, a := range w.ends {
		if a != endpoint {
			continue
		}
		for n := range w.each() {
			if n.placed && n.ends&(1<<k) != 0 {
				ls.remove(w, n)
			}
		}
	}
}

// in finds the names in a frame's serialization.
func (w *way) in(h codec.Header) map[string]*name {
	if h.Serialization() == lane.Fastjson2 {
		return w.names[1]
	}
	return w.names[0]
}

// each lists the names. They may be removed meanwhile.
func (w *way) each() iter.Seq[*name] {
	return func(yield func(*name) bool) {
		for _, names := range w.names {
			for _, n := range names {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// drop gives the series of a name back.
func (n *name) drop(t Tally) {
	for _, s := range n.series {
		t.Drop(s)
	}
	n.series = nil
}
