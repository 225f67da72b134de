// Package shelf is what became of resources, each once for all views of a mesh, which are
// mostly the same. A resource that is equal in two views is converted once and is one
// object in both, as is a cluster joined with its endpoints, and a whole table that is
// equal. What no view and no snapshot holds any more goes.
//
// It takes what it is given: which version of a resource holds is package xds' business.
package shelf

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"weak"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/packed"
)

// Shelf has what became of resources, as long as somebody holds it. The zero Shelf is
// empty; it is safe for concurrent use.
type Shelf struct {
	entries table.Weak[uint64, Entry]
	bodies  [len(Kinds)]packed.Press
	sets    table.Pool[string, *Entry]
	counts  table.Pool[string, int]

	// What is joined, by what of.
	clusters  table.Weak[pair[Entry, Entry], snapshot.Cluster]
	listeners table.Weak[pair[snapshot.Listener, snapshot.RouteConfig], snapshot.Listener]
	aliases   table.Weak[alias, snapshot.RouteConfig]

	joined struct {
		clusters  table.Pool[string, *snapshot.Cluster]
		routes    table.Pool[string, *snapshot.RouteConfig]
		listeners table.Pool[string, *table.List[*snapshot.Listener]]
		lists     table.Lists[*snapshot.Listener]
	}
	shared snapshot.Shared
}

// pair is two objects by what they are, which it does not hold.
type pair[A, B any] struct {
	a weak.Pointer[A]
	b weak.Pointer[B]
}

// alias is a route configuration under another name.
type alias struct {
	of   weak.Pointer[snapshot.RouteConfig]
	name string
}

// Len returns how many objects there are that somebody holds.
func (l *Shelf) Len() int {
	j := &l.joined
	return l.entries.Len() + l.sets.Len() + l.counts.Len() +
		l.clusters.Len() + l.listeners.Len() + l.aliases.Len() +
		j.clusters.Len() + j.routes.Len() + j.listeners.Len() + j.lists.Len() + l.shared.Len()
}

// seed is that of the hashes by which entries are found.
var seed = maphash.MakeSeed()

// Entry returns what a resource means that was sent to pod, or read from a file.
func (l *Shelf) Entry(r *files.Resource, pod netip.Addr) *Entry {
	if len(r.Problems) > 0 {
		return &Entry{Kind: r.Kind, Name: r.Name, Sum: r.Sum, Problems: r.Problems}
	}
	fresh := func() *Entry { return l.convert(r, pod) }
	e := l.keep(r, nil, fresh)
	if e.pod.IsValid() && e.pod != pod {
		e = l.keep(r, &pod, fresh)
	}
	return e
}

// keep finds a resource, or makes it; with pod, what it means to that one, if it means
// something else to each.
func (l *Shelf) keep(r *files.Resource, pod *netip.Addr, fresh func() *Entry) *Entry {
	type content struct {
		kind, name string
		sum        files.Sum
		pod        netip.Addr
		own        bool
	}
	k := content{kind: r.Kind, name: r.Name, sum: r.Sum}
	if pod != nil {
		k.pod, k.own = *pod, true
	}
	return l.entries.Keep(maphash.Comparable(seed, k), func(e *Entry) bool {
		return e.Kind == r.Kind && e.Name == r.Name && e.Sum == r.Sum && (pod == nil || e.pod == *pod)
	}, fresh)
}

// convert opens a resource, converts it and packs what it was made of.
func (l *Shelf) convert(r *files.Resource, pod netip.Addr) *Entry {
	e := opened(*r, pod)
	if at := slices.Index(Kinds[:], r.Kind); at >= 0 && r.Wire() != nil && len(e.Problems) == 0 {
		e.body = l.bodies[at].Pack(r.Wire().GetValue())
	}
	return e
}

// Wire returns what an entry was sent as.
func (l *Shelf) Wire(e *Entry) *anypb.Any {
	at := slices.Index(Kinds[:], e.Kind)
	if at < 0 {
		return new(anypb.Any)
	}
	return &anypb.Any{TypeUrl: Types[at], Value: l.bodies[at].Unpack(e.body)}
}
