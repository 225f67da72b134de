package xds

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"istio.io/api/envoy/extensions/stats"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// provided is the address of the pod that the recorded providers' streams are of.
var provided = netip.MustParseAddr("198.18.1.11")

// strangers resolves types that this program was not built with as ones without fields.
type strangers struct{ *protoregistry.Types }

func (s strangers) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if t, err := s.Types.FindMessageByURL(url); err == nil {
		return t, nil
	}
	return new(emptypb.Empty).ProtoReflect().Type(), nil
}

// sent makes of resources in JSON what a control plane sends of them.
func sent(tb testing.TB, text []byte) []Update {
	tb.Helper()
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		tb.Fatal(err)
	}
	var all []Update
	for _, raw := range list {
		body := new(anypb.Any)
		options := protojson.UnmarshalOptions{Resolver: strangers{protoregistry.GlobalTypes}, DiscardUnknown: true}
		if err := options.Unmarshal(raw, body); err != nil {
			tb.Fatal(err)
		}
		var named struct{ Name, ClusterName string }
		if err := json.Unmarshal(raw, &named); err != nil {
			tb.Fatal(err)
		}
		all = append(all, Update{Type: body.GetTypeUrl(), Changed: []Resource{{Name: named.Name + named.ClusterName, Body: body}}})
	}
	return all
}

// located copies what istiod sent to a provider and says at which address he is, which a
// Store knows.
func located(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, path := range glob(t, dir+"/*.json") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), `"0.0.0.0"`, `"`+provided.String()+`"`))
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestSentIsRead compares what becomes of istiod's resources in protobuf's form with what
// becomes of them in JSON: the same snapshot, and the same rejections.
func TestSentIsRead(t *testing.T) {
	for _, dir := range glob(t, "testdata/istiod/*") {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			from, pod := dir, netip.Addr{}
			if strings.HasSuffix(dir, ".provider") {
				from, pod = located(t, dir), provided
			}
			want, rejected := Load([]string{from})
			store := NewStore(new(Library), "test", pod, slog.New(slog.DiscardHandler))
			for _, path := range glob(t, dir+"/*.json") {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range sent(t, text) {
					store.Take(u)
				}
			}
			store.Publish()
			consistent(t, store.Snapshot())
			if got, want := dump(store.Snapshot()), dump(want); got != want {
				t.Errorf("snapshot:\n%s\nwant that of the files:\n%s", got, want)
			}
			if got, want := report(store.Rejections()), report(rejected); got != want {
				t.Errorf("rejected:\n%s\nwant as of the files:\n%s", got, want)
			}
		})
	}
}

// pack makes an Any, which takes no error of a message that is whole.
func pack(tb testing.TB, m proto.Message) *anypb.Any {
	tb.Helper()
	a, err := anypb.New(m)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// withStats is an update of a listener with a stats filter.
func withStats(t *testing.T, config []byte) Update {
	t.Helper()
	l := &listenerv3.Listener{
		Name: "l",
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 20880},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{
			{Name: "istio.stats", ConfigType: &listenerv3.Filter_TypedConfig{
				TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/stats.PluginConfig", Value: config},
			}},
			{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{
				TypedConfig: pack(t, &tcpv3.TcpProxy{StatPrefix: "x", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "c"}}),
			}},
		}}},
	}
	return Update{Type: TypeListener, Changed: []Resource{{Name: "l", Body: pack(t, l)}}}
}

// TestStats: a stats filter is read in protobuf's form, and what of it is not implemented is
// rejected by its name.
func TestStats(t *testing.T) {
	tests := []struct {
		name   string
		config *stats.PluginConfig
		want   string // field; "" for none
	}{
		{"nothing", &stats.PluginConfig{}, ""},
		{"what istiod sets for every provider", &stats.PluginConfig{DisableHostHeaderFallback: true}, ""},
		{"a tag", &stats.PluginConfig{Metrics: []*stats.MetricConfig{{Dimensions: map[string]string{"zone": "'a'"}}}}, ""},
		{"a definition", &stats.PluginConfig{Definitions: []*stats.MetricDefinition{{Name: "own"}}}, "definitions"},
		{"a match", &stats.PluginConfig{Metrics: []*stats.MetricConfig{{Match: "true"}}}, "metrics[0].match"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config, err := proto.Marshal(test.config)
			if err != nil {
				t.Fatal(err)
			}
			store := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
			rejected := store.Take(withStats(t, config))
			want := "filter_chains[0].filters[0].typed_config." + test.want
			if test.want == "" && len(rejected) > 0 || test.want != "" && (len(rejected) != 1 || rejected[0].Field != want) {
				t.Errorf("rejected %v, want %q", rejected, test.want)
			}
		})
	}
}

// TestSentIsWrong: what is wrong with how a resource was sent is told by its name.
func TestSentIsWrong(t *testing.T) {
	cluster := pack(t, &clusterv3.Cluster{Name: "c"})
	unknown := pack(t, &clusterv3.Cluster{Name: "c"})
	unknown.Value = append(unknown.Value, 0xfa, 0xff, 0x07, 0x00) // field 16383, empty
	tests := []struct {
		name   string
		typ    string
		sent   Resource
		field  string
		reason string
	}{
		{"another name", TypeCluster, Resource{Name: "d", Body: cluster}, "name", "sent as"},
		{"another type", TypeListener, Resource{Name: "c", Body: cluster}, "@type", "in an update of"},
		{"no message", TypeCluster, Resource{Name: "c", Body: &anypb.Any{TypeUrl: TypeCluster, Value: []byte{0xff}}}, "", "proto"},
		{"a later field", TypeCluster, Resource{Name: "c", Body: unknown}, "", "does not know"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
			rejected := store.Take(Update{Type: test.typ, Changed: []Resource{test.sent}})
			if len(rejected) != 1 || rejected[0].Name != test.sent.Name || rejected[0].Field != test.field ||
				!strings.Contains(rejected[0].Reason, test.reason) {
				t.Errorf("rejected %+v, want %s: ...%s...", rejected, test.field, test.reason)
			}
		})
	}
}

// split is a route configuration that leads to a cluster; with bad, one that is rejected.
func split(t *testing.T, name, cluster string, bad bool) Resource {
	t.Helper()
	return Resource{Name: name, Body: pack(t, &routev3.RouteConfiguration{Name: name, MostSpecificHeaderMutationsWins: bad, VirtualHosts: []*routev3.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}},
	}}})}
}

// leads is where the route configuration r leads in a snapshot; "" if there is none.
func leads(s *snapshot.Snapshot) string {
	c := s.Routes["r"]
	if c == nil {
		return ""
	}
	return c.VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster
}

// TestStore takes one update after the other.
func TestStore(t *testing.T) {
	store := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	r := func(cluster string, bad bool) Update {
		return Update{Type: TypeRoute, Changed: []Resource{split(t, "r", cluster, bad)}}
	}
	other := Update{Type: TypeRoute, Changed: []Resource{split(t, "other", "x", false)}}
	steps := []struct {
		name       string
		take       Update
		rejected   int    // of the update
		leads      string // afterwards
		generation uint64
		good       string // where the version leads that is good
	}{
		{"first", r("a", false), 0, "a", 1, "a"},
		{"the same bytes", r("a", false), 0, "a", 1, "a"},
		{"others", r("b", false), 0, "b", 2, "b"},
		{"bad", r("c", true), 1, "b", 2, "b"},
		{"the same bad ones", r("c", true), 1, "b", 2, "b"},
		{"another resource is not refused for it", other, 0, "b", 3, "b"},
		{"good again", r("d", false), 0, "d", 4, "d"},
		{"bad again", r("e", true), 1, "d", 4, "d"},
		{"gone, the last good one too", Update{Type: TypeRoute, Removed: []string{"r"}}, 0, "", 5, ""},
		{"gone already", Update{Type: TypeRoute, Removed: []string{"r"}}, 0, "", 5, ""},
	}
	for _, step := range steps {
		rejected := store.Take(step.take)
		store.Publish()
		s := store.Snapshot()
		if len(rejected) != step.rejected || leads(s) != step.leads || s.Generation != step.generation {
			t.Errorf("%s: rejected %v, leads to %q, generation %d; want %d, %q, %d",
				step.name, rejected, leads(s), s.Generation, step.rejected, step.leads, step.generation)
		}
		// What is good now is what another store would begin with.
		again := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
		for g := range store.Good() {
			again.Take(Update{Type: g.Type, Changed: []Resource{{Name: g.Name, Version: g.Version, Body: g.Body()}}})
		}
		again.Publish()
		if got := leads(again.Snapshot()); got != step.good || len(again.Rejections()) > 0 {
			t.Errorf("%s: what is good leads to %q, want %q; rejected %v", step.name, got, step.good, again.Rejections())
		}
	}
	if n := store.Stats().Rejections; n != 2 {
		t.Errorf("%d rejections were counted, want 2", n)
	}
}

// TestStagedDoesNotHold: what was taken holds after Publish, all of it at once.
func TestStagedDoesNotHold(t *testing.T) {
	store := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	var generations []uint64
	store.OnChange(func(s *snapshot.Snapshot) { generations = append(generations, s.Generation) })
	store.Take(Update{Type: TypeRoute, Changed: []Resource{split(t, "r", "a", false)}})
	store.Take(withStats(t, nil))
	if s := store.Snapshot(); s.Generation != 0 || len(s.Routes)+len(s.Listeners) > 0 {
		t.Errorf("generation %d holds with %d routes, %d listeners", s.Generation, len(s.Routes), len(s.Listeners))
	}
	store.Publish()
	if s := store.Snapshot(); len(s.Routes) != 1 || len(s.Listeners) != 1 || len(generations) != 1 {
		t.Errorf("%d routes, %d listeners hold after generations %v", len(s.Routes), len(s.Listeners), generations)
	}
}

// TestWanted: the providers of a headless service are asked for by the clusters' names,
// although their clusters are of type ORIGINAL_DST; those of istiod's own are not.
func TestWanted(t *testing.T) {
	store := NewStore(new(Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	for _, file := range []string{"clusters", "listeners"} {
		text, err := os.ReadFile("testdata/istiod/headless-dubbo-port/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range sent(t, text) {
			store.Take(u)
		}
	}
	const host = "provider-headless.dubbo-demo.svc.cluster.local"
	if got, want := store.Wanted(TypeEndpoint), []string{"outbound|20880|v1|" + host, "outbound|20880|v2|" + host, "outbound|20880||" + host}; !slices.Equal(got, want) {
		t.Errorf("endpoints are wanted of %q, want %q", got, want)
	}
	if got, want := store.Wanted(TypeRoute), []string{host + ":20880"}; !slices.Equal(got, want) {
		t.Errorf("routes are wanted: %q, want %q", got, want)
	}
}

// TestAskedAs: istiod knows hosts in lower case.
func TestAskedAs(t *testing.T) {
	for name, want := range map[string]string{
		"com.x.DemoService:20880": "com.x.demoservice:20880", "20880": "20880", "Own": "Own", "a.B:InboundX": "a.b:InboundX",
	} {
		if got := AskedAs(name); got != want {
			t.Errorf("AskedAs(%q) = %q, want %q", name, got, want)
		}
	}
}

// FuzzSent takes any bytes as a resource of each type: what is not rejected is in the
// snapshot, and the same bytes again are no change.
func FuzzSent(f *testing.F) {
	for i, typ := range types {
		paths, _ := filepath.Glob("testdata/istiod/http-way/*.json")
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			var list []json.RawMessage
			if err := json.Unmarshal(text, &list); err != nil {
				f.Fatal(err)
			}
			body := new(anypb.Any)
			options := protojson.UnmarshalOptions{Resolver: strangers{protoregistry.GlobalTypes}, DiscardUnknown: true}
			if err := options.Unmarshal(list[len(list)-1], body); err != nil {
				f.Fatal(err)
			}
			if body.GetTypeUrl() == typ {
				f.Add(uint8(i), "20880", body.GetValue())
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, name string, value []byte) {
		typ := types[int(which)%len(types)]
		store := NewStore(new(Library), "test", provided, slog.New(slog.DiscardHandler))
		u := Update{Type: typ, Changed: []Resource{{Name: name, Body: &anypb.Any{TypeUrl: typ, Value: value}}}}
		rejected := store.Take(u)
		store.Publish()
		if held := store.Stats().Resources[keyOf(typ, "").kind]; held+len(rejected) != 1 {
			t.Errorf("%d resources hold, rejected %v", held, rejected)
		}
		if again := store.Take(u); len(again) != len(rejected) {
			t.Errorf("rejected %v, and the same again %v", rejected, again)
		}
		store.Publish()
		if g := store.Snapshot().Generation; g != 1 {
			t.Errorf("generation %d after the same bytes", g)
		}
	})
}

// types are those that a Store takes.
var types = []string{TypeListener, TypeRoute, TypeCluster, TypeEndpoint}
