package router_test

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/router"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
)

// TestTLS: an endpoint is reached as its cluster says, and an address as the first cluster
// by name that has an endpoint there.
func TestTLS(t *testing.T) {
	on, address := mutual.TLS{On: true, SNI: "a"}, netip.MustParseAddrPort("10.0.0.1:20880")
	istio := snapshot.Metadata{"tlsMode": `"istio"`}
	e := &snapshot.Endpoint{Address: address, Socket: istio}
	cluster := func(name string, sockets ...mutual.Socket) *snapshot.Cluster {
		return &snapshot.Cluster{Name: name, Sockets: sockets, Localities: []*snapshot.Locality{{Endpoints: []*snapshot.Endpoint{e}}}}
	}
	for name, test := range map[string]struct {
		clusters []*snapshot.Cluster
		of, at   mutual.TLS // the cluster b, and the address
	}{
		"no cluster":                {nil, mutual.TLS{}, mutual.TLS{}},
		"no sockets":                {[]*snapshot.Cluster{cluster("b")}, mutual.TLS{}, mutual.TLS{}},
		"sockets":                   {[]*snapshot.Cluster{cluster("b", mutual.Socket{Match: istio, TLS: on})}, on, on},
		"a plain one before it":     {[]*snapshot.Cluster{cluster("a"), cluster("b", mutual.Socket{TLS: on})}, on, mutual.TLS{}},
		"an encrypted one, then it": {[]*snapshot.Cluster{cluster("a", mutual.Socket{TLS: on}), cluster("b")}, mutual.TLS{}, on},
	} {
		s := &snapshot.Snapshot{Clusters: make(map[string]*snapshot.Cluster)}
		for _, c := range test.clusters {
			s.Clusters[c.Name] = c
		}
		s.Seal()
		if got := router.TLSOf(s, "b", e); got != test.of {
			t.Errorf("%s: the endpoint by %+v, want %+v", name, got, test.of)
		}
		if got := router.TLSAt(s, address); got != test.at {
			t.Errorf("%s: the address by %+v, want %+v", name, got, test.at)
		}
	}
}
