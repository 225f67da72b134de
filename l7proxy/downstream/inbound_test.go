package downstream

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestInboundOpaqueDenied: at its provider, a connection that is not Dubbo is held
// against what is for it, TLS against its own, and denied ones are closed; the
// provider's application sees nothing of them.
func TestInboundOpaqueDenied(t *testing.T) {
	nobody := &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}}
	for first, in := range map[string]*snapshot.Inbound{
		"GET / HTTP/1.1\r\n\r\n":      {Plain: &snapshot.Listener{RouteName: "r", HTTPGate: nobody}, TLS: &snapshot.Listener{}},
		"hello, is anybody in?":       {Plain: &snapshot.Listener{TCPGate: nobody}, TLS: &snapshot.Listener{}},
		"\x16\x03\x01\x00\x05\x01hey": {Plain: &snapshot.Listener{}, TLS: &snapshot.Listener{TCPGate: nobody}},
	} {
		p := newProvider(t)
		r := newRig(t, p.addr)
		r.in.Store(true)
		r.dst.Store(&p.addr)
		in.Known, in.Workload = in.Plain, "shop/consumer"
		s := &snapshot.Snapshot{Inbounds: []*snapshot.Inbound{in}}
		r.snap.Store(s.Seal())
		c := r.dial()
		_, _ = c.Write([]byte(first))
		if n, err := io.ReadAll(c); len(n) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: read %q, %v; want a reset", first, n, err)
		}
		waitFor(t, "the record", func() bool {
			r.rec.mu.Lock()
			defer r.rec.mu.Unlock()
			return len(r.rec.conns) == 1 && r.rec.conns[0].Why == rpc.WhyDenied && r.rec.conns[0].Call.Reporter == rpc.ReporterDestination
		})
	}
}
