package router

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// to makes a route to a cluster.
func to(cluster string, m snapshot.Match) *snapshot.Route {
	if m.Fraction == 0 {
		m.Fraction = million
	}
	return &snapshot.Route{
		Name: cluster, Match: m, Origin: "routes/test " + cluster,
		Action: snapshot.Action{Clusters: []snapshot.WeightedCluster{{Cluster: cluster, Weight: 1}}, Total: 1},
	}
}

func oneHost(routes ...*snapshot.Route) *snapshot.RouteConfig {
	return &snapshot.RouteConfig{
		Name: "test", VirtualHosts: []*snapshot.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}},
	}
}

func TestVirtualHosts(t *testing.T) {
	for _, tt := range []struct {
		name       string
		domains    []string // one virtual host each
		authority  string
		iface      string
		ignorePort bool
		want       string // the domain, "" for none
	}{
		{"any", []string{"*"}, "10.0.0.1:20880", "a.B", false, "*"},
		{"none", []string{"10.0.0.2", "c.d", "*.x", "y.*"}, "10.0.0.1:20880", "a.B", false, ""},
		{"address and port", []string{"*", "10.0.0.1", "10.0.0.1:20880"}, "10.0.0.1:20880", "a.B", false, "10.0.0.1:20880"},
		{"address alone", []string{"*", "10.0.0.1", "10.0.0.1:20881"}, "10.0.0.1:20880", "a.B", false, "10.0.0.1"},
		{"port ignored", []string{"*", "10.0.0.1", "10.0.0.1:20880"}, "10.0.0.1:20880", "a.B", true, "10.0.0.1"},
		{"interface in lower case", []string{"*", "org.shop.orderservice"}, "10.0.0.1:20880", "org.shop.OrderService", false, "org.shop.orderservice"},
		{"domain with capitals", []string{"*", "org.shop.OrderService"}, "10.0.0.1:20880", "org.shop.orderservice", false, "org.shop.OrderService"},
		{"address before interface", []string{"a.b", "10.0.0.1"}, "10.0.0.1:20880", "a.B", false, "10.0.0.1"},
		{"exact interface before address prefix", []string{"10.0.*", "a.b"}, "10.0.0.1:20880", "a.B", false, "a.b"},
		{"longest suffix", []string{"*", "*b", "*.b", "*.ab"}, "10.0.0.1:20880", "x.ab.B", false, "*.b"},
		{"suffix before prefix", []string{"x.*", "*.b"}, "10.0.0.1:20880", "x.B", false, "*.b"},
		{"longest prefix", []string{"*", "x.*", "x.y.*", "x.z.*"}, "10.0.0.1:20880", "x.Y.B", false, "x.y.*"},
		{"a star is not empty", []string{"*a.b", "a.b*"}, "10.0.0.1:20880", "a.B", false, ""},
		{"IPv6 with brackets", []string{"*", "[fd00::1]"}, "[fd00::1]:20880", "a.B", false, "[fd00::1]"},
		{"IPv6 without", []string{"*", "fd00::1"}, "[fd00::1]:20880", "a.B", true, "fd00::1"},
		{"IPv6 and port", []string{"fd00::1", "[fd00::1]:20880"}, "[fd00::1]:20880", "a.B", false, "[fd00::1]:20880"},
		{"undecodable", []string{"a.b", "*"}, "10.0.0.1:20880", "", false, "*"},
		{"first of two", []string{"*", "*"}, "", "", false, "*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rc := &snapshot.RouteConfig{IgnorePort: tt.ignorePort}
			for _, d := range tt.domains {
				rc.VirtualHosts = append(rc.VirtualHosts, &snapshot.VirtualHost{Name: d, Domains: []string{"other.example", d}})
			}
			got := ""
			if vh := virtualHost(rc, &rpc.Request{Authority: tt.authority, Interface: tt.iface}); vh != nil {
				got = vh.Name
			}
			if got != tt.want {
				t.Errorf("the virtual host is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFirstRouteWins(t *testing.T) {
	rc := oneHost(
		to("method", snapshot.Match{Headers: []header{{Name: "method", Value: "findOrder"}}}),
		to("never", snapshot.Match{Headers: []header{{Name: "method", Value: "findOrder"}}}),
		to("prefix", snapshot.Match{Path: "/org.shop."}),
		to("default", snapshot.Match{}),
	)
	for _, tt := range []struct {
		req  rpc.Request
		want string
	}{
		{rpc.Request{Interface: "org.shop.OrderService", Method: "findOrder"}, "method"},
		{rpc.Request{Interface: "org.shop.OrderService", Method: "save"}, "prefix"},
		{rpc.Request{Interface: "other", Method: "save"}, "default"},
		{rpc.Request{Undecodable: true}, "default"},
	} {
		if r := Match(rc, &tt.req, 0); r == nil || r.Name != tt.want {
			t.Errorf("%s/%s takes %v, want %s", tt.req.Interface, tt.req.Method, r, tt.want)
		}
	}
	if r := Match(oneHost(to("a", snapshot.Match{Path: "/x"})), request(), 0); r != nil {
		t.Errorf("a request without a route takes %s", r.Name)
	}
	if r := Match(&snapshot.RouteConfig{}, request(), 0); r != nil {
		t.Errorf("a request without a virtual host takes %s", r.Name)
	}
}

func TestFraction(t *testing.T) {
	rc := oneHost(to("some", snapshot.Match{Fraction: 250_000}), to("rest", snapshot.Match{}))
	random := rand.New(rand.NewPCG(1, 1))
	const n = 40_000
	some := 0
	for range n {
		if Match(rc, request(), random.Uint64()).Name == "some" {
			some++
		}
	}
	if d := math.Abs(float64(some) - n/4); d > 4*math.Sqrt(n*3.0/16) {
		t.Errorf("%d of %d requests took a quarter's route", some, n)
	}
	for _, tt := range []struct {
		fraction uint32
		random   uint64
		want     bool
	}{
		{million, math.MaxUint64, true}, {million - 1, math.MaxUint64, false}, {1, 0, true}, {0, 0, false},
	} {
		if snapshot.Hit(tt.fraction, tt.random) != tt.want {
			t.Errorf("%d millionths at %x: %v", tt.fraction, tt.random, !tt.want)
		}
	}
}

func TestCluster(t *testing.T) {
	a := &snapshot.Action{Total: 100, Clusters: []snapshot.WeightedCluster{
		{Cluster: "a", Weight: 90}, {Cluster: "none", Weight: 0}, {Cluster: "b", Weight: 10},
	}}
	random := rand.New(rand.NewPCG(5, 5))
	counts := map[string]int{}
	const n = 40_000
	for range n {
		counts[Cluster(a, random.Uint64()).Cluster]++
	}
	if d := math.Abs(float64(counts["b"]) - n/10); d > 4*math.Sqrt(n*0.09) || counts["none"] != 0 || counts["a"]+counts["b"] != n {
		t.Errorf("weights 90, 0 and 10 gave %v", counts)
	}
	if first, last := Cluster(a, 0).Cluster, Cluster(a, math.MaxUint64).Cluster; first != "a" || last != "b" {
		t.Errorf("the ends are %s and %s", first, last)
	}
	if c := Cluster(&to("x", snapshot.Match{}).Action, math.MaxUint64); c.Cluster != "x" {
		t.Errorf("the only cluster is %s", c.Cluster)
	}
}

// tables are route configurations whose matching must not allocate.
func tables() map[string]*snapshot.RouteConfig {
	last := to("default", snapshot.Match{Path: "/"})
	hosts := &snapshot.RouteConfig{}
	for i := range 1000 {
		hosts.VirtualHosts = append(hosts.VirtualHosts, &snapshot.VirtualHost{
			Domains: []string{fmt.Sprintf("svc-%d.shop.svc.cluster.local", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250)},
		})
	}
	hosts.VirtualHosts = append(hosts.VirtualHosts, &snapshot.VirtualHost{Domains: []string{"*.orderservice"}, Routes: []*snapshot.Route{last}})
	routes := []*snapshot.Route{}
	for i := range 1000 {
		routes = append(routes, to("r", snapshot.Match{PathKind: snapshot.PathExact, Path: fmt.Sprintf("/org.shop.OrderService/findOrde%d", i)}))
	}
	return map[string]*snapshot.RouteConfig{
		"one":   oneHost(last),
		"hosts": hosts,
		"paths": oneHost(
			to("prefix", snapshot.Match{Path: "/org.shop.OrderService/findOrders"}),
			to("exact", snapshot.Match{PathKind: snapshot.PathExact, Path: "/ORG.shop.OrderService/findOrdex", IgnoreCase: true}),
			to("separated", snapshot.Match{PathKind: snapshot.PathSeparatedPrefix, Path: "/org.shop.Order"}),
			to("header", snapshot.Match{Headers: []header{{Name: ":path", Kind: snapshot.HeaderContains, Value: "Service/lost"}}}),
			last),
		"regex": oneHost(
			to("path", snapshot.Match{PathKind: snapshot.PathRegex, PathRegex: anchored(`/org\.shop\..*/lost[A-Z].*`)}),
			to("header", snapshot.Match{Headers: []header{{Name: ":path", Kind: snapshot.HeaderRegex, Regex: anchored("/com.*")}}}),
			last),
		"headers": oneHost(
			to("method", snapshot.Match{Headers: []header{{Name: "method", Value: "lost"}}}),
			to("tag", snapshot.Match{Headers: []header{{Name: "tag", Kind: snapshot.HeaderPrefix, Value: "green"}}}),
			to("range", snapshot.Match{Headers: []header{{Name: "word", Kind: snapshot.HeaderRange, Max: 9}}}),
			to("version", snapshot.Match{Headers: []header{{Name: "version", Kind: snapshot.HeaderRegex, Regex: anchored("2.*")}}}),
			last),
		"body": oneHost(
			to("argument", snapshot.Match{Headers: []header{anyOf("interface"), argument(0, header{Value: "lost"})}}),
			to("range", snapshot.Match{Headers: []header{argument(1, header{Kind: snapshot.HeaderRange, Max: 3})}}),
			last),
		"thousand": oneHost(append(routes, last)...),
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	for name, rc := range tables() {
		if raceDetector && name == "regex" {
			continue // it makes sync.Pool, and so package regexp, forget at random
		}
		t.Run(name, func(t *testing.T) {
			req := request()
			if n := testing.AllocsPerRun(200, func() {
				r := Match(rc, req, 1)
				if r == nil || r.Name != "default" {
					t.Fatalf("took %v", r)
				}
				Cluster(&r.Action, 1)
			}); n != 0 {
				t.Errorf("matching allocates %v times", n)
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, rc := range tables() {
		b.Run(name, func(b *testing.B) {
			req := request()
			for b.Loop() {
				if Match(rc, req, 1) == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}
