package directory_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/directory"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// seen is a small mesh: a VIP with two ports, a headless service with two pods, an HTTP port
// at any address, a service of another namespace, one that has only a name, one of Aeraki.
func seen() *snapshot.Snapshot {
	at := func(ip string) netip.Prefix { a := netip.MustParseAddr(ip); return netip.PrefixFrom(a, a.BitLen()) }
	to := func(cluster string) []snapshot.WeightedCluster {
		return []snapshot.WeightedCluster{{Cluster: cluster, Weight: 1}}
	}
	endpoints := func(all ...string) []*snapshot.Locality {
		l := new(snapshot.Locality)
		for _, e := range all {
			l.Endpoints = append(l.Endpoints, &snapshot.Endpoint{Address: netip.MustParseAddrPort(e), Healthy: true})
		}
		return []*snapshot.Locality{l}
	}
	clusters := map[string]*snapshot.Cluster{}
	for name, e := range map[string][]string{
		"outbound|20880||provider.shop.svc.cluster.local": {"10.0.0.1:20880"},
		"outbound|80||web.shop.svc.cluster.local":         {"10.0.0.4:8080"},
		"outbound|20880||loose.shop.svc.cluster.local":    {"10.0.0.5:20881", "10.0.0.6:20881"},
		"outbound|20880||none.shop.svc.cluster.local":     nil,
	} {
		clusters[name] = &snapshot.Cluster{Name: name, Localities: endpoints(e...)}
	}
	web := &snapshot.RouteConfig{Name: "80", VirtualHosts: []*snapshot.VirtualHost{
		{Name: "web", Domains: []string{"web.shop.svc.cluster.local", "web", "10.96.0.4"}},
		{Name: "every", Domains: []string{"*"}},
	}}
	return (&snapshot.Snapshot{Generation: 1, Clusters: clusters, Listeners: []*snapshot.Listener{
		{Name: "1", Prefix: at("10.96.0.1"), Port: 20880, RouteName: "Provider.shop.svc.cluster.local:20880"},
		{Name: "2", Prefix: at("10.96.0.1"), Port: 8080, TCP: to("outbound|8080||provider.shop.svc.cluster.local")},
		{Name: "3", Prefix: at("10.0.0.2"), Port: 20880, RouteName: "headless.shop.svc.cluster.local:20880"},
		{Name: "4", Prefix: at("fd00::2"), Port: 20880, RouteName: "headless.shop.svc.cluster.local:20880"},
		{Name: "5", Prefix: at("10.0.0.3"), Port: 20880, RouteName: "headless.shop.svc.cluster.local:20880"},
		{Name: "6", Prefix: netip.MustParsePrefix("0.0.0.0/0"), Port: 80, RouteName: "80", Route: web},
		{Name: "7", Prefix: at("10.96.0.7"), Port: 20880, RouteName: "provider.bank.svc.cluster.local:20880"},
		{Name: "8", Prefix: at("240.240.0.1"), Port: 20880, RouteName: "org.shop.demo_20880"},
	}}).Seal()
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ name, namespace, address, says, wrong string }{
		{name: "provider.shop.svc.cluster.local:20880", address: "10.96.0.1:20880", says: "stands for 10.96.0.1:20880"},
		{name: "PROVIDER.shop.svc.cluster.local.:8080", address: "10.96.0.1:8080"},
		{name: "provider:20880", namespace: "shop", address: "10.96.0.1:20880"},
		{name: "provider", namespace: "bank", address: "10.96.0.7:20880"},
		{name: "provider.bank", namespace: "shop", address: "10.96.0.7:20880"},
		{name: "provider", namespace: "shop", wrong: "has the ports 8080, 20880: say which, such as provider.shop.svc.cluster.local:8080"},
		{name: "provider:1", namespace: "shop", wrong: "has no port 1; it has 8080, 20880"},
		{name: "provider", wrong: "say the whole name, one of provider.bank.svc.cluster.local, provider.shop.svc.cluster.local"},
		{name: "provider", namespace: "other", wrong: "say the whole name, one of"},
		{name: "headless.shop", address: "10.0.0.2:20880", says: "the first of 3 addresses"},
		{name: "web.shop.svc.cluster.local", address: "10.96.0.4:80"},
		{name: "loose", namespace: "shop", address: "10.0.0.5:20881", says: "has no listener of its own: one of its providers"},
		{name: "loose:20880", namespace: "shop", address: "10.0.0.5:20881"},
		{name: "none", namespace: "shop", wrong: "no listener and no provider of it has an address"},
		{name: "org.shop.demo", namespace: "shop", address: "240.240.0.1:20880"},
		{name: "nobody", wrong: `no host "nobody"`},
		{name: "a:b:c", wrong: "not HOST:PORT"},
		{name: "provider:0", wrong: "is no port"},
		{name: "10.96.0.1", wrong: "an address needs its port"},
		{name: "fd00::1", wrong: "an address needs its port"},
		{name: ":20880", wrong: "names no host"},
	} {
		f, err := directory.Find(seen(), c.name, c.namespace)
		switch {
		case c.wrong != "":
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q of %q: error %v, want %q", c.name, c.namespace, err, c.wrong)
			}
		case err != nil:
			t.Errorf("%q of %q: %v", c.name, c.namespace, err)
		case f.Address.String() != c.address || !strings.Contains(f.String(), c.says):
			t.Errorf("%q of %q %s, want %s and %q", c.name, c.namespace, f, c.address, c.says)
		}
	}
}
