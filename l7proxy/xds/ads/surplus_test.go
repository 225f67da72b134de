package ads

import (
	"math"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dubway/dubway/l7proxy/xds"
)

// TestSurplusClusters: what istiod sends for a pod's own ports is left out only as long as
// it says nothing else.
func TestSurplusClusters(t *testing.T) {
	connections := func(n uint32) *clusterv3.CircuitBreakers {
		return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxConnections: wrapperspb.UInt32(n)}}}
	}
	dst := &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	one, err := structpb.NewStruct(map[string]any{"services": []any{map[string]any{"host": "provider"}}})
	if err != nil {
		t.Fatal(err)
	}
	services := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": one}}
	tests := []struct {
		name    string
		cluster *clusterv3.Cluster
		want    bool
	}{
		{"of the port", &clusterv3.Cluster{Name: "inbound|20880||", ClusterDiscoveryType: dst, CircuitBreakers: connections(math.MaxUint32)}, true},
		{"which names its service", &clusterv3.Cluster{Name: "inbound|20880||", ClusterDiscoveryType: dst, Metadata: services}, false},
		{"of all others", &clusterv3.Cluster{Name: "InboundPassthroughCluster", ClusterDiscoveryType: dst}, true},
		{"with a limit", &clusterv3.Cluster{Name: "inbound|20880||", ClusterDiscoveryType: dst, CircuitBreakers: connections(100)}, false},
		{"which watches", &clusterv3.Cluster{Name: "inbound|20880||", ClusterDiscoveryType: dst, OutlierDetection: &clusterv3.OutlierDetection{}}, false},
		{"of a Sidecar's ingress", &clusterv3.Cluster{Name: "inbound|8080||"}, false},
		{"of a host", &clusterv3.Cluster{Name: "outbound|20880||host", ClusterDiscoveryType: dst}, false},
	}
	for _, test := range tests {
		body, err := anypb.New(test.cluster)
		if err != nil {
			t.Fatal(err)
		}
		if got := surplus(xds.TypeCluster, xds.Resource{Name: test.cluster.GetName(), Body: body}); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
