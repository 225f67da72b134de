package ads_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dubway/dubway/l7proxy/xds"
)

// recorded is where what a real istiod sent is kept.
const recorded = "../testdata/istiod"

// order is istiod's.
var order = []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute}

// plane is a control plane that answers as istiod does: clusters and listeners as a whole,
// endpoints and routes by name, versions that say nothing, and listeners and routes whole
// at every push.
type plane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	t       *testing.T
	address string

	mu       sync.Mutex
	server   *grpc.Server
	held     map[string]map[string]*anypb.Any
	live     *subscriber
	counter  int
	begun    int  // streams
	refusing bool // streams end at once
	requests []*discoveryv3.DeltaDiscoveryRequest
}

// subscriber is a live stream.
type subscriber struct {
	wire  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	names map[string]map[string]bool
	over  chan struct{}
}

// serve starts a control plane that holds what istiod sent in a scenario.
func serve(t *testing.T, scenario string) *plane {
	t.Helper()
	p := &plane{t: t, address: "127.0.0.1:0", held: make(map[string]map[string]*anypb.Any)}
	for _, typ := range order {
		p.held[typ] = make(map[string]*anypb.Any)
	}
	paths, err := filepath.Glob(filepath.Join(recorded, scenario, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenario %s: %v", scenario, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, body := range read(t, text) {
			p.held[body.GetTypeUrl()][name] = body
		}
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

// strangers resolves types that this program was not built with as ones without fields.
type strangers struct{ *protoregistry.Types }

func (s strangers) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if t, err := s.Types.FindMessageByURL(url); err == nil {
		return t, nil
	}
	return new(emptypb.Empty).ProtoReflect().Type(), nil
}

// read makes of resources in JSON what a control plane sends of them, by name.
func read(t *testing.T, text []byte) map[string]*anypb.Any {
	t.Helper()
	var list []json.RawMessage
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*anypb.Any)
	for _, raw := range list {
		body := new(anypb.Any)
		options := protojson.UnmarshalOptions{Resolver: strangers{protoregistry.GlobalTypes}, DiscardUnknown: true}
		if err := options.Unmarshal(raw, body); err != nil {
			t.Fatal(err)
		}
		var named struct{ Name, ClusterName string }
		if err := json.Unmarshal(raw, &named); err != nil {
			t.Fatal(err)
		}
		all[named.Name+named.ClusterName] = body
	}
	return all
}

// start listens, at the same port as before.
func (p *plane) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.address)
	for range 100 { // somebody may have the port for a moment
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		l, err = net.Listen("tcp", p.address)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, p)
	p.mu.Lock()
	p.address, p.server = l.Addr().String(), server
	p.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// stop ends the process, as it were.
func (p *plane) stop() {
	p.mu.Lock()
	server := p.server
	p.mu.Unlock()
	server.Stop()
}

// DeltaAggregatedResources serves one stream.
func (p *plane) DeltaAggregatedResources(wire discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	s := &subscriber{wire: wire, names: make(map[string]map[string]bool), over: make(chan struct{})}
	p.mu.Lock()
	p.begun++
	if p.refusing {
		p.mu.Unlock()
		return status.Error(codes.ResourceExhausted, "too many streams")
	}
	p.live = s
	p.mu.Unlock()
	failed := make(chan error, 1)
	go func() {
		for {
			r, err := wire.Recv()
			if err != nil {
				failed <- err
				return
			}
			p.requested(s, r)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-s.over:
		return nil
	}
}

// requested answers a request as istiod does.
func (p *plane) requested(s *subscriber, r *discoveryv3.DeltaDiscoveryRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, r)
	if r.GetResponseNonce() != "" {
		return
	}
	typ := r.GetTypeUrl()
	names := s.names[typ]
	if names == nil {
		names = make(map[string]bool)
		s.names[typ] = names
	}
	known := slices.Collect(maps.Keys(r.GetInitialResourceVersions()))
	for _, name := range slices.Concat(r.GetResourceNamesSubscribe(), known) {
		names[name] = true
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		delete(names, name)
	}
	if len(r.GetResourceNamesUnsubscribe()) > 0 && len(r.GetResourceNamesSubscribe()) == 0 {
		return
	}
	whole := typ == xds.TypeCluster || typ == xds.TypeListener
	var changed, removed []string
	if whole {
		changed = slices.Collect(maps.Keys(p.held[typ]))
		for _, name := range known {
			if p.held[typ][name] == nil {
				removed = append(removed, name)
			}
		}
	} else {
		changed = slices.Concat(r.GetResourceNamesSubscribe(), known)
	}
	p.send(s, typ, changed, removed)
}

// send sends resources by name. What istiod does not know of endpoints it sends empty.
func (p *plane) send(s *subscriber, typ string, changed, removed []string) {
	p.counter++
	version := fmt.Sprintf("%s/%d", time.Now().Format(time.RFC3339), p.counter)
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ, SystemVersionInfo: version, Nonce: version, RemovedResources: removed}
	slices.Sort(changed)
	for _, name := range slices.Compact(changed) {
		body := p.held[typ][name]
		if body == nil && typ == xds.TypeEndpoint {
			body, _ = anypb.New(&endpointv3.ClusterLoadAssignment{ClusterName: name})
		}
		if body != nil {
			r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Resource: body})
		}
	}
	_ = s.wire.Send(r)
}

// push pushes what is said to have changed, as far as somebody asked for it.
func (p *plane) push(typ string, changed, removed []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live != nil {
		p.send(p.live, typ, changed, removed)
	}
}

// set holds a resource, or forgets it if m is nil. It pushes nothing.
func (p *plane) set(typ, name string, m proto.Message) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == nil {
		delete(p.held[typ], name)
		return
	}
	body, err := anypb.New(m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.held[typ][name] = body
}

// get reads a resource that is held into m.
func (p *plane) get(typ, name string, m proto.Message) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[typ][name] == nil {
		p.t.Fatalf("no %s", name)
	}
	if err := p.held[typ][name].UnmarshalTo(m); err != nil {
		p.t.Fatal(err)
	}
}

// end ends the live stream, as istiod does when a connection is old enough.
func (p *plane) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.live.over)
	p.live = nil
}

// asked returns the requests of a type so far that are no acknowledgements, or those that are.
func (p *plane) asked(typ string, acks bool) []*discoveryv3.DeltaDiscoveryRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*discoveryv3.DeltaDiscoveryRequest
	for _, r := range p.requests {
		if r.GetTypeUrl() == typ && (r.GetResponseNonce() != "") == acks {
			list = append(list, r)
		}
	}
	return list
}

// nacks returns the reasons of refusals of a type.
func (p *plane) nacks(typ string) []string {
	var list []string
	for _, r := range p.asked(typ, true) {
		if r.GetErrorDetail() != nil {
			list = append(list, r.GetErrorDetail().GetMessage())
		}
	}
	return list
}

// wait waits for something to become true, for as long as a busy machine may need.
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

func short(typ string) string { return typ[strings.LastIndexByte(typ, '.')+1:] }
