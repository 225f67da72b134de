package aeraki_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/aeraki"
)

// plane is a server as Aeraki's: tables whole, for those names that were asked for.
type plane struct {
	servicev3.UnimplementedRouteDiscoveryServiceServer

	mu       sync.Mutex
	address  string
	server   *grpc.Server
	held     map[string]*anypb.Any
	version  int
	requests []*discoveryv3.DiscoveryRequest
	live     chan struct{} // poked when held has changed
}

func serve(t *testing.T) *plane {
	t.Helper()
	p := &plane{address: "127.0.0.1:0", held: make(map[string]*anypb.Any), live: make(chan struct{}, 1)}
	p.start(t)
	t.Cleanup(p.stop)
	return p
}

func (p *plane) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.address)
	for range 100 { // somebody may have the port for a moment
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		l, err = net.Listen("tcp", p.address)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	servicev3.RegisterRouteDiscoveryServiceServer(server, p)
	p.mu.Lock()
	p.address, p.server = l.Addr().String(), server
	p.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

func (p *plane) stop() {
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	server.Stop()
}

// set holds a table, in JSON, and pushes.
func (p *plane) set(t *testing.T, name, text string) {
	t.Helper()
	m := new(routev3.RouteConfiguration)
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.held[name] = body
	p.version++
	p.mu.Unlock()
	select {
	case p.live <- struct{}{}:
	default:
	}
}

// StreamRoutes serves one stream.
func (p *plane) StreamRoutes(wire servicev3.RouteDiscoveryService_StreamRoutesServer) error {
	var names []string
	requests, failed := make(chan *discoveryv3.DiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			r, err := wire.Recv()
			if err != nil {
				failed <- err
				return
			}
			requests <- r
		}
	}()
	for {
		select {
		case err := <-failed:
			return err
		case r := <-requests:
			p.mu.Lock()
			p.requests = append(p.requests, r)
			p.mu.Unlock()
			if slices.Equal(r.GetResourceNames(), names) {
				continue // an acknowledgement
			}
			names = r.GetResourceNames()
		case <-p.live:
		}
		p.mu.Lock()
		r := &discoveryv3.DiscoveryResponse{TypeUrl: xds.TypeRoute, VersionInfo: fmt.Sprint(p.version), Nonce: fmt.Sprint("n", len(p.requests))}
		for _, name := range names {
			if body := p.held[name]; body != nil {
				r.Resources = append(r.Resources, body)
			}
		}
		p.mu.Unlock()
		_ = wire.Send(r)
	}
}

// said returns the reasons of refusals, and the number of acknowledgements.
func (p *plane) said() (refused []string, acks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		switch {
		case r.GetErrorDetail() != nil:
			refused = append(refused, r.GetErrorDetail().GetMessage())
		case r.GetResponseNonce() != "":
			acks++
		}
	}
	return refused, acks
}

// table is one as Aeraki writes it.
func table(name, cluster string) string {
	return fmt.Sprintf(`{"name": %q, "virtual_hosts": [{"name": "dummy", "domains": ["*"], "routes": [
		{"name": "vip", "match": {"prefix": "/", "headers": [{"name": "User", "exact_match": "vip"}]},
		 "route": {"cluster": "vip", "hash_policy": [{"header": {"header_name": "user"}}],
			"request_mirror_policies": [{"cluster": "m", "runtime_fraction": {"default_value": {"numerator": 10000, "denominator": "MILLION"}}}]},
		 "request_headers_to_add": [{"header": {"key": "tag", "value": "100%%"}}]},
		{"name": "default", "match": {"prefix": "/"}, "route": {"cluster": %q}}]}]}`, name, cluster)
}

// rig is a client with a store whose listeners name tables.
type rig struct {
	*aeraki.Client

	store *xds.Store
	news  chan struct{}
}

func ask(t *testing.T, address string) *rig {
	t.Helper()
	r := &rig{news: make(chan struct{}, 1)}
	r.store = xds.NewStore(new(xds.Library), "test", netip.Addr{}, slog.New(slog.DiscardHandler))
	r.Client = aeraki.New(aeraki.Options{
		Store: r.store, Default: address, Logger: slog.New(slog.DiscardHandler),
		Node: func() *corev3.Node { return &corev3.Node{Id: "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local"} },
		Dial: func(_ context.Context, address string) (*grpc.ClientConn, error) {
			return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
		News: func() { r.store.Publish() },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// listen makes listeners name tables, of hosts a and so on; nothing else does any more.
func (r *rig) listen(t *testing.T, hosts ...string) {
	t.Helper()
	u := xds.Update{Type: xds.TypeListener}
	for name := range r.store.Versions(xds.TypeListener) {
		if !slices.Contains(hosts, name) {
			u.Removed = append(u.Removed, name)
		}
	}
	for i, host := range hosts {
		body := new(anypb.Any)
		text := fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": %q,
			"address": {"socket_address": {"address": "240.240.0.%d", "port_value": 20880}}, "filter_chains": [{"filters": [{"name": "f", "typed_config": {
			"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "type.googleapis.com/aeraki.meta_protocol_proxy.v1alpha.MetaProtocolProxy",
			"value": {"application_protocol": "dubbo", "rds": {"route_config_name": "%s_20880", "config_source": {"api_config_source": {
			"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "aeraki-xds"}}]}}}}}}]}]}`, host, i+1, host)
		if err := protojson.Unmarshal([]byte(text), body); err != nil {
			t.Fatal(err)
		}
		u.Changed = append(u.Changed, xds.Resource{Name: host, Body: body})
	}
	if rejected := r.store.Take(u); len(rejected) > 0 {
		t.Fatal(rejected)
	}
	r.store.Publish()
	r.Wake()
}

// leads tells where the last route of a table leads; "" if there is none.
func (r *rig) leads(name string) string {
	rc := r.store.Snapshot().Routes[name]
	if rc == nil {
		return ""
	}
	routes := rc.VirtualHosts[0].Routes
	return routes[len(routes)-1].Action.Clusters[0].Cluster
}

func wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 3000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("timed out: %s", what)
}

// TestTables: tables are asked for by their names, hold when they come and when they change,
// and go when nobody names them.
func TestTables(t *testing.T) {
	p := serve(t)
	p.set(t, "a_20880", table("a_20880", "one"))
	p.set(t, "b_20880", table("b_20880", "two"))
	r := ask(t, p.address)
	r.listen(t, "a")
	wait(t, "a table", func() bool { return r.leads("a_20880") == "one" })
	first := r.store.Snapshot().Routes["a_20880"].VirtualHosts[0].Routes[0]
	h, a := &first.Match.Headers[0], &first.Action
	if h.Source != snapshot.SourceAttachment || h.Name != "User" || a.Edits[0].How != snapshot.EditSet || a.Edits[0].Value[0].Text != "100%" ||
		a.Mirrors[0].Fraction != 10_000 || a.Hash[0].Name != "user" {
		t.Errorf("the table became %+v %+v", h, a)
	}
	if s := r.State(); len(s) != 1 || !s[0].Connected || s[0].Cluster != "aeraki-xds" || s[0].Address != p.address || s[0].Wanted != 1 || s[0].Missing != 0 {
		t.Errorf("state: %+v", s)
	}
	p.set(t, "a_20880", table("a_20880", "three"))
	wait(t, "its change", func() bool { return r.leads("a_20880") == "three" })
	r.listen(t, "a", "b")
	wait(t, "a second table", func() bool { return r.leads("b_20880") == "two" })
	r.listen(t, "b")
	wait(t, "the first to go", func() bool { return r.leads("a_20880") == "" && r.leads("b_20880") == "two" })
	p.mu.Lock()
	node := p.requests[0].GetNode().GetId()
	p.mu.Unlock()
	if !strings.HasPrefix(node, "sidecar~") {
		t.Errorf("asked as %q", node)
	}
	r.listen(t)
	wait(t, "the server to be left", func() bool { return len(r.State()) == 0 && r.leads("b_20880") == "" })
	if refused, acks := p.said(); len(refused) > 0 || acks == 0 {
		t.Errorf("refused %q, acknowledged %d", refused, acks)
	}
}

// TestServerAway: what was told last goes on, and its next change holds when it is back.
func TestServerAway(t *testing.T) {
	p := serve(t)
	p.set(t, "a_20880", table("a_20880", "one"))
	r := ask(t, p.address)
	r.listen(t, "a")
	wait(t, "a table", func() bool { return r.leads("a_20880") == "one" })
	p.stop()
	wait(t, "the loss", func() bool { return !r.State()[0].Connected && r.State()[0].Reason != "" })
	r.listen(t, "a", "b")
	if r.leads("a_20880") != "one" {
		t.Error("the table is gone")
	}
	wait(t, "what is missing", func() bool { s := r.State()[0]; return s.Wanted == 2 && s.Missing == 1 })
	p.set(t, "a_20880", table("a_20880", "two"))
	p.start(t)
	wait(t, "the news", func() bool { return r.leads("a_20880") == "two" && r.State()[0].Connected })
}

// TestRejected: a table with what is not implemented, or what Aeraki does not write, is
// refused by name; its last good version and the other tables hold.
func TestRejected(t *testing.T) {
	for what, c := range map[string]struct{ text, says string }{
		"not implemented":    {`"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [{"name": "x", "weight": 1, "host_rewrite_literal": "y"}]}}`, "host_rewrite_literal"},
		"a bad expression":   {`"match": {"prefix": "/", "headers": [{"name": "a", "safe_regex_match": {"regex": "("}}]}, "route": {"cluster": "x"}`, "missing closing"},
		"a timeout":          {`"match": {"prefix": "/"}, "route": {"cluster": "x", "timeout": "1s"}`, "sets what Aeraki does not"},
		"another prefix":     {`"match": {"prefix": "/a"}, "route": {"cluster": "x"}`, "sets what Aeraki does not"},
		"no cluster":         {`"match": {"prefix": "/"}`, "cluster: required"},
		"a redirect":         {`"match": {"prefix": "/"}, "redirect": {}`, "sets what Aeraki does not"},
		"a source's hash":    {`"match": {"prefix": "/"}, "route": {"cluster": "x", "hash_policy": [{"connection_properties": {"source_ip": true}}]}`, "hash_policy"},
		"a header to remove": {`"match": {"prefix": "/"}, "route": {"cluster": "x"}, "request_headers_to_remove": ["y"]`, "sets what Aeraki does not"},
	} {
		t.Run(what, func(t *testing.T) {
			p := serve(t)
			p.set(t, "a_20880", table("a_20880", "one"))
			p.set(t, "b_20880", table("b_20880", "one"))
			r := ask(t, p.address)
			r.listen(t, "a", "b")
			wait(t, "tables", func() bool { return r.leads("a_20880") == "one" && r.leads("b_20880") == "one" })
			p.set(t, "a_20880", `{"name": "a_20880", "virtual_hosts": [{"name": "dummy", "domains": ["*"], "routes": [{`+c.text+`}]}]}`)
			p.set(t, "b_20880", table("b_20880", "two"))
			wait(t, "the other table", func() bool { return r.leads("b_20880") == "two" })
			wait(t, "a refusal", func() bool {
				refused, _ := p.said()
				return len(refused) > 0 && strings.Contains(refused[0], "a_20880") && strings.Contains(refused[0], c.says)
			})
			if r.leads("a_20880") != "one" || !strings.Contains(r.State()[0].Refused, c.says) {
				t.Errorf("leads to %q, state %+v", r.leads("a_20880"), r.State())
			}
		})
	}
}

// TestNowhere: of a server that nobody says where it is, the state says what to do.
func TestNowhere(t *testing.T) {
	r := ask(t, "")
	r.listen(t, "a")
	wait(t, "a reason", func() bool { return len(r.State()) == 1 && strings.Contains(r.State()[0].Reason, "--aeraki-server") })
	// The control plane may say it later.
	p := serve(t)
	p.set(t, "a_20880", table("a_20880", "one"))
	host, port, _ := net.SplitHostPort(p.address)
	body := new(anypb.Any)
	if err := protojson.Unmarshal(fmt.Appendf(nil, `{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "aeraki-xds", "type": "STATIC",
		"load_assignment": {"cluster_name": "x", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": %q, "port_value": %s}}}}]}]}}`, host, port), body); err != nil {
		t.Fatal(err)
	}
	if rejected := r.store.Take(xds.Update{Type: xds.TypeCluster, Changed: []xds.Resource{{Name: "aeraki-xds", Body: body}}}); len(rejected) > 0 {
		t.Fatal(rejected)
	}
	r.Wake()
	wait(t, "a table", func() bool { return r.leads("a_20880") == "one" })
}
