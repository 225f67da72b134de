package ads_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/xds"
)

// demoTable is what the listener of the scenario "aeraki" names.
const demoTable = "org.apache.dubbo.samples.basic.api.demoservice_20880"

// tables is a server as Aeraki's, with one table.
type tables struct {
	servicev3.UnimplementedRouteDiscoveryServiceServer

	mu      sync.Mutex
	cluster string
	changed chan struct{} // closed when cluster has changed
}

// serveTables starts one, and tells where it is.
func serveTables(t *testing.T, cluster string) (*tables, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &tables{cluster: cluster, changed: make(chan struct{})}, grpc.NewServer()
	servicev3.RegisterRouteDiscoveryServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s, netip.MustParseAddrPort(l.Addr().String())
}

func (s *tables) lead(cluster string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster = cluster
	close(s.changed)
	s.changed = make(chan struct{})
}

// StreamRoutes serves one stream.
func (s *tables) StreamRoutes(wire servicev3.RouteDiscoveryService_StreamRoutesServer) error {
	if _, err := wire.Recv(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		cluster, changed := s.cluster, s.changed
		s.mu.Unlock()
		body, err := anypb.New(&routev3.RouteConfiguration{Name: demoTable, VirtualHosts: []*routev3.VirtualHost{{Name: "dummy", Domains: []string{"*"},
			Routes: []*routev3.Route{{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}}}}}}})
		if err != nil {
			return err
		}
		if err := wire.Send(&discoveryv3.DiscoveryResponse{TypeUrl: xds.TypeRoute, VersionInfo: cluster, Nonce: cluster, Resources: []*anypb.Any{body}}); err != nil {
			return err
		}
		select {
		case <-wire.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// told is the cluster by which listeners name a server.
func told(at netip.AddrPort) *clusterv3.Cluster {
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: at.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())}}}}
	return &clusterv3.Cluster{Name: "aeraki-xds", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: "aeraki-xds", Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}}}}}}
}

// leadsTo tells where the table leads in a snapshot; "" if there is none.
func leadsTo(s *snapshot.Snapshot) string {
	for _, l := range s.Listeners {
		if l.RouteName == demoTable && l.Route != nil {
			return l.Route.VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster
		}
	}
	return ""
}

// TestAerakisTables: a listener of Aeraki's holds with its table, from the first snapshot on;
// the table's changes hold while the control plane is away; and after a restart without
// either of them what was told last does.
func TestAerakisTables(t *testing.T) {
	aeraki, at := serveTables(t, "one")
	p := serve(t, "aeraki")
	p.set(xds.TypeCluster, "aeraki-xds", told(at))
	path := t.TempDir() + "/kept"
	r := follow(t, p.address, path)
	wait(t, "a snapshot", func() bool { return counted(r) > 0 })
	r.mu.Lock()
	first := r.seen[0]
	r.mu.Unlock()
	if got := leadsTo(first); got != "one" {
		t.Errorf("in the first snapshot the table leads to %q", got)
	}
	if s := r.State().Servers; len(s) != 1 || !s[0].Connected || s[0].Address != at.String() {
		t.Errorf("state: %+v", s)
	}
	aeraki.lead("two")
	wait(t, "a change", func() bool { return leadsTo(r.Snapshot()) == "two" })
	p.stop()
	wait(t, "the loss", func() bool { return !r.State().Connected })
	aeraki.lead("three")
	wait(t, "a change without the control plane", func() bool { return leadsTo(r.Snapshot()) == "three" })
	r.stop()
	again := follow(t, p.address, path)
	if got := leadsTo(again.Snapshot()); got != "three" {
		t.Errorf("after a restart the table leads to %q", got)
	}
}

// TestAerakiAway: without its server, everything else holds, a listener without its table
// among it, and later pushes do not wait for it again.
func TestAerakiAway(t *testing.T) {
	p := serve(t, "aeraki")
	p.set(xds.TypeCluster, "aeraki-xds", told(netip.MustParseAddrPort("127.0.0.1:1")))
	r := follow(t, p.address, t.TempDir()+"/kept")
	wait(t, "a snapshot", func() bool { return len(r.Snapshot().Listeners) > 0 })
	if got := leadsTo(r.Snapshot()); got != "" {
		t.Errorf("a table that nobody told leads to %q", got)
	}
	if s := r.State().Servers; len(s) != 1 || s[0].Connected || s[0].Missing != 1 || s[0].Reason == "" {
		t.Errorf("state: %+v", s)
	}
	_, at := serveTables(t, "one")
	p.set(xds.TypeCluster, "aeraki-xds", told(at))
	p.push(xds.TypeCluster, []string{"aeraki-xds"}, nil)
	wait(t, "the table", func() bool { return leadsTo(r.Snapshot()) == "one" })
}

// counted is how many snapshots there were.
func counted(r *rig) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}
