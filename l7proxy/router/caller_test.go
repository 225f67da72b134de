package router

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestPinned(t *testing.T) {
	for _, c := range []struct {
		iface, method string
		want          bool
	}{
		{"org.apache.dubbo.metadata.MetadataService", "getMetadataInfo", true},
		{"org.apache.dubbo.metadata.MetadataServiceV2", "getMetadataInfo", true},
		{"org.shop.OrderService", "$echo", true},
		{"org.shop.OrderService", "$invoke", false},
		{"org.shop.OrderService", "echo", false},
		{"org.apache.dubbo.metadata.MetadataReport", "get", false},
		{"", "", false},
	} {
		if got := Pinned(c.iface, c.method); got != c.want {
			t.Errorf("%s.%s: %v", c.iface, c.method, got)
		}
	}
}

// district is pods of two services behind one range of addresses, and each of a
// listener of its own; a third service is named by its host alone.
func district() *snapshot.Snapshot {
	cluster := func(host, subset string, b snapshot.Balancing, pods ...string) *snapshot.Cluster {
		c := &snapshot.Cluster{
			Name: "outbound|20880|" + subset + "|" + host, Overprovision: 140, PanicThreshold: 50, Balancing: b,
			Service: snapshot.Service{Host: host, Name: host}, Localities: []*snapshot.Locality{{}},
		}
		for _, p := range pods {
			c.Localities[0].Endpoints = append(c.Localities[0].Endpoints,
				&snapshot.Endpoint{Address: netip.MustParseAddrPort(p + ":20880"), Weight: 1, Healthy: true})
		}
		return c
	}
	s := &snapshot.Snapshot{Routes: map[string]*snapshot.RouteConfig{}, Clusters: map[string]*snapshot.Cluster{}}
	for _, c := range []*snapshot.Cluster{
		cluster("orders", "", 0, "10.0.0.1", "10.0.0.2"), cluster("orders", "v1", 0, "10.0.0.1"),
		cluster("stock", "", snapshot.BalancingMesh, "10.0.0.3", "10.0.0.4"),
		cluster("left", "", snapshot.BalancingCaller, "10.0.0.7"), cluster("org.shop.ByHost", "v1", 0, "10.0.0.6"), cluster("org.shop.ByHost", "", 0, "10.0.0.5", "10.0.0.6"),
	} {
		s.Clusters[c.Name] = c
	}
	routes := func(name string, vh ...*snapshot.VirtualHost) {
		s.Routes[name] = &snapshot.RouteConfig{Name: name, VirtualHosts: vh}
	}
	host := func(domain, cluster string, more ...*snapshot.Route) *snapshot.VirtualHost {
		r := to(cluster, snapshot.Match{Path: "/", Fraction: million})
		r.Name = "default"
		return &snapshot.VirtualHost{Name: domain, Domains: []string{domain}, Routes: append(more, r)}
	}
	routes("orders", host("*", "outbound|20880||orders"))
	routes("stock", host("*", "outbound|20880||stock"))
	routes("left", host("*", "outbound|20880||left"))
	routes("20880", host("10.96.0.1", "outbound|20880||orders"), host("org.shop.OrderService", "outbound|20880||orders",
		to("outbound|20880|v1|orders", snapshot.Match{Path: "/org.shop.OrderService/v1", Fraction: million})))
	listener := func(prefix string, port uint16, route string) {
		s.Listeners = append(s.Listeners, &snapshot.Listener{
			Name: prefix, Prefix: netip.MustParsePrefix(prefix), Port: port, RouteName: route, Route: s.Routes[route],
		})
	}
	listener("10.0.0.1/32", 20880, "orders")
	listener("10.0.0.3/32", 20880, "stock")
	listener("0.0.0.0/0", 20880, "20880")
	return s.Seal()
}

// TestNamesHost: what makes a route a policy for its host.
func TestNamesHost(t *testing.T) {
	all := snapshot.Match{Path: "/", Fraction: million}
	two := to("a", all)
	two.Action.Clusters = append(two.Action.Clusters, snapshot.WeightedCluster{Cluster: "b", Weight: 1})
	subset := to("a", all)
	subset.Action.Clusters[0].Subset = snapshot.Metadata{"version": `"v1"`}
	for name, c := range map[string]struct {
		route   *snapshot.Route
		domains []string
		want    bool
	}{
		"a catch-all":            {to("a", all), []string{"*"}, false},
		"a catch-all among more": {to("a", all), []string{"orders", "*"}, false},
		"any interface":          {to("a", snapshot.Match{Path: "/", Fraction: million, Headers: []header{{Name: "interface", Kind: snapshot.HeaderPrefix}}}), []string{"*"}, false},
		"an empty prefix":        {to("a", snapshot.Match{Fraction: million}), []string{"*"}, false},
		"a domain":               {to("a", all), []string{"orders"}, true},
		"a wildcard domain":      {to("a", all), []string{"*.shop"}, true},
		"a path":                 {to("a", snapshot.Match{Path: "/org.", Fraction: million}), []string{"*"}, true},
		"an exact path":          {to("a", snapshot.Match{PathKind: snapshot.PathExact, Path: "/", Fraction: million}), []string{"*"}, true},
		"a header":               {to("a", snapshot.Match{Path: "/", Fraction: million, Headers: []header{{Name: "tag"}}}), []string{"*"}, true},
		"a fraction":             {to("a", snapshot.Match{Path: "/", Fraction: million - 1}), []string{"*"}, true},
		"two clusters":           {two, []string{"*"}, true},
		"a subset":               {subset, []string{"*"}, true},
	} {
		rc := &snapshot.RouteConfig{Name: "r", VirtualHosts: []*snapshot.VirtualHost{{Domains: c.domains, Routes: []*snapshot.Route{c.route}}}}
		s := (&snapshot.Snapshot{Routes: map[string]*snapshot.RouteConfig{"r": rc}}).Seal()
		if got := s.NamesHost(c.route); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		for b, caller := range map[snapshot.Balancing]bool{
			snapshot.BalancingDefault: !c.want, snapshot.BalancingMesh: false, snapshot.BalancingCaller: true,
		} {
			if got := ByCaller(s, c.route, &snapshot.Cluster{Balancing: b}); got != caller {
				t.Errorf("%s, balancing %q: by the caller %v, want %v", name, b, got, caller)
			}
		}
	}
}

// TestRightful: whose interface it is, where the dialled pod is another service's.
func TestRightful(t *testing.T) {
	s := district()
	catchAll, leftTo := s.Routes["stock"].VirtualHosts[0].Routes[0], s.Routes["left"].VirtualHosts[0].Routes[0]
	for name, c := range map[string]struct {
		route      *snapshot.Route
		iface, dst string
		want       string
	}{
		"by domain":          {catchAll, "org.shop.OrderService", "10.0.0.3", "outbound|20880||orders"},
		"by domain, gone":    {catchAll, "org.shop.OrderService", "10.0.0.99", "outbound|20880||orders"},
		"in another case":    {catchAll, "org.shop.orderservice", "10.0.0.3", "outbound|20880||orders"},
		"by host":            {catchAll, "org.shop.ByHost", "10.0.0.3", "outbound|20880||org.shop.ByHost"},
		"its own pod":        {catchAll, "org.shop.OrderService", "10.0.0.2", ""},
		"an unknown one":     {catchAll, "org.shop.Unknown", "10.0.0.3", ""},
		"none":               {catchAll, "", "10.0.0.3", ""},
		"by a named route":   {s.Routes["20880"].VirtualHosts[1].Routes[1], "org.shop.ByHost", "10.0.0.3", ""},
		"left to the caller": {leftTo, "org.shop.OrderService", "10.0.0.7", ""},
		"another's address":  {s.Routes["orders"].VirtualHosts[0].Routes[0], "org.shop.ByHost", "10.0.0.1", "outbound|20880||org.shop.ByHost"},
	} {
		req := &rpc.Request{Interface: c.iface, Method: "m", Authority: c.dst + ":20880"}
		got, ok := Rightful(s, c.route, req, netip.MustParseAddrPort(c.dst+":20880"))
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", name, got, ok, c.want)
		}
	}
	req := &rpc.Request{Interface: "org.shop.OrderService", Undecodable: true}
	if got, ok := Rightful(s, catchAll, req, netip.MustParseAddrPort("10.0.0.3:20880")); ok {
		t.Errorf("what cannot be read is %s's", got)
	}
}

// TestExplainDialled: what operators read of calls to pods.
func TestExplainDialled(t *testing.T) {
	for name, q := range map[string]Question{
		"pod-caller":   {Destination: netip.MustParseAddrPort("10.0.0.1:20880"), Interface: "org.shop.Other", Method: "find"},
		"pod-mesh":     {Destination: netip.MustParseAddrPort("10.0.0.3:20880"), Interface: "org.shop.Other", Method: "find"},
		"pod-named":    {Destination: netip.MustParseAddrPort("10.0.0.2:20880"), Interface: "org.shop.OrderService", Method: "find"},
		"pod-stranger": {Destination: netip.MustParseAddrPort("10.0.0.3:20880"), Interface: "org.shop.OrderService", Method: "find"},
		"pod-pinned":   {Destination: netip.MustParseAddrPort("10.0.0.3:20880"), Interface: "org.shop.OrderService", Method: "$echo"},
		"vip-echo":     {Destination: netip.MustParseAddrPort("10.96.0.1:20880"), Interface: "org.shop.OrderService", Method: "$echo"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(Explain(district(), q), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".json"), string(got)+"\n")
		})
	}
}
