package dump_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3" // the dump names one
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds"
	"github.com/dubway/dubway/l7proxy/xds/dump"
)

func resource(t *testing.T, name string, m proto.Message) xds.Resource {
	t.Helper()
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Resource{Name: name, Version: "v1", Body: body}
}

func held(all ...xds.Resource) iter.Seq2[string, xds.Resource] {
	return func(yield func(string, xds.Resource) bool) {
		for _, r := range all {
			if !yield(r.Body.GetTypeUrl(), r) {
				return
			}
		}
	}
}

// TestEnvoyForm: what is written is a ConfigDump by Envoy's own definition.
func TestEnvoyForm(t *testing.T) {
	v := &dump.View{
		Key: "shop/consumer", Node: "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local",
		Held: held(
			resource(t, "one", &clusterv3.Cluster{Name: "one"}), resource(t, "two", &clusterv3.Cluster{Name: "two"}),
			resource(t, "l", &listenerv3.Listener{Name: "l"}), resource(t, "r", &routev3.RouteConfiguration{Name: "r"}),
		),
		Rejected: []xds.Rejection{{Kind: "Listener", Name: "bad", Field: "name", Reason: `is "odd"`}, {Kind: "Cluster", Name: "c", Reason: "no"}},
		Secrets:  []dump.Secret{{Name: "spiffe://cluster.local/ns/shop/sa/consumer", Version: "until 2026"}},
	}
	var b bytes.Buffer
	if err := dump.Write(&b, v, dump.Limit); err != nil {
		t.Fatal(err)
	}
	d := new(adminv3.ConfigDump)
	if err := protojson.Unmarshal(b.Bytes(), d); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	clusters, listeners, routes, secrets := new(adminv3.ClustersConfigDump), new(adminv3.ListenersConfigDump), new(adminv3.RoutesConfigDump), new(adminv3.SecretsConfigDump)
	for _, c := range d.GetConfigs() {
		for _, m := range []proto.Message{clusters, listeners, routes, secrets} {
			if c.MessageIs(m) {
				if err := c.UnmarshalTo(m); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	first, l := new(clusterv3.Cluster), new(listenerv3.Listener)
	if c := clusters.GetDynamicActiveClusters(); len(c) != 3 || c[0].GetVersionInfo() != "v1" || c[0].GetCluster().UnmarshalTo(first) != nil ||
		first.GetName() != "one" || c[2].GetErrorState().GetDetails() == "" {
		t.Errorf("clusters: %v", c)
	}
	if ls := listeners.GetDynamicListeners(); len(ls) != 2 || ls[0].GetActiveState().GetListener().UnmarshalTo(l) != nil || l.GetName() != "l" ||
		ls[1].GetName() != "bad" || !strings.Contains(ls[1].GetErrorState().GetDetails(), `is "odd"`) {
		t.Errorf("listeners: %v", ls)
	}
	if len(routes.GetDynamicRouteConfigs()) != 1 || len(secrets.GetDynamicActiveSecrets()) != 1 {
		t.Errorf("routes %v, secrets %v", routes, secrets)
	}
}

// TestBound: a dump that is too large ends, is JSON all the same, and says so.
func TestBound(t *testing.T) {
	var all []xds.Resource
	for range 100 {
		all = append(all, resource(t, "c", &clusterv3.Cluster{Name: strings.Repeat("c", 1000)}))
	}
	var b bytes.Buffer
	if err := dump.Write(&b, &dump.View{Held: held(all...)}, 20_000); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b.Bytes()) || b.Len() > 30_000 || !strings.Contains(b.String(), "ends here, after 20000 bytes") {
		t.Errorf("%d bytes, valid: %v", b.Len(), json.Valid(b.Bytes()))
	}
}

// most is a writer that counts what it gets at once.
type most struct{ largest, sum int }

func (m *most) Write(p []byte) (int, error) {
	m.largest, m.sum = max(m.largest, len(p)), m.sum+len(p)
	return len(p), nil
}

// TestStreamed: resources are taken one by one, while what was written before is gone.
func TestStreamed(t *testing.T) {
	out := new(most)
	written := 0
	all := func(yield func(string, xds.Resource) bool) {
		one := resource(t, "c", &clusterv3.Cluster{Name: strings.Repeat("c", 10_000)})
		for range 100 {
			written = out.sum
			if !yield(xds.TypeCluster, one) {
				return
			}
		}
	}
	if err := dump.Write(out, &dump.View{Held: all}, dump.Limit); err != nil {
		t.Fatal(err)
	}
	if out.largest > 128<<10 || out.sum < 1_000_000 || written == 0 {
		t.Errorf("%d bytes, at once %d; %d before the last", out.sum, out.largest, written)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestReaderGone(t *testing.T) {
	if err := dump.Write(broken{}, &dump.View{Held: held()}, dump.Limit); err == nil {
		t.Error("nobody says that the reader is gone")
	}
}
