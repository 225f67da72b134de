package xds

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/files"
)

// The types of resources that a Store takes, as control planes name them.
const (
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
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
	Removed []string
}

// Store publishes snapshots of resources that come one by one, by their names, from a
// control plane. Updates are taken, which tells what is rejected, and do not hold before
// Publish: what one resource needs of another may still be on its way. Its methods are
// safe for concurrent use.
type Store struct {
	publisher

	origin string
	pod    netip.Addr

	taking sync.Mutex // what follows; held while change runs
	held   map[key]*held
	order  []*files.Resource // the resources of held, sorted
	next   *set              // what Publish makes the current one
}

// held is what a Store has of one resource.
type held struct {
	resource files.Resource
	version  string
	good     *Resource // the last that was not rejected; nil: none
}

// NewStore returns an empty Store of what origin sends, which is what rejections call
// their file. Listeners of direction INBOUND at any address are the policies of the pod
// at that address, whose view origin sends.
func NewStore(origin string, pod netip.Addr, logger *slog.Logger) *Store {
	s := &Store{origin: origin, pod: pod, held: make(map[key]*held), next: new(set)}
	s.start(logger)
	return s
}

// Take takes an update and returns which of its resources are rejected: what they
// replace stays. Resources whose bytes are those that are held already cost nothing.
func (s *Store) Take(u Update) []Rejection {
	s.taking.Lock()
	defer s.taking.Unlock()
	changed := false
	named := make(map[key]bool, len(u.Changed))
	for _, r := range u.Changed {
		named[keyOf(u.Type, r.Name)] = true
		changed = s.put(u.Type, r) || changed
	}
	for _, name := range u.Removed {
		changed = s.remove(keyOf(u.Type, name)) || changed
	}
	if changed {
		next, rejected := s.next.following([]text{{file: s.origin, sent: s.order, pod: s.pod}})
		s.next = next
		s.report(rejected)
		s.settle(u)
	}
	return slices.DeleteFunc(s.Rejections(), func(r Rejection) bool { return !named[key{r.Kind, r.Name}] })
}

// put holds a resource; false if that is what is held already.
func (s *Store) put(typ string, r Resource) bool {
	k := keyOf(typ, r.Name)
	sent := files.Sent(r.Name, r.Body)
	if sent.Type != typ {
		sent = files.Sent(r.Name, &anypb.Any{TypeUrl: typ})
		sent.Problems.Addf("@type", "%s in an update of %s", r.Body.GetTypeUrl(), typ)
	}
	h := s.held[k]
	if h == nil {
		h = new(held)
		s.held[k] = h
		h.resource = sent
		at, _ := slices.BinarySearchFunc(s.order, k, compare)
		s.order = slices.Insert(s.order, at, &h.resource)
	} else if h.version = r.Version; h.resource.Sum == sent.Sum {
		if h.good != nil && h.good.Body == h.resource.Wire() {
			h.good = &Resource{Name: r.Name, Version: r.Version, Body: h.good.Body}
		}
		return false
	}
	h.resource, h.version = sent, r.Version
	return true
}

// remove forgets a resource; false if none was held.
func (s *Store) remove(k key) bool {
	if s.held[k] == nil {
		return false
	}
	delete(s.held, k)
	if at, found := slices.BinarySearchFunc(s.order, k, compare); found {
		s.order = slices.Delete(s.order, at, at+1)
	}
	return true
}

// settle remembers which of the resources of an update are good.
func (s *Store) settle(u Update) {
	for _, r := range u.Changed {
		k := keyOf(u.Type, r.Name)
		h, e := s.held[k], s.next.entries[k]
		if h != nil && e != nil && e.sum == h.resource.Sum {
			h.good = &Resource{Name: r.Name, Version: h.version, Body: h.resource.Wire()}
		}
	}
}

// Publish makes what was taken hold, in one swap. The first call always publishes a
// snapshot, with generation 1; later ones do if the resources differ.
func (s *Store) Publish() {
	s.taking.Lock()
	defer s.taking.Unlock()
	s.advance(s.next)
}

// Wanted returns the names, of a type, that resources of other types refer to: those of
// route configurations and of endpoints, as a control plane is asked for them, sorted.
func (s *Store) Wanted(typ string) []string {
	s.taking.Lock()
	defer s.taking.Unlock()
	names := make(map[string]bool)
	for _, e := range s.next.entries {
		if typ == TypeEndpoint && e.assignment != "" {
			names[e.assignment] = true
		}
		for _, l := range e.listeners {
			if typ == TypeRoute && l.Route == nil && l.RouteName != "" {
				names[AskedAs(l.RouteName)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Versions returns the versions of the resources of a type, by name. A resource that is
// rejected has that of its last good one.
func (s *Store) Versions(typ string) map[string]string {
	s.taking.Lock()
	defer s.taking.Unlock()
	versions := make(map[string]string)
	kind := keyOf(typ, "").kind
	for k, h := range s.held {
		switch {
		case k.kind != kind:
		case h.good != nil:
			versions[k.name] = h.good.Version
		default:
			versions[k.name] = ""
		}
	}
	return versions
}

// Good returns an update of each type that holds the resources that are good: the last
// good version of one that is rejected now.
func (s *Store) Good() []Update {
	s.taking.Lock()
	defer s.taking.Unlock()
	var all []Update
	for _, typ := range []string{TypeCluster, TypeEndpoint, TypeListener, TypeRoute} {
		kind, u := keyOf(typ, "").kind, Update{Type: typ}
		for _, r := range s.order {
			if h := s.held[key{r.Kind, r.Name}]; r.Kind == kind && h.good != nil {
				u.Changed = append(u.Changed, *h.good)
			}
		}
		all = append(all, u)
	}
	return all
}

// compare sorts resources by kind and name.
func compare(r *files.Resource, k key) int {
	return cmp.Or(strings.Compare(r.Kind, k.kind), strings.Compare(r.Name, k.name))
}

func keyOf(typ, name string) key { return key{typ[strings.LastIndexByte(typ, '.')+1:], name} }
