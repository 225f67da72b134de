package l7proxy

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// TestSameNodeEncrypt: which neighbours keep off the short cut, so that their way is
// encrypted.
func TestSameNodeEncrypt(t *testing.T) {
	at := netip.MustParseAddrPort("10.0.0.1:20880")
	pod := workload.New(handoff.Workload{Namespace: "shop", Name: "orders", Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{at.Port()}})
	strict, permissive := &mutual.Port{Strict: true}, &mutual.Port{Offers: []string{"istio"}}
	tests := []struct {
		mode   Encrypt
		tls    bool // the mesh would encrypt it between two nodes
		mutual *mutual.Port
		want   bool
	}{
		{EncryptNever, true, strict, false},
		{EncryptNever, true, permissive, false},
		{EncryptStrict, true, strict, true},
		{EncryptStrict, true, permissive, false},
		{EncryptStrict, false, strict, false},
		{EncryptStrict, true, nil, false},
		{"", true, strict, true},
		{"", true, permissive, false},
		{EncryptAlways, true, strict, true},
		{EncryptAlways, true, permissive, true},
		{EncryptAlways, true, nil, false}, // nobody would end the TLS
		{EncryptAlways, false, permissive, false},
	}
	for _, test := range tests {
		s := (&snapshot.Snapshot{Inbounds: []*snapshot.Inbound{{
			Workload: "shop/orders", Mutual: test.mutual, Known: &snapshot.Listener{}, Plain: &snapshot.Listener{}, TLS: &snapshot.Listener{},
		}}}).Seal()
		p := &Proxy{opts: Options{SameNodeEncrypt: test.mode}}
		if got := p.guards(s, pod, upstream.Key{Endpoint: at, TLS: mutual.TLS{On: test.tls}}); got != test.want {
			t.Errorf("%q, TLS %v, port %+v: off the short cut %v, want %v", test.mode, test.tls, test.mutual, got, test.want)
		}
	}
	if err := Encrypt("sometimes").check(); err == nil {
		t.Error("sometimes is a mode")
	}
}
