package mutual

import "testing"

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

// TestOf: the first socket that an endpoint's metadata match is its.
func TestOf(t *testing.T) {
	on := func(sni string) TLS { return TLS{On: true, SNI: sni} }
	istio, none := map[string]string{"tlsMode": `"istio"`}, map[string]string(nil)
	for name, test := range map[string]struct {
		sockets  []Socket
		metadata map[string]string
		want     TLS
	}{
		"no sockets":           {nil, istio, TLS{}},
		"the one that matches": {[]Socket{{istio, on("a")}, {nil, TLS{}}}, istio, on("a")},
		"the one for the rest": {[]Socket{{istio, on("a")}, {nil, TLS{}}}, none, TLS{}},
		"another value":        {[]Socket{{istio, on("a")}}, map[string]string{"tlsMode": `"disabled"`}, TLS{}},
		"more than is asked":   {[]Socket{{istio, on("a")}}, map[string]string{"tlsMode": `"istio"`, "x": "1"}, on("a")},
		"the default":          {[]Socket{{map[string]string{"x": "1"}, on("a")}, {nil, on("b")}}, istio, on("b")},
	} {
		if got := Of(test.sockets, test.metadata); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
