package snapshot

import (
	"net/netip"
	"testing"
)

func TestNames(t *testing.T) {
	const web, orders = "spiffe://td/ns/shop/sa/web", "spiffe://td/ns/shop/sa/orders"
	tests := []struct {
		names Names
		uri   string
		want  bool
		only  string
	}{
		{"", web, true, ""},
		{web, web, true, web},
		{web, web + "2", false, web},
		{web, "spiffe://td/ns/shop/sa/we", false, web},
		{orders + " " + web, web, true, ""},
		{orders + " " + web, "spiffe://td", false, ""},
		{"spiffe://td/*", web, true, ""},
		{"spiffe://td/*", "spiffe://td.evil.example/ns/shop/sa/web", false, ""},
	}
	for _, test := range tests {
		if got := test.names.Has(test.uri); got != test.want || test.names.Only() != test.only {
			t.Errorf("%q has %q: %v, only %q; want %v, %q", test.names, test.uri, got, test.names.Only(), test.want, test.only)
		}
	}
}

// TestTLSOf: the first socket that an endpoint's metadata match is its.
func TestTLSOf(t *testing.T) {
	on := func(sni string) TLS { return TLS{On: true, SNI: sni} }
	istio, none := Metadata{"tlsMode": `"istio"`}, Metadata(nil)
	address := netip.MustParseAddrPort("10.0.0.1:20880")
	for name, test := range map[string]struct {
		sockets []Socket
		socket  Metadata
		want    TLS
	}{
		"no sockets":           {nil, istio, TLS{}},
		"the one that matches": {[]Socket{{istio, on("a")}, {nil, TLS{}}}, istio, on("a")},
		"the one for the rest": {[]Socket{{istio, on("a")}, {nil, TLS{}}}, none, TLS{}},
		"another value":        {[]Socket{{istio, on("a")}}, Metadata{"tlsMode": `"disabled"`}, TLS{}},
		"more than is asked":   {[]Socket{{istio, on("a")}}, Metadata{"tlsMode": `"istio"`, "x": "1"}, on("a")},
		"the default":          {[]Socket{{Metadata{"x": "1"}, on("a")}, {nil, on("b")}}, istio, on("b")},
	} {
		e := &Endpoint{Address: address, Socket: test.socket}
		c := &Cluster{Name: "c", Sockets: test.sockets, Localities: []*Locality{{Endpoints: []*Endpoint{e}}}}
		if got := c.TLSOf(e); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
		s := (&Snapshot{Clusters: map[string]*Cluster{"c": c}}).Seal()
		if got := s.TLSAt(address); got != test.want {
			t.Errorf("%s: at its address %+v, want %+v", name, got, test.want)
		}
	}
}
