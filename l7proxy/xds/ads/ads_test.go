package ads_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// What is in the scenario plain-name-dubbo, which istiod sent for one Service.
const (
	plainScenario = "plain-name-dubbo"
	plainCluster  = "outbound|20880||provider.dubbo-demo.svc.cluster.local"
	plainRoute    = "provider.dubbo-demo.svc.cluster.local:20880"
	plainListener = "198.19.0.20_20880"
)

// nodeID is that of the pod that the scenarios were recorded for.
const nodeID = "sidecar~198.18.1.20~consumer-a.dubbo-demo~dubbo-demo.svc.cluster.local"

// rig is a Source that follows a control plane.
type rig struct {
	*ads.Source

	t    *testing.T
	path string
	logs *logs
	stop func()

	mu   sync.Mutex
	seen []*snapshot.Snapshot
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// follow starts a Source that keeps its configuration at path.
func follow(t *testing.T, server, path string) *rig {
	t.Helper()
	r := &rig{t: t, path: path, logs: new(logs)}
	var err error
	r.Source, err = ads.New(ads.Options{
		Server: server, Path: path, Logger: slog.New(slog.NewTextHandler(r.logs, nil)),
		Node: ads.Node{ID: nodeID, Cluster: "Kubernetes", Labels: map[string]string{"app": "consumer"}, Locality: "r1/z1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.OnChange(func(s *snapshot.Snapshot) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, s)
	})
	r.Reload()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// started is a control plane and a Source that has what istiod sent in a scenario.
func started(t *testing.T, scenario string) (*plane, *rig) {
	t.Helper()
	p := serve(t, scenario)
	r := follow(t, p.address, filepath.Join(t.TempDir(), "kept"))
	wait(t, "the first snapshot", func() bool { return r.Snapshot().Generation > 0 })
	return p, r
}

// leads is where the plain route leads; "" if there is none.
func (r *rig) leads() string {
	c := r.Snapshot().Routes[plainRoute]
	if c == nil || len(c.VirtualHosts) == 0 {
		return ""
	}
	return c.VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster
}

// endpoints counts those of a cluster; -1 if there is no such cluster.
func (r *rig) endpoints(name string) int {
	c := r.Snapshot().Clusters[name]
	if c == nil {
		return -1
	}
	n := 0
	for _, l := range c.Localities {
		n += len(l.Endpoints)
	}
	return n
}

// lead makes the plain route lead to a cluster; with bad, by a table that is not implemented.
func (p *plane) lead(cluster string, bad bool) {
	m := new(routev3.RouteConfiguration)
	p.get(xds.TypeRoute, plainRoute, m)
	m.MostSpecificHeaderMutationsWins = bad
	m.GetVirtualHosts()[0].GetRoutes()[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: cluster}
	p.set(xds.TypeRoute, plainRoute, m)
}

// TestInitialLoad compares what comes by the stream with what comes of the files.
func TestInitialLoad(t *testing.T) {
	for _, scenario := range []string{plainScenario, "se-dubbo-port", "dubbo-port-http-rules", "http-way", "aeraki", "headless-dubbo-port"} {
		t.Run(scenario, func(t *testing.T) {
			want, _ := xds.Load([]string{filepath.Join(recorded, scenario)})
			_, r := started(t, scenario)
			r.mu.Lock()
			first := r.seen[0]
			r.mu.Unlock()
			// Warm: the first snapshot is the whole, not the part that came first.
			if got, want := summary(first), summary(want); got != want {
				t.Errorf("the first snapshot is\n%s\nthe files make\n%s", got, want)
			}
			for _, rejected := range r.Rejections() {
				if rejected.Name == "virtualOutbound" || rejected.Name == "InboundPassthroughCluster" {
					t.Errorf("what every sidecar gets is rejected: %+v", rejected)
				}
			}
		})
	}
}

// summary names what is in a snapshot. What istiod has no endpoints of differs from what
// the files leave out in nothing that is named here.
func summary(s *snapshot.Snapshot) string {
	var b strings.Builder
	for _, l := range s.Listeners {
		fmt.Fprintf(&b, "listener %s %s:%d routes %q %t tcp %v\n", l.Name, l.Prefix, l.Port, l.RouteName, l.Route != nil, l.TCP)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Routes)) {
		fmt.Fprintf(&b, "route %s %d\n", name, len(s.Routes[name].VirtualHosts))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Clusters)) {
		if name == "InboundPassthroughCluster" {
			continue // surplus
		}
		fmt.Fprintf(&b, "cluster %s", name)
		for _, l := range s.Clusters[name].Localities {
			for _, e := range l.Endpoints {
				fmt.Fprintf(&b, " %s:%d", e.Address, e.Port)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestRequests looks at what istiod is asked.
func TestRequests(t *testing.T) {
	p, _ := started(t, plainScenario)
	wait(t, "acknowledgements of all types", func() bool {
		return !slices.ContainsFunc(order, func(typ string) bool { return len(p.asked(typ, true)) == 0 })
	})
	for _, typ := range []string{xds.TypeCluster, xds.TypeListener} {
		if r := p.asked(typ, false); len(r) != 1 || len(r[0].GetResourceNamesSubscribe()) > 0 {
			t.Errorf("%s is asked for by %v, want all of it once", short(typ), r)
		}
	}
	for typ, want := range map[string]string{xds.TypeEndpoint: plainCluster, xds.TypeRoute: plainRoute} {
		if r := p.asked(typ, false); len(r) != 1 || !slices.Equal(r[0].GetResourceNamesSubscribe(), []string{want}) {
			t.Errorf("%s is asked for by %v, want %s", short(typ), r, want)
		}
	}
	for _, typ := range order {
		if list := p.nacks(typ); len(list) > 0 {
			t.Errorf("%s is refused: %s", short(typ), list)
		}
	}
	node := p.asked(xds.TypeCluster, false)[0].GetNode()
	metadata := node.GetMetadata().AsMap()
	labels, _ := metadata["LABELS"].(map[string]any)
	if node.GetId() != nodeID || metadata["NAMESPACE"] != "dubbo-demo" || metadata["CLUSTER_ID"] != "Kubernetes" ||
		metadata["DNS_CAPTURE"] != "true" || labels["app"] != "consumer" || node.GetLocality().GetZone() != "z1" {
		t.Errorf("the node is %v", node)
	}
}

// TestLowerCase: a listener names routes by a host as it is written, as the clusters are;
// istiod knows routes in lower case, and has them lead there.
func TestLowerCase(t *testing.T) {
	p := serve(t, "gamma-dubbo-port")
	const written, known = "com.x.DemoService:20880", "com.x.demoservice:20880"
	m := new(routev3.RouteConfiguration)
	p.get(xds.TypeRoute, plainRoute, m) // what was recorded of the other is empty
	m.Name = known
	m.VirtualHosts[0].Routes = []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "outbound|20880||com.x.demoservice"}}},
	}}
	p.set(xds.TypeRoute, known, m)
	p.set(xds.TypeRoute, written, &routev3.RouteConfiguration{Name: written}) // as istiod answers it
	r := follow(t, p.address, filepath.Join(t.TempDir(), "kept"))
	wait(t, "the first snapshot", func() bool { return r.Snapshot().Generation > 0 })
	for _, l := range r.Snapshot().Listeners {
		if l.RouteName != written {
			continue
		}
		if l.Route == nil || len(l.Route.VirtualHosts) == 0 || l.Route != r.Snapshot().Routes[written] {
			t.Fatalf("listener %s has no routes, or not those of the snapshot", l.Name)
		}
		if to := l.Route.VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster; r.Snapshot().Clusters[to] == nil {
			t.Errorf("listener %s leads to %s, which is no cluster", l.Name, to)
		}
	}
}

func TestUpdates(t *testing.T) {
	p, r := started(t, plainScenario)
	generation := r.Snapshot().Generation

	// Another version of the same bytes is no news.
	before := r.State().Updates
	p.push(xds.TypeListener, []string{plainListener, "virtualOutbound"}, nil)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "two updates", func() bool { return r.State().Updates >= before+2 })
	p.lead("elsewhere", false)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "the new route", func() bool { return r.leads() == "elsewhere" })
	if got := r.Snapshot().Generation; got != generation+1 {
		t.Errorf("generation %d after one change, want %d", got, generation+1)
	}

	// One endpoint goes, the rest is as it was.
	m := new(endpointv3.ClusterLoadAssignment)
	p.get(xds.TypeEndpoint, plainCluster, m)
	had := r.endpoints(plainCluster)
	m.GetEndpoints()[0].LbEndpoints = m.GetEndpoints()[0].GetLbEndpoints()[1:]
	p.set(xds.TypeEndpoint, plainCluster, m)
	p.push(xds.TypeEndpoint, []string{plainCluster}, nil)
	wait(t, "one endpoint less", func() bool { return r.endpoints(plainCluster) == had-1 })
	if r.leads() != "elsewhere" {
		t.Error("the route changed with the endpoints")
	}
}

func TestRefusal(t *testing.T) {
	p, r := started(t, plainScenario)
	p.lead("bad", true)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "a refusal", func() bool { return len(p.nacks(xds.TypeRoute)) > 0 })
	if reason := p.nacks(xds.TypeRoute)[0]; !strings.Contains(reason, plainRoute) || !strings.Contains(reason, "most_specific_header_mutations_wins") {
		t.Errorf("refused for %q", reason)
	}
	if got := r.leads(); got == "bad" || got == "" {
		t.Errorf("after a refusal the route leads to %q", got)
	}
	if s := r.State(); s.Refused != 1 || len(r.Rejections()) != 1 || r.Stats().Rejections != 1 {
		t.Errorf("state %+v, rejections %v", s, r.Rejections())
	}
	// What has nothing to do with it is acknowledged.
	endpoints := len(p.asked(xds.TypeEndpoint, true))
	p.push(xds.TypeEndpoint, []string{plainCluster}, nil)
	wait(t, "an acknowledgement", func() bool { return len(p.asked(xds.TypeEndpoint, true)) > endpoints })
	if list := p.nacks(xds.TypeEndpoint); len(list) > 0 {
		t.Errorf("endpoints are refused: %s", list)
	}
	p.lead("good", false)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "the good route", func() bool { return r.leads() == "good" && len(r.Rejections()) == 0 })
}

// TestRegistryOnly: that unknown destinations are to be refused is not left out as surplus.
func TestRegistryOnly(t *testing.T) {
	p, r := started(t, "registry-only")
	wait(t, "the policy", func() bool { return r.Snapshot().Unknown == snapshot.UnknownRefuse })
	if list := p.nacks(xds.TypeListener); len(list) > 0 {
		t.Errorf("refused for %q", list)
	}
}

func TestRemoval(t *testing.T) {
	p, r := started(t, plainScenario)
	listeners := len(r.Snapshot().Listeners)

	// A push that leaves something out removes nothing.
	before := len(p.asked(xds.TypeListener, true))
	p.push(xds.TypeListener, nil, nil)
	p.push(xds.TypeCluster, []string{"BlackHoleCluster"}, nil)
	wait(t, "an acknowledgement", func() bool { return len(p.asked(xds.TypeListener, true)) > before })
	p.lead("later", false)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "a later change", func() bool { return r.leads() == "later" })
	if len(r.Snapshot().Listeners) != listeners || r.endpoints(plainCluster) <= 0 {
		t.Errorf("%d listeners, %d endpoints after a push without them", len(r.Snapshot().Listeners), r.endpoints(plainCluster))
	}

	// What is removed goes, and what only that referred to is asked for no more.
	p.push(xds.TypeListener, nil, []string{plainListener})
	p.push(xds.TypeCluster, nil, []string{plainCluster})
	wait(t, "the end of listener and cluster", func() bool {
		return len(r.Snapshot().Listeners) == listeners-1 && r.endpoints(plainCluster) == -1
	})
	if len(r.Snapshot().Routes) > 0 {
		t.Errorf("routes that no listener names are held: %v", r.Snapshot().Routes)
	}
	for typ, name := range map[string]string{xds.TypeRoute: plainRoute, xds.TypeEndpoint: plainCluster} {
		wait(t, "to be asked for no more", func() bool {
			return slices.ContainsFunc(p.requestsOf(typ), func(unsubscribed []string) bool { return slices.Contains(unsubscribed, name) })
		})
	}
}

// requestsOf returns the names that each request of a type wants no more.
func (p *plane) requestsOf(typ string) (all [][]string) {
	for _, r := range p.asked(typ, false) {
		all = append(all, r.GetResourceNamesUnsubscribe())
	}
	return all
}

// TestReconnect: while the control plane is away what holds goes on; when it is back, what
// changed meanwhile is told, also what has gone.
func TestReconnect(t *testing.T) {
	p, r := started(t, plainScenario)
	held := r.leads()
	p.stop()
	wait(t, "the loss", func() bool { s := r.State(); return !s.Connected && s.Reason != "" })
	if r.leads() != held || r.endpoints(plainCluster) <= 0 {
		t.Error("what held does not go on")
	}
	p.lead("meanwhile", false)
	p.set(xds.TypeCluster, "outbound|1||new", &clusterv3.Cluster{
		Name: "outbound|1||new", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{},
	})
	p.set(xds.TypeCluster, "BlackHoleCluster", nil)
	p.start()
	wait(t, "what changed meanwhile", func() bool {
		return r.leads() == "meanwhile" && r.endpoints("outbound|1||new") == 0 && r.endpoints("BlackHoleCluster") == -1
	})
	wait(t, "the state", func() bool { s := r.State(); return s.Connected && s.Reconnects == 1 && s.Reason == "" })
	last := p.asked(xds.TypeRoute, false)
	if r := last[len(last)-1]; !slices.Contains(r.GetResourceNamesSubscribe(), plainRoute) || len(r.GetInitialResourceVersions()) != 1 {
		t.Errorf("routes are asked for again by %v", r)
	}
}

// TestStreamsEnd: a stream that ends because it is old is begun again, and nothing changes.
func TestStreamsEnd(t *testing.T) {
	p, r := started(t, plainScenario)
	generation := r.Snapshot().Generation
	for n := range uint64(3) {
		wait(t, "a stream", func() bool { return r.State().Connected && len(p.asked(xds.TypeRoute, true)) > 0 })
		p.end()
		wait(t, "another stream", func() bool { return r.State().Reconnects == n+1 })
	}
	p.lead("after", false)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "a change", func() bool { return r.leads() == "after" })
	if got := r.Snapshot().Generation; got != generation+1 {
		t.Errorf("generation %d, want %d", got, generation+1)
	}
}

// TestRefusedStreams: a control plane that takes no more streams is asked again.
func TestRefusedStreams(t *testing.T) {
	p := serve(t, plainScenario)
	p.mu.Lock()
	p.refusing = true
	p.mu.Unlock()
	r := follow(t, p.address, filepath.Join(t.TempDir(), "kept"))
	wait(t, "three refused streams", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.begun >= 3
	})
	wait(t, "the reason", func() bool { return strings.Contains(r.State().Reason, "too many streams") })
	if n := strings.Count(r.logs.String(), "too many streams"); n != 1 {
		t.Errorf("the log says it %d times, want once", n)
	}
	p.mu.Lock()
	p.refusing = false
	p.mu.Unlock()
	wait(t, "a snapshot", func() bool { return r.Snapshot().Generation > 0 && r.State().Connected })
}

// TestKept: without the control plane, a restarted proxy begins with what it had; without
// the bad version that it was sent last.
func TestKept(t *testing.T) {
	p, r := started(t, plainScenario)
	p.lead("kept", false)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "the route", func() bool { return r.leads() == "kept" })
	p.lead("bad", true)
	p.push(xds.TypeRoute, []string{plainRoute}, nil)
	wait(t, "a refusal", func() bool { return r.State().Refused == 1 })
	want := summary(r.Snapshot())
	r.stop()
	p.stop()

	again := follow(t, p.address, r.path)
	if got := summary(again.Snapshot()); got != want || again.leads() != "kept" || len(again.Rejections()) > 0 {
		t.Errorf("before anybody answers it has\n%s\nwant\n%s", got, want)
	}
	if s := again.State(); s.Connected || !s.Kept || !s.Updated.IsZero() {
		t.Errorf("state %+v", s)
	}
	// What has gone meanwhile goes when the control plane is back.
	p.set(xds.TypeListener, plainListener, nil)
	p.start()
	wait(t, "the listener's end", func() bool { return len(again.Snapshot().Listeners) == 0 })
	if s := again.State(); s.Kept {
		t.Errorf("state %+v", s)
	}
}

func TestKeptIsDamaged(t *testing.T) {
	p, r := started(t, plainScenario)
	r.stop()
	p.stop()
	whole, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(text []byte) []byte {
		flipped := slices.Clone(text)
		flipped[len(flipped)/2] ^= 1
		return flipped
	}
	same := func(text []byte) []byte { return text }
	tests := []struct {
		name   string
		server string
		text   []byte
		part   func(text []byte) []byte // nil: none is there
		log    string                   // "" if it is used
	}{
		{"whole", p.address, whole, same, ""},
		{"cut", p.address, whole[:len(whole)-10], same, "its sum is wrong"},
		{"a bit", p.address, flip(whole), same, "its sum is wrong"},
		{"empty", p.address, nil, same, "not a kept configuration"},
		{"shorter than a sum", p.address, whole[:20], same, "not a kept configuration"},
		{"something else", p.address, []byte("hello, this is something else of more than one sum's length"), same, "not a kept configuration"},
		{"another server's", "127.0.0.1:1", whole, same, "of another server"},
		{"without its parts", p.address, whole, nil, "no such file"},
		{"a bit of a part", p.address, whole, flip, "its sum is wrong"},
		{"a part that is cut", p.address, whole, func(text []byte) []byte { return text[:len(text)-5] }, "its sum is wrong"},
		{"an empty part", p.address, whole, func([]byte) []byte { return nil }, "its sum is wrong"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kept")
			if err := os.WriteFile(path, test.text, 0o600); err != nil {
				t.Fatal(err)
			}
			parts, _ := filepath.Glob(filepath.Join(filepath.Dir(r.path), "*.part"))
			if len(parts) == 0 {
				t.Fatal("no parts are kept")
			}
			for _, from := range parts {
				text, err := os.ReadFile(from)
				if err == nil && test.part != nil {
					err = os.WriteFile(filepath.Join(filepath.Dir(path), filepath.Base(from)), test.part(text), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			r := follow(t, test.server, path)
			if used := r.Snapshot().Generation > 0; used != (test.log == "") {
				t.Errorf("used: %t", used)
			}
			if test.log != "" && (!strings.Contains(r.logs.String(), test.log) || !strings.Contains(r.logs.String(), path)) {
				t.Errorf("the log says %q, want %q and the file", r.logs, test.log)
			}
		})
	}
}

// TestKeptCannotBeWritten: the proxy goes on, and says so.
func TestKeptCannotBeWritten(t *testing.T) {
	p := serve(t, plainScenario)
	inTheWay := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := follow(t, p.address, filepath.Join(inTheWay, "kept"))
	wait(t, "a snapshot", func() bool { return r.Snapshot().Generation > 0 })
	wait(t, "a sentence in the log", func() bool { return strings.Contains(r.logs.String(), "is not kept") })
}

// TestNothingToKeep: with neither, nothing holds, and the status can say why.
func TestNothingToKeep(t *testing.T) {
	p := serve(t, plainScenario)
	p.stop()
	r := follow(t, p.address, filepath.Join(t.TempDir(), "kept"))
	wait(t, "the reason", func() bool { return strings.Contains(r.State().Reason, "connection refused") })
	if s := r.State(); r.Snapshot().Generation != 0 || s.Connected || s.Kept {
		t.Errorf("generation %d, state %+v", r.Snapshot().Generation, s)
	}
}

// TestProvider: what istiod sends about the pod of the stream are the policies of whoever
// sees the snapshot.
func TestProvider(t *testing.T) {
	p := serve(t, "plain-name-dubbo.provider")
	r := follow(t, p.address, filepath.Join(t.TempDir(), "kept"))
	wait(t, "a snapshot", func() bool { return r.Snapshot().Generation > 0 })
	m := new(listenerv3.Listener)
	p.get(xds.TypeListener, "virtualInbound", m)
	if len(r.Snapshot().Inbounds) == 0 {
		t.Fatalf("no policies of %s; rejected %v", m.GetName(), r.Rejections())
	}
	for _, in := range r.Snapshot().Inbounds {
		if in.Address != snapshot.Viewer || in.Workload != "" {
			t.Errorf("inbound %s is of %s %q", in.Name, in.Address, in.Workload)
		}
	}
}
