package downstream

import (
	"bufio"
	"fmt"
	"net"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// mirrored gives the rig's route a mirror, whose cluster is s.
func (r *rig) mirrored(p, shadow *provider, fraction uint32) {
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Routes["r"].Whole = true
		s.Routes["r"].VirtualHosts[0].Routes[0].Action.Mirrors = []snapshot.Mirror{{Cluster: "s", Fraction: fraction}}
		s.Clusters["s"] = &snapshot.Cluster{
			Name: "s", Overprovision: 140, PanicThreshold: 50, Localities: []*snapshot.Locality{{
				Weight: 1, Endpoints: []*snapshot.Endpoint{{Address: shadow.addr, Weight: 1, Healthy: true}},
			}},
		}
	}, p.addr)
}

// TestMirror: the shadow gets a share of the requests, answers none, and nothing of it
// is seen or counted on the consumer's side.
func TestMirror(t *testing.T) {
	for _, tt := range []struct {
		fraction uint32
		n        int
		min, max int64
	}{
		{1_000_000, 100, 100, 100},
		{250_000, 400, 46, 160}, // 100, and more than 6 standard deviations
	} {
		t.Run(fmt.Sprint(tt.fraction), func(t *testing.T) {
			p, shadow := newProvider(t), newProvider(t)
			r := newRig(t, p.addr)
			r.mirrored(p, shadow, tt.fraction)
			c := r.dial()
			for id := range uint64(tt.n) {
				f := request(id, twoWay, []byte("\x01x"))
				write(t, c, f)
				wantEcho(t, c, "the call", f)
			}
			m := r.env.Mirror
			waitFor(t, "the copies have arrived", func() bool {
				n := shadow.requests.Load()
				return n >= tt.min && n == int64(m.Sent.Load())
			})
			if n := shadow.requests.Load(); n < tt.min || n > tt.max || m.Dropped.Load() > 0 {
				t.Errorf("%d copies, %d dropped; want %d to %d", n, m.Dropped.Load(), tt.min, tt.max)
			}
			waitFor(t, "a record of each call", func() bool {
				r.rec.mu.Lock()
				defer r.rec.mu.Unlock()
				return r.rec.results[rpc.ResultValue] == tt.n
			})
			r.rec.mu.Lock()
			defer r.rec.mu.Unlock()
			if r.rec.results[rpc.ResultNone] != 0 || r.env.Pool.Stats().Unasked.Load() != 0 {
				t.Errorf("%v records, %d answers to copies", r.rec.results, r.env.Pool.Stats().Unasked.Load())
			}
		})
	}
}

// TestMirrorHoldsUpNobody: neither a shadow that takes nothing nor one that is away.
func TestMirrorHoldsUpNobody(t *testing.T) {
	p, shadow := newProvider(t), newProvider(t)
	r := newRig(t, p.addr)
	r.mirrored(p, shadow, 1_000_000)
	stuck := make(chan struct{})
	defer close(stuck)
	shadow.fail = func(net.Conn, *bufio.Writer, codec.Header) { <-stuck }
	shadow.failures.Store(1)
	c := r.dial()
	for id := range uint64(300) {
		f := request(id, twoWay, make([]byte, 100<<10))
		write(t, c, f)
		wantEcho(t, c, "the call", f)
	}
	if n := r.env.Mirror.Dropped.Load(); n == 0 {
		t.Error("a shadow that takes nothing got 30 MB")
	}
	shadow.kill()
	f := request(1000, twoWay, nil)
	write(t, c, f)
	if h, _ := mustAnswer(t, c); h.ID != 1000 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
}
