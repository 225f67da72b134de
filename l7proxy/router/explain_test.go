package router

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// shop is a small mesh: a service address with routes, an opaque port, a listener
// whose routes have not come.
func shop() *snapshot.Snapshot {
	endpoint := func(a, version string) *snapshot.Endpoint {
		return &snapshot.Endpoint{
			Address: netip.MustParseAddrPort(a), Weight: 1, Healthy: true, Metadata: snapshot.Metadata{"version": version},
		}
	}
	v1 := &snapshot.Cluster{
		Name: "v1", Kind: snapshot.ClusterEDS, Overprovision: 140,
		Localities: []*snapshot.Locality{{Endpoints: []*snapshot.Endpoint{endpoint("10.0.0.1:20880", `"v1"`), endpoint("10.0.0.2:20880", `"v2"`)}}},
		Subsets:    &snapshot.Subsets{Fallback: snapshot.FallbackAny, Selectors: [][]string{{"version"}}},
	}
	dns := &snapshot.Cluster{
		Name: "dns", Kind: snapshot.ClusterStrictDNS,
		Localities: []*snapshot.Locality{{Endpoints: []*snapshot.Endpoint{{Hostname: "provider.example", Port: 20880, Healthy: true}}}},
	}
	split := to("split", snapshot.Match{Path: "/org.shop.OrderService/"})
	split.Action = snapshot.Action{Total: 100, Clusters: []snapshot.WeightedCluster{
		{Cluster: "v1", Weight: 90, Subset: snapshot.Metadata{"version": `"v2"`}}, {Cluster: "gone", Weight: 10},
	}}
	canary := to("dns", snapshot.Match{Fraction: 50_000, Headers: []header{{Name: "group", Value: "blue"}}})
	nameless := to("v1", snapshot.Match{Headers: []header{{Name: "tag", Kind: snapshot.HeaderPresent, Want: true}}})
	nameless.Name = ""
	rc := &snapshot.RouteConfig{Name: "orders", VirtualHosts: []*snapshot.VirtualHost{
		{Name: "orders", Domains: []string{"198.19.0.20"}, Routes: []*snapshot.Route{nameless, canary, split}},
	}}
	listener := func(name, prefix string, port uint16, l snapshot.Listener) *snapshot.Listener {
		l.Name, l.Prefix, l.Port = name, netip.MustParsePrefix(prefix), port
		return &l
	}
	s := &snapshot.Snapshot{
		Listeners: []*snapshot.Listener{
			listener("orders", "198.19.0.20/32", 20880, snapshot.Listener{RouteName: "orders", Route: rc}),
			listener("redis", "198.19.0.21/32", 6379, snapshot.Listener{TCP: []snapshot.WeightedCluster{{Cluster: "dst", Weight: 1}}}),
			listener("plain", "198.19.0.22/32", 0, snapshot.Listener{}),
			listener("waiting", "fd00::1/128", 20880, snapshot.Listener{RouteName: "later"}),
			listener("wide", "198.20.0.0/16", 20880, snapshot.Listener{RouteName: "orders", Route: rc}),
		},
		Routes: map[string]*snapshot.RouteConfig{"orders": rc},
		Clusters: map[string]*snapshot.Cluster{
			"v1": v1, "dns": dns, "dst": {Name: "dst", Kind: snapshot.ClusterOriginalDst},
		},
	}
	return s.Seal()
}

// Golden decisions: what operators read is a contract. golden says how
// to write them anew.
func TestExplain(t *testing.T) {
	call := func(dst, iface, method string) Question {
		return Question{Destination: netip.MustParseAddrPort(dst), Interface: iface, Method: method}
	}
	grouped := call("198.19.0.20:20880", "org.shop.OrderService", "findOrder")
	grouped.Group = "blue"
	tagged := call("198.19.0.20:20880", "org.shop.StockService", "count")
	tagged.Attachments = map[string]string{"tag": "gray"}
	for name, q := range map[string]Question{
		"route":     call("198.19.0.20:20880", "org.shop.OrderService", "findOrder"),
		"mapped":    call("[::ffff:198.19.0.20]:20880", "org.shop.OrderService", "findOrder"),
		"fraction":  grouped,
		"tagged":    tagged,
		"no-route":  call("198.19.0.20:20880", "org.shop.StockService", "count"),
		"no-host":   call("198.20.0.1:20880", "org.shop.OrderService", "findOrder"),
		"opaque":    call("198.19.0.21:6379", "", ""),
		"no-chain":  call("198.19.0.22:80", "org.shop.OrderService", "findOrder"),
		"no-config": call("[fd00::1]:20880", "org.shop.OrderService", "findOrder"),
		"pass":      call("192.0.2.1:80", "org.shop.OrderService", "findOrder"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(Explain(shop(), q), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".json"), string(got)+"\n")
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (UPDATE_GOLDEN=1 writes it anew):\n%s", path, got)
	}
}

func TestDescribe(t *testing.T) {
	for _, tt := range []struct {
		match snapshot.Match
		want  string
	}{
		{snapshot.Match{Path: "/", Fraction: million}, `:path starts with "/"`},
		{snapshot.Match{PathKind: snapshot.PathExact, Path: "/a/b", IgnoreCase: true, Fraction: 12_500}, `:path is "/a/b" in any case, 1.25 % of them`},
		{snapshot.Match{PathKind: snapshot.PathSeparatedPrefix, Path: "/a", Fraction: million, Headers: []header{
			{Name: "tag", Value: "x", Invert: true, TreatMissingAsEmpty: true},
			{Name: "n", Kind: snapshot.HeaderRange, Min: 1, Max: 5},
			{Name: "m", Kind: snapshot.HeaderPresent},
		}}, `:path is "/a" or below, tag not: is "x" (missing counts as empty), n is a number from 1 to below 5, m is absent`},
	} {
		if got := Describe(&tt.match); got != tt.want {
			t.Errorf("described as\n%s\nwant\n%s", got, tt.want)
		}
	}
}

// dice makes random tables and questions from few words, so that they often
// meet.
type dice struct{ *rand.Rand }

func (d dice) word() string {
	return []string{"", "a", "A", "ab", "a.b", "b", "1", "22"}[d.IntN(8)]
}

func (d dice) header() snapshot.HeaderMatch {
	h := snapshot.HeaderMatch{
		Name: []string{"interface", "method", "version", "group", "tag", ":path", ":authority"}[d.IntN(7)],
		Kind: snapshot.HeaderKind(d.IntN(7)), Value: d.word(), Min: d.Int64N(3), Max: d.Int64N(30),
		Want: d.IntN(2) == 0, IgnoreCase: d.IntN(3) == 0, Invert: d.IntN(3) == 0, TreatMissingAsEmpty: d.IntN(4) == 0,
	}
	switch d.IntN(6) {
	case 0:
		h.Source, h.Index = snapshot.SourceArgument, d.IntN(3)
	case 1:
		h.Source = snapshot.SourceAttachment
	case 2:
		h.Longer = true
	}
	if h.Kind == snapshot.HeaderRegex {
		h.Regex = anchored([]string{".*", "a.*", "[0-9]+"}[d.IntN(3)])
	}
	return h
}

func (d dice) route(i int) *snapshot.Route {
	m := snapshot.Match{
		PathKind: snapshot.PathKind(d.IntN(4)), Path: []string{"", "/", "/a", "/a/ab", "/A"}[d.IntN(5)], IgnoreCase: d.IntN(4) == 0,
		Fraction: []uint32{million, million, 0, 1, 300_000, 600_000}[d.IntN(6)],
	}
	if m.PathKind == snapshot.PathRegex {
		m.PathRegex = anchored([]string{".*", "/a/.*"}[d.IntN(2)])
	}
	for range d.IntN(3) {
		m.Headers = append(m.Headers, d.header())
	}
	r := to(fmt.Sprint("c", i), snapshot.Match{})
	r.Name, r.Match = fmt.Sprint("r", i), m
	return r
}

func (d dice) config() *snapshot.RouteConfig {
	rc := &snapshot.RouteConfig{Name: "rc", IgnorePort: d.IntN(2) == 0}
	domains := []string{"*", "10.0.0.1", "10.0.0.1:80", "a", "*b", "a*", "10.*"}
	d.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
	n := 0
	for _, domain := range domains[:1+d.IntN(4)] {
		vh := &snapshot.VirtualHost{Name: domain, Domains: []string{domain}}
		for range d.IntN(5) {
			vh.Routes = append(vh.Routes, d.route(n))
			n++
		}
		rc.VirtualHosts = append(rc.VirtualHosts, vh)
	}
	return rc
}

func (d dice) question() Question {
	q := Question{
		Destination: netip.MustParseAddrPort("10.0.0.1:80"), Interface: d.word(), Method: d.word(), Version: d.word(), Group: d.word(),
		Attachments: map[string]string{},
	}
	if d.IntN(2) == 0 {
		q.Attachments["tag"] = d.word()
	}
	if d.IntN(2) == 0 {
		q.Arguments = map[int]string{d.IntN(3): d.word()}
	}
	return q
}

// Explain and Match agree on every call: the route that Match takes for a random
// number is the one of Explain's ways whose share the number falls into.
func TestExplainAgreesWithMatch(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(11, 12))}
	taken := 0
	for range 20_000 {
		rc, q := d.config(), d.question()
		if q.Interface == "" && q.Method == "" {
			continue
		}
		s := &snapshot.Snapshot{Listeners: []*snapshot.Listener{{
			Name: "l", Prefix: netip.MustParsePrefix("10.0.0.1/32"), Port: 80, RouteName: "rc", Route: rc,
		}}}
		decision := Explain(s.Seal(), q)
		req := &rpc.Request{
			Interface: q.Interface, Method: q.Method, Version: q.Version, Authority: "10.0.0.1:80",
			Attachments: asked(q), Arguments: asked(q),
		}
		for _, random := range []uint64{0, d.Uint64(), d.Uint64(), math.MaxUint64} {
			want := decision.at(random)
			got := ""
			if r := Match(rc, req, random); r != nil {
				got = r.Name
				taken++
			}
			if got != want {
				t.Fatalf("at %x %+v takes %q, explained as %q:\n%+v", random, q, got, want, decision)
			}
		}
		if (decision.Outcome == OutcomeRoute) == (decision.Reason != "") {
			t.Fatalf("outcome %s for reason %q", decision.Outcome, decision.Reason)
		}
	}
	if taken < 10_000 {
		t.Errorf("only %d of the calls took a route: the tables test too little", taken)
	}
}

// at returns the name of the route for a random number, "" for none.
func (d *Decision) at(random uint64) string {
	if d.Outcome != OutcomeRoute {
		return ""
	}
	share := 0.0
	for _, w := range append([]Way{d.Way}, d.Otherwise...) {
		share += w.Share
		if snapshot.Hit(uint32(math.Round(share*million/100)), random) {
			return w.Route
		}
	}
	return ""
}

// The chain tells of every route that was looked at, each with its reason.
func TestStepsTellWhyNot(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(1, 12))}
	for range 2000 {
		rc := d.config()
		s := &snapshot.Snapshot{Listeners: []*snapshot.Listener{{
			Name: "l", Prefix: netip.MustParsePrefix("10.0.0.1/32"), Port: 80, RouteName: "rc", Route: rc,
		}}}
		decision := Explain(s.Seal(), d.question())
		for _, step := range decision.Steps {
			if step.Object == "" || step.Verdict == "" || step.Why == "" {
				t.Fatalf("a step says nothing: %+v", decision.Steps)
			}
			if step.Verdict == "no" && strings.HasPrefix(step.Object, "route r") &&
				!strings.HasPrefix(step.Why, "needs: ") && !strings.HasPrefix(step.Why, "its fraction ") {
				t.Fatalf("a route does not say what it needs: %+v", step)
			}
		}
	}
}
