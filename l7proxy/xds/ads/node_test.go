package ads

import (
	"strings"
	"testing"
)

func TestNode(t *testing.T) {
	tests := []struct {
		node Node
		err  string // "" if it is one
	}{
		{Node{ID: "sidecar~10.0.0.1~pod.ns~ns.svc.cluster.local"}, ""},
		{Node{ID: "sidecar~fd00::1~a.b.ns~"}, ""},
		{Node{ID: "sidecar~10.0.0.1~pod.ns~ns.svc.cluster.local", Locality: "r/z"}, ""},
		{Node{}, "is not sidecar~IP"},
		{Node{ID: "sidecar~10.0.0.1~pod.ns"}, "is not sidecar~IP"},
		{Node{ID: "router~10.0.0.1~pod.ns~ns.svc.cluster.local"}, "is not sidecar~IP"},
		{Node{ID: "sidecar~nowhere~pod.ns~ns.svc.cluster.local"}, "read address"},
		{Node{ID: "sidecar~10.0.0.1~pod~ns.svc.cluster.local"}, "is not POD.NAMESPACE"},
		{Node{ID: "sidecar~10.0.0.1~.ns~ns.svc.cluster.local"}, "is not POD.NAMESPACE"},
		{Node{ID: "sidecar~10.0.0.1~pod.~ns.svc.cluster.local"}, "is not POD.NAMESPACE"},
		{Node{ID: "sidecar~10.0.0.1~pod.ns~other.svc.cluster.local"}, "another namespace's"},
		{Node{ID: "sidecar~10.0.0.1~pod.ns~", Locality: "a/b/c/d"}, "region/zone/subzone"},
	}
	for _, test := range tests {
		m, err := test.node.message()
		switch {
		case test.err == "" && err != nil, test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%+v: %v, want %q", test.node, err, test.err)
		case err == nil && m.GetMetadata().AsMap()["NAMESPACE"] != "ns":
			t.Errorf("%+v: %v", test.node, m)
		}
	}
}

func TestServerIsNamed(t *testing.T) {
	for _, server := range []string{"istiod", ":15010", "istiod:", ""} {
		if _, err := New(Options{Server: server, Node: Node{ID: "sidecar~10.0.0.1~pod.ns~"}}); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
			t.Errorf("New(%q) = %v", server, err)
		}
	}
}
