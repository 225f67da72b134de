package l7proxy_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// small is two clusters, a split of two routes, an opaque listener, and a
// listener whose routes have not been given.
func small() *snapshot.Snapshot {
	endpoint := func(a string, healthy bool) *snapshot.Endpoint {
		return &snapshot.Endpoint{Address: netip.MustParseAddrPort(a), Weight: 1, Healthy: healthy}
	}
	rc := &snapshot.RouteConfig{Name: "provider", VirtualHosts: []*snapshot.VirtualHost{{
		Name: "all", Domains: []string{"*"}, Routes: []*snapshot.Route{
			{
				Name: "canary", Origin: "routes/provider virtual_hosts[0].routes[0]",
				Match:  snapshot.Match{PathKind: snapshot.PathExact, Path: "/demo.Echo/say", Fraction: 1_000_000},
				Action: snapshot.Action{Total: 100, Clusters: []snapshot.WeightedCluster{{Cluster: "v1", Weight: 90}, {Cluster: "gone", Weight: 10}}},
			},
			{
				Name: "rest", Match: snapshot.Match{Path: "/demo.", Fraction: 500_000},
				Action: snapshot.Action{Total: 1, Clusters: []snapshot.WeightedCluster{{Cluster: "v1", Weight: 1}}},
			},
		},
	}}}
	return (&snapshot.Snapshot{
		Generation: 7,
		Listeners: []*snapshot.Listener{
			{Name: "vip", Prefix: netip.MustParsePrefix("10.9.0.1/32"), Port: 20880, RouteName: "provider", Route: rc},
			{Name: "vip6", Prefix: netip.MustParsePrefix("fd00::9/128"), Port: 20880, RouteName: "late"},
			{
				Name: "net", Prefix: netip.MustParsePrefix("10.8.0.0/16"),
				TCP: []snapshot.WeightedCluster{{Cluster: "v1", Weight: 1}},
			},
			{Name: "range", Prefix: netip.MustParsePrefix("10.7.0.0/16"), Port: 3306},
		},
		Routes: map[string]*snapshot.RouteConfig{"provider": rc},
		Clusters: map[string]*snapshot.Cluster{"v1": {
			Name: "v1", Overprovision: 140, PanicThreshold: 50, Localities: []*snapshot.Locality{{
				Weight: 1, Endpoints: []*snapshot.Endpoint{endpoint("10.0.0.1:20880", true), endpoint("10.0.0.2:20880", true), endpoint("10.0.0.3:20880", false)},
			}},
		}},
	}).Seal()
}

func TestRoutes(t *testing.T) {
	list := l7proxy.Routes(small())
	if list.APIVersion != admin.APIVersion || list.Generation != 7 {
		t.Errorf("document %s of generation %d", list.APIVersion, list.Generation)
	}
	byListener := make(map[string][]admin.RouteStatus)
	for _, r := range list.Items {
		byListener[r.Listener] = append(byListener[r.Listener], r)
	}
	vip := byListener["vip"]
	if len(vip) != 2 || vip[0].Name != "canary" || vip[1].Name != "rest" {
		t.Fatalf("the routes of vip are %+v, want canary and rest in their order", vip)
	}
	canary := vip[0]
	if canary.Address != "10.9.0.1:20880" || canary.RouteConfig != "provider" || canary.VirtualHost != "all" ||
		canary.Path != "proxy" || canary.Origin != "routes/provider virtual_hosts[0].routes[0]" ||
		!strings.Contains(canary.Match, "/demo.Echo/say") || !slices.Equal(canary.Domains, []string{"*"}) {
		t.Errorf("the first route is %+v", canary)
	}
	want := []admin.RouteTarget{
		{Cluster: "v1", Weight: 90, Known: true, Endpoints: 3, Healthy: 2},
		{Cluster: "gone", Weight: 10},
	}
	for i, w := range want {
		if g := canary.Clusters[i]; g.Cluster != w.Cluster || g.Weight != w.Weight || g.Known != w.Known || g.Endpoints != w.Endpoints || g.Healthy != w.Healthy {
			t.Errorf("target %d is %+v, want %+v", i, g, w)
		}
	}
	for name, address := range map[string]string{"net": "10.8.0.0/16:*", "range": "10.7.0.0/16:3306"} {
		if r := byListener[name]; len(r) != 1 || r[0].Path != "tcp" || r[0].Match != "opaque" || r[0].Address != address {
			t.Errorf("listener %s has %+v, want one opaque entry for %s", name, r, address)
		}
	}
	// A list without entries is one in JSON too.
	for _, s := range []*snapshot.Snapshot{(&snapshot.Snapshot{}).Seal(), small()} {
		data, err := json.Marshal(l7proxy.Routes(s))
		if err != nil || strings.Contains(string(data), "null") {
			t.Errorf("the document is %s, %v; want no null", data, err)
		}
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		name, to, iface, method        string
		outcome, listener, route, last string // last: what the last step is about
		endpoints                      int
	}{
		{"a route", "10.9.0.1:20880", "demo.Echo", "say", "route", "vip", "canary", "", 2},
		{"v4-mapped", "[::ffff:10.9.0.1]:20880", "demo.Echo", "say", "route", "vip", "canary", "", 2},
		{"another", "10.9.0.1:20880", "demo.Other", "get", "route", "vip", "rest", "virtual host all", 2},
		{"no route", "10.9.0.1:20880", "shop.Cart", "get", "refuse", "vip", "", "", 0},
		{"no listener", "10.200.0.1:20880", "demo.Echo", "say", "pass", "", "", "listeners", 0},
		{"routes not given", "[fd00::9]:20880", "demo.Echo", "say", "refuse", "vip6", "", "route configuration late", 0},
		{"opaque", "10.8.1.1:3306", "", "", "tcp", "net", "", "cluster v1", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, err := l7proxy.Explain(small(), admin.ExplainRequest{To: test.to, Interface: test.iface, Method: test.method})
			if err != nil {
				t.Fatal(err)
			}
			if e.APIVersion != admin.APIVersion || e.Generation != 7 {
				t.Errorf("document %s of generation %d", e.APIVersion, e.Generation)
			}
			if e.Outcome != test.outcome || e.Listener != test.listener || e.Route != test.route {
				t.Errorf("%s by %q and route %q, want %s by %q and route %q", e.Outcome, e.Listener, e.Route, test.outcome, test.listener, test.route)
			}
			if len(e.Endpoints) < test.endpoints || test.endpoints == 0 && len(e.Endpoints) > 0 {
				t.Errorf("endpoints %v, want %d", e.Endpoints, test.endpoints)
			}
			if n := len(e.Steps); test.outcome == "route" && n > 0 && e.Steps[n-1].Object == "lane" {
				e.Steps = e.Steps[:n-1]
			} else if test.outcome == "route" {
				t.Errorf("the steps are %+v, want that they end with the lane", e.Steps)
			}
			if len(e.Steps) == 0 || !strings.HasPrefix(e.Steps[len(e.Steps)-1].Object, test.last) {
				t.Errorf("the steps are %+v, want that they end with %q", e.Steps, test.last)
			}
			if (test.outcome == "refuse" || test.outcome == "pass") && e.Reason == "" {
				t.Error("there is no reason")
			}
		})
	}
}

func TestExplainTargets(t *testing.T) {
	e, err := l7proxy.Explain(small(), admin.ExplainRequest{To: "10.9.0.1:20880", Interface: "demo.Echo", Method: "say"})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Clusters) != 2 || !e.Clusters[0].Known || e.Clusters[0].Weight != 90 || e.Clusters[1].Known || e.Share != 100 {
		t.Errorf("clusters %+v for %v %%", e.Clusters, e.Share)
	}
	e, err = l7proxy.Explain(small(), admin.ExplainRequest{To: "10.9.0.1:20880", Interface: "demo.Other", Method: "get"})
	if err != nil || e.Share != 50 {
		t.Errorf("%v %% take the route, %v; want its fraction", e.Share, err)
	}
}

func TestExplainBadQuestion(t *testing.T) {
	for to, want := range map[string]string{"": "names no host", "10.0.0.1": "needs its port", "provider:20880": "no host"} {
		if _, err := l7proxy.Explain(small(), admin.ExplainRequest{To: to}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Explain to %q = %v, want %q", to, err, want)
		}
	}
}

// TestCapabilities holds the names against what the kernel says of the process.
func TestCapabilities(t *testing.T) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:")
	effective, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	got := l7proxy.Capabilities()
	n := 0
	for bit, name := range map[int]string{
		0: "CAP_CHOWN", 7: "CAP_SETUID", 10: "CAP_NET_BIND_SERVICE", 12: "CAP_NET_ADMIN", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN",
		24: "CAP_SYS_RESOURCE", 31: "CAP_SETFCAP", 34: "CAP_SYSLOG", 38: "CAP_PERFMON", 39: "CAP_BPF", 40: "CAP_CHECKPOINT_RESTORE",
	} {
		if has := effective&(1<<bit) != 0; slices.Contains(got, name) != has {
			t.Errorf("%s is listed: %v, want %v", name, !has, has)
		}
	}
	for bit := range 64 {
		n += int(effective >> bit & 1)
	}
	if len(got) != n || got == nil {
		t.Errorf("%d capabilities, want %d", len(got), n)
	}
}
