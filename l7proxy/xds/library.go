package xds

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"weak"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/convert"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/packed"
	"github.com/dubway/dubway/l7proxy/xds/problems"
)

// Library has what became of resources, each once, for all Stores of a process: views of
// one mesh are mostly the same. A resource that is equal in two views is converted once and
// is one object in both, as is a cluster joined with its endpoints, and a whole table that
// is equal. What no Store and no snapshot holds any more goes. The zero Library is empty;
// it is safe for concurrent use.
type Library struct {
	entries  table.Weak[uint64, entry]
	bodies   [len(kinds)]packed.Press
	sets     table.Pool[string, *entry]
	counts   table.Pool[string, int]
	versions table.Pool[string, string]
	claims   table.Pool[claim, string]
	names    table.Lists[string]

	// What is joined, by what of.
	clusters  table.Weak[pair[entry, entry], snapshot.Cluster]
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

// Len returns how many objects there are that a Store or a snapshot holds.
func (l *Library) Len() int {
	j := &l.joined
	return l.entries.Len() + l.sets.Len() + l.counts.Len() + l.versions.Len() + l.claims.Len() + l.names.Len() +
		l.clusters.Len() + l.listeners.Len() + l.aliases.Len() +
		j.clusters.Len() + j.routes.Len() + j.listeners.Len() + j.lists.Len() + l.shared.Len()
}

// seed is that of the hashes by which entries are found.
var seed = maphash.MakeSeed()

// entry returns what a resource means that was sent to pod, or read from a file.
func (l *Library) entry(r *files.Resource, pod netip.Addr) *entry {
	if len(r.Problems) > 0 {
		return &entry{kind: r.Kind, name: r.Name, sum: r.Sum, problems: r.Problems}
	}
	fresh := func() *entry { return l.convert(r, pod) }
	e := l.keep(r, nil, fresh)
	if e.pod.IsValid() && e.pod != pod {
		e = l.keep(r, &pod, fresh)
	}
	return e
}

// keep finds a resource, or makes it; with pod, what it means to that one, if it means
// something else to each.
func (l *Library) keep(r *files.Resource, pod *netip.Addr, fresh func() *entry) *entry {
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
	return l.entries.Keep(maphash.Comparable(seed, k), func(e *entry) bool {
		return e.kind == r.Kind && e.name == r.Name && e.sum == r.Sum && (pod == nil || e.pod == *pod)
	}, fresh)
}

// convert opens a resource, converts it and packs what it was made of.
func (l *Library) convert(r *files.Resource, pod netip.Addr) *entry {
	e := convertResource(*r, pod)
	if at := slices.Index(kinds[:], r.Kind); at >= 0 && r.Wire() != nil && len(e.problems) == 0 {
		e.url, e.body = r.Type, l.bodies[at].Pack(r.Wire().GetValue())
	}
	return e
}

// wire returns what an entry was sent as.
func (l *Library) wire(e *entry) *anypb.Any {
	at := slices.Index(kinds[:], e.kind)
	if at < 0 {
		return new(anypb.Any)
	}
	return &anypb.Any{TypeUrl: e.url, Value: l.bodies[at].Unpack(e.body)}
}

// entry is what one resource means, or all that is wrong with it. Immutable; without
// problems one of the last five is set.
type entry struct {
	kind, name string
	sum        files.Sum
	pod        netip.Addr // of a listener that says something of the pod that it was sent to
	url, body  string     // what it was sent as, packed
	problems   problems.List

	listeners  []*snapshot.Listener
	inbounds   []*snapshot.Inbound // of a listener too
	route      *snapshot.RouteConfig
	cluster    *snapshot.Cluster
	assignment string // of cluster: the Assignment to join, or ""
	endpoints  *convert.Assignment
}
