package downstream

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestUnknownDestination: with REGISTRY_ONLY, what no listener is for and comes to the proxy
// nevertheless is refused; without, and where a pod speaks to itself, it passes.
func TestUnknownDestination(t *testing.T) {
	somewhere := netip.MustParseAddrPort("192.0.2.77:443") // nobody
	p := newProvider(t)
	cases := map[string]struct {
		policy  snapshot.Unknown
		to      netip.AddrPort
		refused bool
	}{
		"refused":       {snapshot.UnknownRefuse, somewhere, true},
		"to oneself":    {snapshot.UnknownRefuse, p.addr, false},
		"nobody's rule": {snapshot.UnknownPass, p.addr, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, p.addr)
			r.change(func(s *snapshot.Snapshot) { s.Unknown = c.policy })
			r.dst.Store(&c.to)
			conn, err := net.DialTimeout("tcp", r.ln.Addr().String(), 30*time.Second)
			if err == nil {
				_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
				defer func() { _ = conn.Close() }()
			}
			if !c.refused {
				if err != nil {
					t.Fatal(err)
				}
				waitFor(t, "the opening record", func() bool {
					r.rec.mu.Lock()
					defer r.rec.mu.Unlock()
					return len(r.rec.conns) > 0 && r.rec.conns[0].Why == rpc.WhyNone && !r.rec.conns[0].Closed
				})
				return
			}
			if err == nil { // the reset may come while the connect is on its way
				_, err = io.ReadAll(conn)
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%v, want a reset", err)
			}
			waitFor(t, "the record", func() bool {
				r.rec.mu.Lock()
				defer r.rec.mu.Unlock()
				return len(r.rec.conns) == 1 && r.rec.conns[0].Why == rpc.WhyDenied && r.rec.conns[0].Closed
			})
		})
	}
}
