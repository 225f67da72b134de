package shelf

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestWritten: what was asked for in lower case leads to the clusters that there are.
func TestWritten(t *testing.T) {
	clusters := map[string]string{
		"outbound|20880||com.x.demoservice":     "outbound|20880||com.x.DemoService",
		"outbound|20880|v2|com.x.demoservice":   "outbound|20880|v2|com.x.DemoService",
		"outbound|20880||com.x.DemoService":     "outbound|20880||com.x.DemoService",
		"outbound|20880||org.com.x.demoservice": "outbound|20880||org.com.x.demoservice",
		"PassthroughCluster":                    "PassthroughCluster",
	}
	for known, want := range clusters {
		route := &snapshot.Route{Action: snapshot.Action{
			Clusters: []snapshot.WeightedCluster{{Cluster: known, Weight: 1}}, Total: 1, Mirrors: []snapshot.Mirror{{Cluster: known}},
		}}
		hosts := written([]*snapshot.VirtualHost{{Name: "all", Routes: []*snapshot.Route{route}}}, "com.x.DemoService:20880")
		got := hosts[0].Routes[0].Action
		if hosts[0].Name != "all" || got.Total != 1 || got.Clusters[0].Cluster != want || got.Mirrors[0].Cluster != want {
			t.Errorf("%s: %+v, want %s", known, got, want)
		}
		if route.Action.Clusters[0].Cluster != known || route.Action.Mirrors[0].Cluster != known {
			t.Errorf("%s: what all views share was changed to %+v", known, route.Action)
		}
	}
}
