package scenario

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/dubbotest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
	"github.com/dubway/dubway/l7proxy/xds/files"
)

// planeAddress is where the control plane listens, in the proxy's namespace.
const planeAddress = "127.0.0.1:15010"

// plane is a control plane: plane DIR. What it says to a pod of label app=NAME is in the
// file DIR/NAME.yaml; to others it says nothing, and to those that have a DIR/NAME.hold
// beside it, not before that is gone.
func plane(args []string) error {
	l, err := net.Listen("tcp", planeAddress)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, &told{dir: args[0]})
	return server.Serve(l)
}

// told answers each stream with one file.
type told struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	dir string
}

// DeltaAggregatedResources answers each first request of a type with all of it, and each
// later one with the names that it subscribes to.
func (p *told) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	var all []files.Resource
	for n := 0; ; n++ {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if n == 0 {
			labels := r.GetNode().GetMetadata().GetFields()["LABELS"].GetStructValue().GetFields()
			path := filepath.Join(p.dir, labels["app"].GetStringValue())
			if err := gone(s.Context(), path+".hold"); err != nil {
				return err
			}
			text, err := os.ReadFile(path + ".yaml")
			if err != nil {
				return err
			}
			if all, err = files.Parse(text); err != nil {
				return err
			}
		}
		if r.GetResponseNonce() != "" {
			continue
		}
		answer := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl(), Nonce: fmt.Sprint(n)}
		for _, one := range all {
			if one.Type != r.GetTypeUrl() {
				continue
			}
			body, err := anypb.New(one.Message)
			if err != nil {
				return err
			}
			answer.Resources = append(answer.Resources, &discoveryv3.Resource{Name: one.Name, Resource: body})
		}
		if err := s.Send(answer); err != nil {
			return err
		}
	}
}

// gone waits until there is no such file.
func gone(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); os.IsNotExist(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tell writes what pods of label app=NAME are told.
func (m *mesh) tell(dir, app string, s meshtest.Service, more string) {
	m.t.Helper()
	m.must(os.WriteFile(filepath.Join(dir, app+".yaml"), []byte(meshtest.Text(s)+more), 0o644))
}

// registryOnly is what istiod adds where unknown destinations are to be refused.
const registryOnly = `- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: virtualOutbound
  traffic_direction: OUTBOUND
  use_original_dst: true
  address: {socket_address: {address: 0.0.0.0, port_value: 15001}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.tcp_proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
        stat_prefix: BlackHoleCluster
        cluster: BlackHoleCluster
`

// TestViews: a control plane tells two consumers different things, and each is steered and
// routed by its own; a pod of a kind that comes later finds its view; a proxy that is started
// while the control plane is away goes on.
func TestViews(t *testing.T) {
	m := newMesh(t)
	one, two := m.pod("one"), m.pod("two")
	v1, v2 := m.pod("provider-1", 20880), m.pod("provider-2", 20880)
	m.provider(v1, "v1")
	m.provider(v2, "v2")
	dir := m.open()
	const other = "198.51.100.77"
	m.tell(dir, "one", meshtest.Service{Name: "a", Addresses: []string{vip4}, Routes: split(map[string]int{"v1": 1}), Clusters: both(v1, v2)}, registryOnly)
	m.tell(dir, "two", meshtest.Service{Name: "b", Addresses: []string{vip4, other}, Routes: split(map[string]int{"v2": 1}), Clusters: both(v1, v2)}, "")
	m.tell(dir, "provider", meshtest.Service{Name: "c", Addresses: []string{other}, Routes: split(map[string]int{"v1": 1}), Clusters: both(v1, v2)}, "")
	control, err := m.StartHelper("plane", dir)
	m.must(err)
	_, proxy := m.Start([]*testnet.Pod{one, two, v1, v2}, "--xds-server", planeAddress)
	m.eventually("four views", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		if err != nil || s.ControlPlane == nil || len(s.ControlPlane.Views) != 4 {
			return false
		}
		for _, v := range s.ControlPlane.Views {
			if v.Generation == 0 {
				return false
			}
		}
		return true
	})
	check := func(what string, from *testnet.Pod, target, want string) {
		t.Helper()
		m.eventually(what, func() bool {
			r := m.calls(from, callsOf{Target: target + ":20880", N: 5, Request: dubbotest.Request{}, Timeout: 10 * time.Second})
			return r.Answers[want] == 5
		})
	}
	check("the first consumer's own route", one, vip4, "v1")
	check("the second's", two, vip4, "v2")
	check("the second's other destination", two, other, "v2")
	if r := m.calls(one, callsOf{Target: other + ":20880", N: 1, Timeout: 5 * time.Second}); len(r.Errors) == 0 {
		t.Errorf("what only the other consumer knows is steered for the first: %+v", r)
	}

	// The first may not reach what it does not know: a provider's own address is not in its
	// registry.
	direct := v2.Addr(20880).String()
	if r := m.calls(one, callsOf{Target: direct, N: 1, Timeout: 5 * time.Second}); !strings.Contains(strings.Join(r.Errors, " "), "refused") {
		t.Errorf("a connect to an unknown destination ends with %q", r.Errors)
	}
	if r := m.calls(two, callsOf{Target: direct, N: 1, Timeout: 30 * time.Second}); r.Answers["v2"] != 1 {
		t.Errorf("where unknown destinations pass, one answers %v %q", r.Answers, r.Errors)
	}

	// One more of a kind.
	three := m.pod("two-2")
	m.must(m.WaitEnrolled(m.ctx, three))
	check("the newcomer's route", three, other, "v2")

	// The control plane goes, and the proxy too.
	m.must(control.Stop(10 * time.Second))
	m.must(proxy.Stop(30 * time.Second))
	_, err = m.StartProxy(m.ctx, "--access-log", "stdout", "--xds-server", planeAddress)
	m.must(err)
	check("the first consumer's route, kept on disk", one, vip4, "v1")
	check("the second's, kept on disk", two, vip4, "v2")
	s, err := m.ProxyStatus(m.ctx)
	m.must(err)
	if problems := strings.Join(s.Problems, "\n"); !strings.Contains(problems, "what was kept on disk holds") {
		t.Errorf("problems %q", problems)
	}
}
