package principal_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/principal"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/workload"
)

func TestBook(t *testing.T) {
	here := netip.MustParseAddrPort("10.0.0.1:20880")
	account := identity.Account{Namespace: "shop", Name: "web"}
	w := workload.New(handoff.Workload{
		UID: "1", Namespace: "shop", ServiceAccount: "web", Addresses: []netip.Addr{here.Addr()}, Ports: []uint16{20880},
	})
	source := new(identitytest.Source)
	source.Put(identitytest.New(t).Issue(account, time.Now().Add(time.Hour)))
	book := principal.Book{Workloads: workload.NewRegistry(), Identities: source}
	book.Workloads.Put(w)
	const shown, ours, local = "spiffe://a", "spiffe://b", "spiffe://cluster.local/ns/shop/sa/web"
	there := netip.MustParseAddrPort("10.0.9.9:20880")
	mesh := mutual.TLS{On: true, Names: shown}
	tests := []struct {
		name                string
		endpoint            netip.AddrPort
		describe            func(c *rpc.Call)
		want                rpc.Security
		source, destination string
	}{
		{"accepted by mutual TLS", here, func(c *rpc.Call) { book.Accepted(c, there.Addr(), shown, ours) }, rpc.SecurityMutual, shown, ours},
		{"the same, from this node", here, func(c *rpc.Call) { book.Accepted(c, here.Addr(), shown, ours) }, rpc.SecurityMutual, shown, ours},
		{"accepted from this node", here, func(c *rpc.Call) { book.Accepted(c, here.Addr(), "", "") }, rpc.SecurityNode, local, local},
		{"accepted from anywhere", here, func(c *rpc.Call) { book.Accepted(c, there.Addr(), "", "") }, rpc.SecurityNone, "", ""},
		{"planned by mutual TLS", there, func(c *rpc.Call) { book.Planned(c, account, mesh) }, rpc.SecurityMutual, "spiffe://cluster.local/ns/shop/sa/web", shown},
		{"planned as nobody", there, func(c *rpc.Call) { book.Planned(c, identity.Account{}, mesh) }, rpc.SecurityMutual, "", shown},
		{
			"planned to one of several", there, func(c *rpc.Call) { book.Planned(c, account, mutual.TLS{On: true, Names: "spiffe://a spiffe://b"}) },
			rpc.SecurityMutual, "spiffe://cluster.local/ns/shop/sa/web", "",
		},
		{"planned within this node", here, func(c *rpc.Call) { book.Planned(c, account, mutual.TLS{}) }, rpc.SecurityNode, local, local},
		{"planned to anywhere", there, func(c *rpc.Call) { book.Planned(c, account, mutual.TLS{}) }, rpc.SecurityNone, "", ""},
		{"dialled by mutual TLS", there, func(c *rpc.Call) { book.Dialled(c, shown, ours) }, rpc.SecurityMutual, ours, shown},
		{"dialled at a port that is not enrolled", netip.AddrPortFrom(here.Addr(), 1), func(c *rpc.Call) { book.Dialled(c, "", "") }, rpc.SecurityNone, "", ""},
	}
	for _, test := range tests {
		c := &rpc.Call{Source: w.Peer, Destination: w.Peer, Endpoint: test.endpoint}
		test.describe(c)
		if c.Security != test.want || c.SourcePrincipal != test.source || c.DestinationPrincipal != test.destination {
			t.Errorf("%s: %s from %q to %q", test.name, c.Security, c.SourcePrincipal, c.DestinationPrincipal)
		}
	}
	unknown := &rpc.Call{Source: w.Peer, Endpoint: here}
	if book.Dialled(unknown, "", ""); unknown.DestinationPrincipal != "" {
		t.Errorf("nobody is %q", unknown.DestinationPrincipal)
	}
}
