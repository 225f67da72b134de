package snapshot

import (
	"net/netip"
	"testing"
)

// TestOwnAddress: which dialled addresses are a provider's own.
func TestOwnAddress(t *testing.T) {
	rc := &RouteConfig{Name: "r", VirtualHosts: []*VirtualHost{
		{Domains: []string{"10.96.0.1", "10.96.0.2:20880", "[fd00::1]", "fd00::2"}}, {Domains: []string{"orders", "*"}},
	}}
	bare := &RouteConfig{Name: "bare", IgnorePort: true, VirtualHosts: rc.VirtualHosts[:1:1]}
	listener := func(prefix string, port uint16, rc *RouteConfig) *Listener {
		return &Listener{Name: prefix, Prefix: netip.MustParsePrefix(prefix), Port: port, RouteName: "r", Route: rc}
	}
	c := &Cluster{Name: "c", Service: Service{Host: "c"}, Localities: []*Locality{{Endpoints: []*Endpoint{
		{Address: netip.MustParseAddrPort("10.0.0.1:20880"), Healthy: true}, {Address: netip.MustParseAddrPort("10.96.0.1:20881")},
	}}}}
	s := (&Snapshot{
		Listeners: []*Listener{
			listener("10.0.0.0/8", 0, rc), listener("fd00::/16", 20880, rc), listener("10.0.0.2/32", 20880, nil),
			listener("10.0.0.3/32", 0, nil), listener("10.97.0.0/16", 20880, bare),
		},
		Routes: map[string]*RouteConfig{"r": rc}, Clusters: map[string]*Cluster{"c": c},
	}).Seal()
	for address, c := range map[string]struct{ named, own bool }{
		"10.0.0.1:20880":  {false, true}, // an endpoint
		"10.96.0.1:20881": {true, true},  // an endpoint that a domain names
		"10.0.0.9:20880":  {false, true}, // of a range
		"10.0.0.2:20880":  {true, false}, // by its listener
		"10.0.0.3:20880":  {false, true}, // by a listener for every port: of a range
		"10.96.0.1:20880": {true, false}, // by a domain
		"10.96.0.2:20880": {true, false}, // by a domain with a port
		"10.96.0.2:20881": {false, true},
		"[fd00::1]:20880": {true, false},
		"[fd00::2]:20880": {true, false},
		"[fd00::3]:20880": {false, true},
		"10.97.0.2:20880": {false, true}, // the port is not compared, so the domain is no address's
		"192.0.2.1:20880": {false, true}, // no listener at all
	} {
		a := netip.MustParseAddrPort(address)
		if got := s.Names(a); got != c.named {
			t.Errorf("%s: named %v, want %v", address, got, c.named)
		}
		if got := s.IsOwn(a); got != c.own {
			t.Errorf("%s: a provider's own %v, want %v", address, got, c.own)
		}
	}
}

// TestServices: what is known of services beyond one listener.
func TestServices(t *testing.T) {
	cluster := func(name, host string, healthy bool, at ...string) *Cluster {
		c := &Cluster{Name: name, Service: Service{Host: host}, Localities: []*Locality{{}}}
		for _, a := range at {
			c.Localities[0].Endpoints = append(c.Localities[0].Endpoints, &Endpoint{Address: netip.MustParseAddrPort(a), Healthy: healthy})
		}
		return c
	}
	v1, all := cluster("outbound|1|v1|Orders", "Orders", true, "10.0.0.1:1"), cluster("outbound|1||Orders", "Orders", true, "10.0.0.1:1", "10.0.0.2:1")
	sick := cluster("sick", "sick", false, "10.0.0.3:1", "10.0.0.1:1")
	rc := func(name, domain, to string) *RouteConfig {
		return &RouteConfig{Name: name, VirtualHosts: []*VirtualHost{{Domains: []string{domain}, Routes: []*Route{{
			Action: Action{Clusters: []WeightedCluster{{Cluster: to, Weight: 1}}, Total: 1},
		}}}}}
	}
	second, first := rc("b", "orders", "sick"), rc("a", "orders", all.Name)
	s := (&Snapshot{
		Routes:   map[string]*RouteConfig{"a": first, "b": second, "c": rc("c", "ord*", all.Name), "d": rc("d", "gone", "gone")},
		Clusters: map[string]*Cluster{v1.Name: v1, all.Name: all, "sick": sick},
	}).Seal()
	if r, c := s.ServiceOf("ORDERS"); r != first || c != all {
		t.Errorf("orders: %v, %v", r, c)
	}
	if r, c := s.ServiceOf("ord"); r != nil || c != nil {
		t.Errorf("a wildcard names %v, %v", r, c)
	}
	if r, c := s.ServiceOf(""); r != nil || c != nil {
		t.Errorf("nothing names %v, %v", r, c)
	}
	for _, c := range []struct {
		at   string
		of   *Cluster
		want bool
	}{
		{"10.0.0.1:1", v1, true}, {"10.0.0.2:1", v1, true}, {"10.0.0.3:1", v1, false}, {"10.0.0.9:1", v1, false},
		{"10.0.0.1:1", sick, true}, {"10.0.0.2:1", sick, false},
	} {
		if got := s.Serves(netip.MustParseAddrPort(c.at), c.of); got != c.want {
			t.Errorf("%s serves %s: %v", c.at, c.of.Name, got)
		}
	}
	if at := s.ClustersAt(netip.MustParseAddrPort("10.0.0.1:1")); len(at) != 3 {
		t.Errorf("clusters at 10.0.0.1: %v", at)
	}
	if !s.Live(first) || s.Live(second) || s.Live(s.Routes["d"]) || s.Live(nil) {
		t.Error("which routes lead to a healthy endpoint")
	}
	if !all.LiveBut(netip.MustParseAddrPort("10.0.0.1:1")) || v1.LiveBut(netip.MustParseAddrPort("10.0.0.1:1")) {
		t.Error("which clusters have another healthy endpoint")
	}
}
