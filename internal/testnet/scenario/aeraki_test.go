package scenario

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/l7proxy/xds/files"
)

// aerakiAddress is where Aeraki's server listens, in the proxy's namespace.
const aerakiAddress = "127.0.0.1:15011"

// aerakis is a server as Aeraki's: aeraki FILE, which has its tables and is read again and
// again.
func aerakis(args []string) error {
	l, err := net.Listen("tcp", aerakiAddress)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	servicev3.RegisterRouteDiscoveryServiceServer(server, &aeraki{path: args[0]})
	return server.Serve(l)
}

type aeraki struct {
	servicev3.UnimplementedRouteDiscoveryServiceServer

	path string
}

// StreamRoutes sends all tables, and sends them again when they have changed.
func (a *aeraki) StreamRoutes(s servicev3.RouteDiscoveryService_StreamRoutesServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	var sent []byte
	for n := 0; s.Context().Err() == nil; n++ {
		if text, err := os.ReadFile(a.path); err == nil && !bytes.Equal(text, sent) {
			sent = text
			all, err := files.Parse(text)
			if err != nil {
				return err
			}
			r := &discoveryv3.DiscoveryResponse{TypeUrl: all[0].Type, VersionInfo: fmt.Sprint(n), Nonce: fmt.Sprint(n)}
			for _, one := range all {
				body, err := anypb.New(one.Message)
				if err != nil {
					return err
				}
				r.Resources = append(r.Resources, body)
			}
			if err := s.Send(r); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// metaListener is what an EnvoyFilter of Aeraki's makes of a ServiceEntry's listener.
const metaListener = `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: 198.51.100.78_20880
  address: {socket_address: {address: 198.51.100.78, port_value: 20880}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.meta_protocol_proxy
      typed_config:
        "@type": type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: type.googleapis.com/aeraki.meta_protocol_proxy.v1alpha.MetaProtocolProxy
        value:
          stat_prefix: outbound|20880||demo
          application_protocol: dubbo
          codec: {name: aeraki.meta_protocol.codec.dubbo}
          rds:
            route_config_name: demo_20880
            config_source: {api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: aeraki-xds}}]}}
          meta_protocol_filters: [{name: aeraki.meta_protocol.filters.router}]
`

// metaTable is what Aeraki makes of a MetaRouter: calls of vips go to one cluster, with an
// attachment more, and all others to another.
func metaTable(vips, others string) string {
	return fmt.Sprintf(`- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: demo_20880
  virtual_hosts:
  - name: dummy
    domains: ["*"]
    routes:
    - name: vips
      match: {prefix: /, headers: [{name: User, exact_match: vip}, {name: method, safe_regex_match: {google_re2: {}, regex: ".*"}}]}
      route: {cluster: %s}
      request_headers_to_add: [{header: {key: tag, value: "100%%"}}]
    - {name: default, match: {prefix: /}, route: {cluster: %s}}
`, vips, others)
}

// TestAeraki: a listener with Aeraki's filter routes real calls by the table that Aeraki's
// server has: by an attachment, changed while they run, and by what it said last when it is
// gone.
func TestAeraki(t *testing.T) {
	m := newMesh(t)
	one := m.pod("one")
	v1, v2 := m.pod("provider-1", 20880), m.pod("provider-2", 20880)
	m.provider(v1, "v1")
	m.provider(v2, "v2")
	dir := m.open()
	const target = "198.51.100.78"
	m.tell(dir, "one", meshtest.Service{Name: "a", Addresses: []string{vip4}, Routes: split(map[string]int{"v1": 1}), Clusters: both(v1, v2)}, metaListener)
	m.tell(dir, "provider", meshtest.Service{Name: "c", Addresses: []string{vip4}, Routes: split(map[string]int{"v1": 1}), Clusters: both(v1, v2)}, "")
	tables := filepath.Join(dir, "tables")
	put := func(text string) {
		t.Helper()
		m.must(os.WriteFile(tables+".new", []byte(text), 0o644))
		m.must(os.Rename(tables+".new", tables))
	}
	put(metaTable("v2", "v1"))
	_, err := m.StartHelper("plane", dir)
	m.must(err)
	server, err := m.StartHelper("aeraki", tables)
	m.must(err)
	m.Start([]*testnet.Pod{one, v1, v2}, "--xds-server", planeAddress, "--aeraki-server", aerakiAddress)
	check := func(what, user, want string) {
		t.Helper()
		m.eventually(what, func() bool {
			request := dubbotest.Request{}
			if user != "" {
				request.Attachments = map[string]string{"user": user}
			}
			r := m.calls(one, callsOf{Target: target + ":20880", N: 5, Request: request, Timeout: 10 * time.Second})
			return r.Answers[want] == 5
		})
	}
	check("the default route", "", "v1")
	check("the route of vips", "vip", "v2")
	put(metaTable("v1", "v2"))
	check("the changed default route", "", "v2")
	check("the changed route of vips", "vip", "v1")

	client := admin.NewClient(admin.ProxySocket(m.StateDir()))
	defer client.Close()
	var e admin.Explanation
	m.must(client.Post(m.ctx, admin.PathExplain, admin.ExplainRequest{From: one.Name, To: "demo", Interface: "a.B", Method: "c"}, &e))
	if e.Outcome != "route" || e.Destination != target+":20880" || e.Route != "default" || !strings.HasPrefix(e.Origin, "metaroutes/demo_20880") {
		t.Errorf("explained as %+v", e)
	}
	var dump bytes.Buffer
	m.must(client.Copy(m.ctx, admin.PathDump+"?pod="+one.Name, &dump))
	for _, want := range []string{"meta_protocol_proxy", "demo_20880", `"v2"`, "ListenersConfigDump"} {
		if !strings.Contains(dump.String(), want) {
			t.Errorf("the dump has no %s", want)
		}
	}

	m.must(server.Stop(10 * time.Second))
	m.eventually("the loss", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && strings.Contains(strings.Join(s.Problems, "\n"), "no server of routes aeraki-xds")
	})
	check("the default route, without the server", "", "v2")
}
