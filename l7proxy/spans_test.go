package l7proxy

import (
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sight"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/workload"
)

// TestTracingOfProviders: what the server's span of a neighbour's call is made by is what
// the provider's own listener says, where it says anything of the port.
func TestTracingOfProviders(t *testing.T) {
	own := &tracing.Tracing{Service: "own"}
	traced, plain := &snapshot.Listener{Name: "in", Tracing: own}, &snapshot.Listener{Name: "in"}
	p := &Proxy{workloads: workload.NewRegistry(), sight: sight.New()}
	p.workloads.Put(workload.New(handoff.Workload{UID: "shop/orders", Name: "orders", Namespace: "shop", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}))
	in := func(port uint16, l *snapshot.Listener) *snapshot.Inbound {
		return &snapshot.Inbound{Name: "in", Address: netip.MustParseAddr("10.0.0.2"), Port: port, Known: l, Plain: plain, TLS: plain}
	}
	s := &snapshot.Snapshot{Generation: 1, Inbounds: []*snapshot.Inbound{in(20880, traced), in(20881, plain)}}
	p.sight.Put([]snapshot.View{{Snapshot: s.Seal()}})
	for _, tt := range []struct {
		at    string
		want  *tracing.Tracing
		known bool
	}{
		{"10.0.0.2:20880", own, true},
		{"10.0.0.2:20881", nil, true},
		{"10.0.0.2:20882", nil, false},
		{"10.0.0.3:20880", nil, false},
	} {
		if got, known := p.tracing(netip.MustParseAddrPort(tt.at)); got != tt.want || known != tt.known {
			t.Errorf("%s: %v, %v", tt.at, got, known)
		}
	}
}
