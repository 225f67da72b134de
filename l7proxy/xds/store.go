package xds

import (
	"cmp"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/files"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// The types of resources that a Store takes, as control planes name them.
const (
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	// TypeMetaRoute is that of Aeraki's tables, which another server has.
	TypeMetaRoute = "type.googleapis.com/" + files.MetaRoute
)

// Resource is one resource of a control plane. Nobody may change Body.
type Resource struct {
	Name    string
	Version string // as the control plane counts; says nothing about what is in Body
	Body    *anypb.Any
}

// Update is what a control plane says of one type: what is new, and what is gone. What
// it does not name stays.
type Update struct {
	Type    string // TypeListener and so on
	Changed []Resource
	// Each, if not nil, lists more of what is new, once: what is large need not be in memory
	// as a whole.
	Each    iter.Seq[Resource]
	Removed []string
}

// all lists what is new.
func (u *Update) all() iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for _, r := range u.Changed {
			if !yield(r) {
				return
			}
		}
		if u.Each != nil {
			u.Each(yield)
		}
	}
}

// Store publishes snapshots of resources that come one by one, by their names, from a
// control plane. Updates are taken, which tells what is rejected, and do not hold before
// Publish: what one resource needs of another may still be on its way. Both cost what they
// change. Its methods are safe for concurrent use.
type Store struct {
	publisher

	origin string
	pod    netip.Addr

	taking   sync.Mutex   // what follows; held while change runs
	next     shelf.Tables // what Publish makes hold
	versions [len(shelf.Kinds)]table.Map[string, string]
	claims   table.Map[claim, string] // the listeners that have them
	refused  map[key]*refusal
	wanted   map[string]*wanted // by type
}

// refusal is the version of a resource that is rejected, while the last good one holds.
type refusal struct {
	entry   *shelf.Entry
	version string
	Rejection
}

// wanted is the names that resources refer to, sorted.
type wanted struct {
	of   table.Map[string, int]
	list *table.List[string]
}

// NewStore returns an empty Store of what origin sends, which is what rejections call
// their file. Listeners of direction INBOUND at any address are the policies of the pod
// at that address, whose view origin sends. What the library has already, or other Stores
// of it get too, is in memory once.
func NewStore(library *Library, origin string, pod netip.Addr, logger *slog.Logger) *Store {
	s := &Store{origin: origin, pod: pod, refused: make(map[key]*refusal), wanted: make(map[string]*wanted)}
	s.start(library, logger)
	return s
}

// Publish makes what was taken hold, in one swap. The first call always publishes a
// snapshot, with generation 1; later ones do if the resources differ.
func (s *Store) Publish() {
	s.taking.Lock()
	defer s.taking.Unlock()
	s.advance(s.next)
}

// sorted lists rejections in the order of kinds and names.
func sorted(refused map[key]*refusal) []Rejection {
	all := make([]Rejection, 0, len(refused))
	for _, r := range refused {
		all = append(all, r.Rejection)
	}
	slices.SortFunc(all, func(a, b Rejection) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return all
}

// Wanted returns the names, of a type, that resources of other types refer to: those of
// route configurations and of endpoints, as a control plane is asked for them, sorted.
// Nobody may change the list; while the names are the same it costs nothing.
func (s *Store) Wanted(typ string) []string {
	s.taking.Lock()
	defer s.taking.Unlock()
	var now table.Map[string, int]
	switch typ {
	case TypeEndpoint:
		now = s.next.Assignments
	case TypeRoute:
		now = s.next.Routes
	}
	w := s.wanted[typ]
	if w == nil || w.of != now {
		all := make([]string, 0, now.Len())
		for name := range now.All() {
			all = append(all, name)
		}
		slices.Sort(all)
		w = &wanted{now, s.library.names.Of(all...)}
		s.wanted[typ] = w
	}
	if w.list == nil {
		return nil
	}
	return w.list.Items
}

// Versions returns the versions of the resources of a type, by name. A resource that is
// rejected has that of its last good one. The map is the caller's.
func (s *Store) Versions(typ string) map[string]string {
	s.taking.Lock()
	defer s.taking.Unlock()
	kind := keyOf(typ, "").kind
	versions := make(map[string]string)
	if at := slices.Index(shelf.Kinds[:], kind); at >= 0 {
		versions = make(map[string]string, s.next.Entries[at].Len())
		for name := range s.next.Entries[at].All() {
			versions[name] = s.versions[at].Value(name)
		}
	}
	for k := range s.refused {
		if _, good := versions[k.name]; k.kind == kind && !good {
			versions[k.name] = ""
		}
	}
	return versions
}

// Good is a resource that is good: the last good version of one that is rejected now.
type Good struct {
	Type, Name, Version string

	Sum files.Sum // of its bytes: equal resources have equal sums
	Own bool      // it says something of the pod whose view it is of

	entry *shelf.Entry
	shelf *shelf.Shelf
}

// Body is what the resource was sent as; it is made anew each time.
func (g *Good) Body() *anypb.Any { return g.shelf.Wire(g.entry) }

// Good lists the resources that are good, types together: those of the moment when Good is
// called.
func (s *Store) Good() iter.Seq[Good] {
	s.taking.Lock()
	defer s.taking.Unlock()
	held, versions := s.next, s.versions
	return func(yield func(Good) bool) {
		for at, typ := range shelf.Types {
			for name, e := range held.Entries[at].All() {
				if !yield(Good{typ, name, versions[at].Value(name), e.Sum, e.Own(), e, &s.library.shelf}) {
					return
				}
			}
		}
	}
}

// Held lists what Good does, with its types, each made when it comes into what it was sent
// as: together they may be large.
func (s *Store) Held() iter.Seq2[string, Resource] {
	good := s.Good()
	return func(yield func(string, Resource) bool) {
		for g := range good {
			if !yield(g.Type, Resource{Name: g.Name, Version: g.Version, Body: g.Body()}) {
				return
			}
		}
	}
}

func keyOf(typ, name string) key { return key{files.KindOf(typ), name} }
