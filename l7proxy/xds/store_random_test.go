package xds

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// chance makes resources at random, out of few names, so that they refer to each other.
type chance struct {
	*rand.Rand

	t         *testing.T
	addresses int // that listeners have among them; 0: each has its own
}

// name is one of a type's. Some clusters have the endpoints of another name, and some
// routes are asked for by another than listeners have.
func (c *chance) name(typ string) string {
	i := c.IntN(8)
	if typ == TypeRoute {
		return fmt.Sprintf("h%d:80", i)
	}
	return fmt.Sprintf("%c%d", typ[len("type.googleapis.com/envoy.config.")], i)
}

// resource makes one; one in eight is rejected.
func (c *chance) resource(typ string) Resource {
	name, bad := c.name(typ), c.IntN(8) == 0
	var m proto.Message
	switch typ {
	case TypeCluster:
		eds := &clusterv3.Cluster_EdsClusterConfig{}
		if c.IntN(2) == 0 {
			eds.ServiceName = fmt.Sprintf("e%d", c.IntN(8))
		} else if c.IntN(2) == 0 {
			name = fmt.Sprintf("e%d", c.IntN(8))
		}
		m = &clusterv3.Cluster{
			Name: name, EdsClusterConfig: eds, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			LbPolicy: clusterv3.Cluster_LbPolicy(c.IntN(2)), RespectDnsTtl: bad,
		}
	case TypeEndpoint:
		m = c.assignment(name, bad)
	case TypeRoute:
		return Resource{Name: name, Version: fmt.Sprint(c.IntN(2)), Body: split(c.t, name, fmt.Sprintf("c%d", c.IntN(8)), bad).Body}
	case TypeListener:
		m = c.listener(name, bad)
	}
	return Resource{Name: name, Version: fmt.Sprint(c.IntN(2)), Body: pack(c.t, m)}
}

func socket(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func (c *chance) assignment(name string, bad bool) *endpointv3.ClusterLoadAssignment {
	m := &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for range c.IntN(4) {
		port := uint32(80)
		if bad {
			port = 0
		}
		m.Endpoints[0].LbEndpoints = append(m.GetEndpoints()[0].GetLbEndpoints(), &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(fmt.Sprintf("10.1.0.%d", 1+c.IntN(9)), port)}},
		})
	}
	return m
}

func (c *chance) listener(name string, bad bool) *listenerv3.Listener {
	address := fmt.Sprintf("10.0.0.%d", 1+int(name[1]-'0'))
	if c.addresses > 0 {
		address = fmt.Sprintf("10.0.0.%d", 1+c.IntN(c.addresses))
	}
	m := &listenerv3.Listener{Name: name, Address: socket(address, 80)}
	if bad {
		m.Address = socket("127.0.0.1", 80)
	}
	typed := pack(c.t, &tcpv3.TcpProxy{StatPrefix: "x", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "c1"}})
	switch c.IntN(4) {
	case 0:
		typed = c.manager(&hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: fmt.Sprintf("H%d:80", c.IntN(8))}}, nil)
	case 1:
		typed = c.manager(&hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: fmt.Sprintf("h%d:80", c.IntN(8))}}, nil)
	case 2:
		inline := new(routev3.RouteConfiguration)
		if err := split(c.t, "own", "c2", false).Body.UnmarshalTo(inline); err != nil {
			c.t.Fatal(err)
		}
		typed = c.manager(nil, &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inline})
	}
	m.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
		{Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed}},
	}}}
	return m
}

func (c *chance) manager(rds *hcmv3.HttpConnectionManager_Rds, inline *hcmv3.HttpConnectionManager_RouteConfig) *anypb.Any {
	m := &hcmv3.HttpConnectionManager{StatPrefix: "x"}
	if m.RouteSpecifier = rds; rds == nil {
		m.RouteSpecifier = inline
	}
	return pack(c.t, m)
}

// update makes one of a few resources.
func (c *chance) update() Update {
	u := Update{Type: types[c.IntN(len(types))]}
	for range c.IntN(4) {
		r := c.resource(u.Type)
		if !slices.ContainsFunc(u.Changed, func(other Resource) bool { return other.Name == r.Name }) {
			u.Changed = append(u.Changed, r)
		}
	}
	for range c.IntN(3) {
		if name := c.name(u.Type); !slices.ContainsFunc(u.Changed, func(r Resource) bool { return r.Name == name }) {
			u.Removed = append(u.Removed, name)
		}
	}
	return u
}

// history is what of updates survives, as a Store must have it.
type history struct{ latest, good map[key]Resource }

func (h *history) take(u Update, rejected []Rejection) {
	bad := make(map[string]bool)
	for _, r := range rejected {
		bad[r.Name] = true
	}
	for _, r := range u.Changed {
		k := keyOf(u.Type, r.Name)
		if h.latest[k] = r; !bad[r.Name] {
			h.good[k] = r
		}
	}
	for _, name := range u.Removed {
		delete(h.latest, keyOf(u.Type, name))
		delete(h.good, keyOf(u.Type, name))
	}
}

// fresh is a Store that was told in one go what survives.
func (h *history) fresh() *Store {
	s := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	for _, resources := range []map[key]Resource{h.good, h.latest} {
		for _, typ := range types {
			u := Update{Type: typ}
			for k, r := range resources {
				if k.kind == keyOf(typ, "").kind {
					u.Changed = append(u.Changed, r)
				}
			}
			s.Take(u)
		}
	}
	s.Publish()
	return s
}

// same compares a Store with another one: all that it tells.
func same(t *testing.T, got, want *Store) {
	t.Helper()
	a, b := *got.Snapshot(), *want.Snapshot()
	for _, l := range a.Listeners {
		if l.Route != a.Routes[l.RouteName] {
			t.Fatalf("listener %s has a route configuration that is not the snapshot's", l.Name)
		}
	}
	for i := range 10 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80)
		if x, y := clusterNames(a.ClustersAt(at)), clusterNames(b.ClustersAt(at)); !slices.Equal(x, y) {
			t.Fatalf("at %s are %q, want %q", at, x, y)
		}
		dialled := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
		if x, y := a.Listener(dialled), b.Listener(dialled); (x == nil) != (y == nil) || x != nil && x.Name != y.Name {
			t.Fatalf("at %s listens %v, want %v", dialled, x, y)
		}
		_, x := a.ServiceOf(fmt.Sprintf("c%d", i))
		_, y := b.ServiceOf(fmt.Sprintf("c%d", i))
		if (x == nil) != (y == nil) || x != nil && x != a.Clusters[y.Name] {
			t.Fatalf("service c%d is %v, want %v", i, x, y)
		}
	}
	a.Generation, b.Generation = 0, 0
	if x, y := dump(&a), dump(&b); x != y {
		t.Fatalf("snapshot:\n%s\nwant\n%s\n%s", x, y, firstDifference(x, y))
	}
	if x, y := report(got.Rejections()), report(want.Rejections()); x != y {
		t.Fatalf("rejected:\n%s\nwant\n%s", x, y)
	}
	for _, typ := range types {
		if x, y := got.Wanted(typ), want.Wanted(typ); !slices.Equal(x, y) {
			t.Fatalf("%s: wants %q, want %q", typ, x, y)
		}
		if x, y := got.Versions(typ), want.Versions(typ); !maps.Equal(x, y) {
			t.Fatalf("%s: versions %v, want %v", typ, x, y)
		}
	}
}

func clusterNames(list []*snapshot.Cluster) (names []string) {
	for _, c := range list {
		names = append(names, c.Name)
	}
	return names
}

// TestRandomUpdates: whatever came, in whatever order, a Store is as one that was told at
// once what is left of it.
func TestRandomUpdates(t *testing.T) {
	for seed := range uint64(6) {
		c := &chance{Rand: rand.New(rand.NewPCG(seed, 1)), t: t}
		s := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
		h := &history{make(map[key]Resource), make(map[key]Resource)}
		for step := range 150 {
			u := c.update()
			h.take(u, s.Take(u))
			if step%3 == 0 {
				s.Publish()
				same(t, s, h.fresh())
			}
		}
	}
}

// TestRandomConflicts: listeners that want the same addresses. Nobody loses one to another,
// no two have one, and nobody is kept from one that is free.
func TestRandomConflicts(t *testing.T) {
	for seed := range uint64(6) {
		c := &chance{Rand: rand.New(rand.NewPCG(seed, 2)), t: t, addresses: 5}
		s := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
		for range 300 {
			before := s.Snapshot()
			u := c.update()
			s.Take(u)
			s.Publish()
			holders := make(map[string]string)
			for _, l := range s.Snapshot().Listeners {
				at := l.Prefix.String()
				if holders[at] != "" {
					t.Fatalf("%s and %s have %s", holders[at], l.Name, at)
				}
				holders[at] = l.Name
			}
			if len(s.claimed()) != len(holders) {
				t.Fatalf("claims %v, listeners %v", s.claimed(), holders)
			}
			for _, l := range before.Listeners {
				gone := slices.Contains(u.Removed, l.Name) || u.Type == TypeListener &&
					slices.ContainsFunc(u.Changed, func(r Resource) bool { return r.Name == l.Name })
				if now := s.Snapshot().Listener(netip.AddrPortFrom(l.Prefix.Addr(), 80)); !gone && s.refused[key{"Listener", l.Name}] == nil &&
					(now == nil || now.Name != l.Name) && holders[l.Prefix.String()] != "" && !slices.ContainsFunc(s.Snapshot().Listeners, func(n *snapshot.Listener) bool { return n.Name == l.Name }) {
					t.Fatalf("%s lost %s", l.Name, l.Prefix)
				}
			}
			for k, r := range s.refused {
				for one := range claims(r.entry) {
					if holder := holders[one.dialled.Prefix.String()]; len(r.entry.Problems) == 0 && (holder == "" || holder == k.name) {
						t.Fatalf("%s is kept from %s, which is %q's", k.name, one, holder)
					}
				}
			}
		}
	}
}

// claimed lists what listeners have.
func (s *Store) claimed() map[string]string {
	all := make(map[string]string)
	for c, name := range s.claims.All() {
		all[c.dialled.Prefix.String()] = name
	}
	return all
}

// TestShared: Stores of one Library, taking the same at once, have the same objects, and
// when they are gone nothing is left.
func TestShared(t *testing.T) {
	library := new(Library)
	stores := make([]*Store, 4)
	var all sync.WaitGroup
	for i := range stores {
		stores[i] = NewStore(library, "test", netip.Addr{}, slog.New(slog.DiscardHandler))
		all.Go(func() {
			c := &chance{Rand: rand.New(rand.NewPCG(7, 3)), t: t}
			for range 100 {
				stores[i].Take(c.update())
				stores[i].Publish()
			}
		})
	}
	all.Wait()
	first := stores[0].Snapshot()
	if len(first.Clusters) == 0 || len(first.Routes) == 0 || len(first.Listeners) == 0 {
		t.Fatal("nothing to share")
	}
	for _, s := range stores[1:] {
		same(t, s, stores[0])
		got := s.Snapshot()
		if &got.Listeners[0] != &first.Listeners[0] {
			t.Error("equal lists of listeners are two")
		}
		for name, c := range first.Clusters {
			if got.Clusters[name] != c {
				t.Errorf("cluster %s is two", name)
			}
		}
		for name, rc := range first.Routes {
			if got.Routes[name] != rc {
				t.Errorf("route configuration %s is two", name)
			}
		}
		if s.next != stores[0].next {
			t.Error("equal tables are two")
		}
	}
	if runtime.GC(); library.Len() == 0 {
		t.Error("the library is empty while Stores hold what is in it")
	}
	runtime.KeepAlive(stores)
	clear(stores)
	for deadline := time.Now().Add(30 * time.Second); library.Len() > 0; {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("%d objects are left of Stores that are gone", library.Len())
		}
	}
}

// TestSwap: two listeners may change places in one update, and a third that waits for an
// address gets it when it is free.
func TestSwap(t *testing.T) {
	at := func(name, address string) Resource {
		l := &listenerv3.Listener{Name: name, Address: socket(address, 80), FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
			{Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &tcpv3.TcpProxy{
				StatPrefix: "x", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "c1"},
			})}},
		}}}}
		return Resource{Name: name, Body: pack(t, l)}
	}
	s := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	steps := []struct {
		name     string
		take     Update
		holds    string
		rejected string
	}{
		{"first", Update{Changed: []Resource{at("b", "10.0.0.1"), at("c", "10.0.0.2")}}, "b@10.0.0.1 c@10.0.0.2", ""},
		{"one that comes too late", Update{Changed: []Resource{at("a", "10.0.0.1")}}, "b@10.0.0.1 c@10.0.0.2", "Listener a address"},
		{"two change places", Update{Changed: []Resource{at("b", "10.0.0.2"), at("c", "10.0.0.1")}}, "b@10.0.0.2 c@10.0.0.1", "Listener a address"},
		{"the last good one stays", Update{Changed: []Resource{at("b", "10.0.0.1")}}, "b@10.0.0.2 c@10.0.0.1", "Listener a address; Listener b address"},
		{"one moves on: who has an address goes before who has none", Update{Changed: []Resource{at("c", "10.0.0.3")}}, "b@10.0.0.1 c@10.0.0.3", "Listener a address"},
		{"one goes", Update{Removed: []string{"b"}}, "a@10.0.0.1 c@10.0.0.3", ""},
	}
	for _, step := range steps {
		step.take.Type = TypeListener
		s.Take(step.take)
		s.Publish()
		var list []string
		for _, l := range s.Snapshot().Listeners {
			list = append(list, l.Name+"@"+l.Prefix.Addr().String())
		}
		if holds := strings.Join(list, " "); holds != step.holds || brief(s.Rejections()) != step.rejected {
			t.Errorf("%s: %s; rejected %s; want %s; %s", step.name, list, brief(s.Rejections()), step.holds, step.rejected)
		}
	}
}
