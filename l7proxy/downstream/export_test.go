package downstream

import (
	"bytes"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// retries is the number of requests that went on to another endpoint.
func (r *rig) retries() uint64 { return r.env.Pool.Stats().DelayedExports.Load() }

// asked checks that a provider was asked no more than once a second since start, and
// that each of these requests went on.
func (r *rig) asked(t *testing.T, late *provider, start time.Time) {
	t.Helper()
	most := 1 + uint64(time.Since(start)/time.Second)
	if n := r.retries(); n < 1 || n > most {
		t.Errorf("%d retries, want one a second", n)
	}
	saw(t, "late", late, int64(r.retries()))
}

// TestDelayedExport: a provider that does not know the interface yet costs its
// consumers nothing, and is asked no more than once a second; one that has known it
// is believed when it says no.
func TestDelayedExport(t *testing.T) {
	late, ready := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	r := newRig(t, late.addr, ready.addr)
	c := r.dial()
	start := time.Now()
	if got := calls(t, c, 20, orders, "echo"); got[dubbo.StatusOK] != 20 {
		t.Errorf("while it is late: %v", got)
	}
	r.asked(t, late, start)
	saw(t, "ready", ready, 20)
	r.expect(rpc.ResultValue, rpc.WhyNone, 20) // each is recorded once
	r.expect(rpc.ResultError, rpc.WhyNone, 0)

	late.unknown.Store(false)
	time.Sleep(1100 * time.Millisecond)
	retries := r.retries()
	if got := calls(t, c, 20, orders, "echo"); got[dubbo.StatusOK] != 20 || r.retries() != retries {
		t.Errorf("when it is there: %v, %d retries", got, r.retries()-retries)
	}
	saw(t, "no longer late", late, 10)
	late.unknown.Store(true)
	if got := calls(t, c, 20, orders, "echo"); got[dubbo.StatusBadRequest] != 10 || r.retries() != retries {
		t.Errorf("after it has answered: %v, %d retries", got, r.retries()-retries)
	}
}

// TestDelayedExportOfARestart: a provider that comes up again at its old address
// may be late again: what the connection before it has shown counts no more.
func TestDelayedExportOfARestart(t *testing.T) {
	late, ready := newProvider(t), newProvider(t)
	r := newRig(t, late.addr, ready.addr)
	c := r.dial()
	calls(t, c, 20, orders, "echo")
	late.unknown.Store(true)
	late.mu.Lock()
	for _, old := range late.conns {
		_ = old.Close()
	}
	late.mu.Unlock()
	late.requests.Store(0)
	waitFor(t, "the old connection's end", func() bool { return r.env.Pool.Count() == 1 })
	start := time.Now()
	if got := calls(t, c, 20, orders, "echo"); got[dubbo.StatusOK] != 20 {
		t.Errorf("after its restart: %v", got)
	}
	r.asked(t, late, start)
}

// TestDelayedExportOfTheDialled: the consumer's own choice does not know the
// interface yet.
func TestDelayedExportOfTheDialled(t *testing.T) {
	late, ready := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	r := newRig(t)
	r.put(newWorld().listen("127.0.0.1/32", late.addr.Port()).host("*", orders).cluster(orders, 0, late.addr, ready.addr))
	c := r.to(late.addr)
	start := time.Now()
	if got := calls(t, c, 5, orders, "echo"); got[dubbo.StatusOK] != 5 {
		t.Errorf("%v", got)
	}
	r.asked(t, late, start)
	if got := calls(t, c, 5, metadata, "getMetadataInfo"); got[dubbo.StatusBadRequest] != 5 {
		t.Errorf("pinned: %v", got)
	}
	saw(t, "pinned", late, 5)
	if r.env.Stale.Total() != 0 {
		t.Error("a late provider is not stale")
	}
}

// TestDelayedExportPassedOn: what cannot go elsewhere gets the provider's own
// answer, byte for byte, and is recorded as its.
func TestDelayedExportPassedOn(t *testing.T) {
	late, later := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	later.unknown.Store(true)
	want := dubbo.AppendError(nil, codec.Header{Flags: twoWay, ID: 77}, dubbo.StatusBadRequest, notKnown)
	for name, c := range map[string]struct {
		r       *rig
		frame   []byte
		retries uint64
		saw     int64
	}{
		"one endpoint":   {newRig(t, late.addr), ask(77, orders, "echo"), 0, 1},
		"nobody knows":   {newRig(t, late.addr, later.addr), ask(77, orders, "echo"), 1, 2},
		"a large one":    {newRig(t, late.addr, later.addr), request(77, twoWay, make([]byte, 70<<10)), 0, 1},
		"a streamed one": {newRig(t, late.addr, later.addr), request(77, twoWay, make([]byte, 600<<10)), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			conn := c.r.dial()
			_, _ = conn.Write(c.frame)
			f, err := readFrame(conn)
			if err != nil || !bytes.Equal(f, want) {
				t.Errorf("% x, %v; want % x", f, err, want)
			}
			if n := late.requests.Swap(0) + later.requests.Swap(0); n != c.saw || c.r.retries() != c.retries {
				t.Errorf("%d requests at providers, %d retries; want %d and %d", n, c.r.retries(), c.saw, c.retries)
			}
			c.r.expect(rpc.ResultError, rpc.WhyNone, 1)
		})
	}
}

// TestDelayedExportOtherDies: the endpoint that a request goes on to cannot be
// connected to: the first provider's answer holds.
func TestDelayedExportOtherDies(t *testing.T) {
	late, dead := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	dead.kill()
	r := newRig(t, late.addr, dead.addr)
	c := r.dial()
	for i := range 6 {
		if got := calls(t, c, 1, orders, "echo"); got[dubbo.StatusBadRequest] != 1 {
			t.Errorf("call %d: %v", i, got)
		}
	}
	r.expect(rpc.ResultError, rpc.WhyNone, 6)
	saw(t, "asked once for each call", late, 6)
	waitFor(t, "nothing in flight", func() bool {
		for _, s := range r.mgr.Status()[0].Endpoints {
			if s.Active != 0 {
				return false
			}
		}
		return true
	})
}

// TestDelayedExportOneWay: nobody says what became of a one-way request.
func TestDelayedExportOneWay(t *testing.T) {
	late, ready := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	r := newRig(t, late.addr, ready.addr)
	c := r.dial()
	for id := range uint64(4) {
		_, _ = c.Write(request(id, 0x82, []byte("\x01a")))
	}
	waitFor(t, "all at the providers", func() bool { return late.requests.Load()+ready.requests.Load() == 4 })
	time.Sleep(50 * time.Millisecond)
	if n := late.requests.Load() + ready.requests.Load(); n != 4 || r.retries() != 0 {
		t.Errorf("%d requests, %d retries", n, r.retries())
	}
}

// TestDelayedExportByteExact: many requests in flight while one of two providers
// is late; every byte of every answer is compared.
func TestDelayedExportByteExact(t *testing.T) {
	late, ready := newProvider(t), newProvider(t)
	late.unknown.Store(true)
	r := newRig(t, late.addr, ready.addr)
	// 64 in flight of 10 KiB fit into what is kept of one connection.
	converse(t, r.dial(), exchangeOf{seed: 5, n: 3000, inFlight: 64, sizes: []int{10, 10 << 10}, split: true})
	if n := r.retries(); n == 0 || int64(n) != late.requests.Load() || ready.requests.Load() != 3000 {
		t.Errorf("%d retries of %d requests that came too early, %d answered", n, late.requests.Load(), ready.requests.Load())
	}
}
