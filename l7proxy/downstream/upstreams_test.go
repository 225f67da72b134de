package downstream

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestReadOnlyMovesRequests: new requests of all consumers go to the other
// provider, what is in flight ends where it is, and no consumer hears of it.
func TestReadOnlyMovesRequests(t *testing.T) {
	a, b := newSpeaker(t), newProvider(t)
	r := newRig(t, a.addr)
	c, other, own := r.dial(), r.dial(), r.dial()
	shared := asked(t, c, a, nil, request(1, twoWay, nil))
	ownP := asked(t, own, a, nil, subscribe(1, dubbo.Hessian2))
	put(t, c, request(2, twoWay, nil))
	pending, _ := next(t, shared)
	r.configure(a.addr, b.addr)
	put(t, shared, []byte(readOnly), []byte(readOnly))
	put(t, ownP, []byte(readOnly), []byte(readOnly))
	waitFor(t, "the endpoint is avoided", func() bool {
		// Asked as a consumer would: nothing else tells when READONLY was read.
		for _, e := range r.mgr.Status()[0].Endpoints {
			if e.Address == a.addr.String() {
				return e.Avoided
			}
		}
		return false
	})
	converse(t, c, exchangeOf{n: 100, inFlight: 4, sizes: []int{10}})
	converse(t, other, exchangeOf{n: 100, inFlight: 4, sizes: []int{10}})
	if n := b.requests.Load(); n != 200 {
		t.Errorf("%d requests went to the other provider, want 200", n)
	}
	put(t, shared, value(pending.ID, nil))
	if h, _ := next(t, c); h.ID != 2 || h.Status != dubbo.StatusOK {
		t.Errorf("%+v came, want the answer to 2", h)
	}
	// The one that is called back stays, and is called.
	asked(t, own, a, ownP, request(3, twoWay, nil))
	put(t, ownP, push(4, twoWay, nil))
	if h, _ := next(t, own); !h.Request() || h.Event() {
		t.Errorf("%+v came, want the call", h)
	}
	a.none()
}

// TestReadOnlyAlone: where there is no other provider, the one that goes is asked
// as long as it answers, on the connection that it has.
func TestReadOnlyAlone(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	c := r.dial()
	on := asked(t, c, p, nil, request(1, twoWay, nil))
	put(t, on, []byte(readOnly))
	asked(t, c, p, on, request(2, twoWay, nil))
	p.none()
}

// TestDeadAndLive: a consumer with one dead and one live provider loses no call.
func TestDeadAndLive(t *testing.T) {
	const calls = 60
	dead, live := newProvider(t), newProvider(t)
	dead.kill()
	r := newRig(t, dead.addr, live.addr)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			converse(t, r.dial(), exchangeOf{seed: uint64(i), n: calls, inFlight: 16, sizes: []int{0, 100, 100, 300 << 10}})
		})
	}
	wg.Wait()
	if n := live.requests.Load(); n != 8*calls {
		t.Errorf("the live provider saw %d requests, want %d", n, 8*calls)
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 8*calls)
}

// TestHundredProviders: a workload that knows 100 providers opens one upstream
// connection to each, however many connections it has itself.
func TestHundredProviders(t *testing.T) {
	const n = 100
	var providers []*provider
	var addrs []netip.AddrPort
	for range n {
		p := newProvider(t)
		providers, addrs = append(providers, p), append(addrs, p.addr)
	}
	r := newRig(t, addrs...)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			converse(t, r.dial(), exchangeOf{seed: uint64(i), n: 3 * n, inFlight: 32, sizes: []int{100}})
		})
	}
	wg.Wait()
	for i, p := range providers {
		if got := p.accepted.Load(); got != 1 {
			t.Errorf("provider %d accepted %d connections, want 1", i, got)
		}
	}
	if got := r.env.Pool.Count(); got != n {
		t.Errorf("%d upstream connections, want %d", got, n)
	}
}

// TestLargeRequestsWait: more large requests than connections for them wait for
// each other, and none is refused.
func TestLargeRequestsWait(t *testing.T) {
	p := newProvider(t)
	p.mute.Store(true)
	r := newRig(t, p.addr)
	const conns = 20
	consumers := make([]net.Conn, conns)
	payload := bytes.Repeat([]byte("x"), 400<<10)
	for i := range consumers {
		consumers[i] = r.dial()
		go consumers[i].Write(request(uint64(i), twoWay, payload))
	}
	waitFor(t, "as many requests as there are connections", func() bool { return p.requests.Load() == 16 })
	time.Sleep(50 * time.Millisecond)
	if n := p.requests.Load(); n != 16 {
		t.Errorf("%d large requests are in flight, want 16", n)
	}
	// One that waits leaves: closed in the middle of its frame.
	leaver := r.dial()
	_, _ = leaver.Write(request(99, twoWay, payload)[:100<<10])
	time.Sleep(20 * time.Millisecond)
	_ = leaver.Close()
	r.expect(rpc.ResultGone, rpc.WhyDownstreamGone, 1)
	// Small requests do not wait for large ones.
	p.mute.Store(false)
	converse(t, r.dial(), exchangeOf{n: 10, inFlight: 2, sizes: []int{10}})
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close() // 16 requests are never answered
	}
	p.mu.Unlock()
	answers := map[byte]int{}
	for _, c := range consumers {
		f, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		answers[f[3]]++
	}
	if answers[dubbo.StatusServerError] != 16 || answers[dubbo.StatusOK] != conns-16 {
		t.Errorf("answers by status: %v, want 16 errors and %d values", answers, conns-16)
	}
}

// TestLargeRequestsShutdown: who waits does not hold up the end of the proxy.
func TestLargeRequestsShutdown(t *testing.T) {
	p := newProvider(t)
	p.mute.Store(true)
	r := newRig(t, p.addr)
	consumers := make([]net.Conn, 17)
	for i := range consumers {
		c := r.dial()
		go c.Write(request(uint64(i), twoWay, make([]byte, 400<<10)))
		consumers[i] = c
	}
	waitFor(t, "as many requests as there are connections", func() bool { return p.requests.Load() == 16 })
	r.env.Stopping.Store(true)
	r.env.Pool.Close()
	for _, c := range consumers {
		if f, err := readFrame(c); err != nil || f[3] != dubbo.StatusServerError {
			t.Errorf("% x, %v; want an error", f, err)
		}
	}
}

// TestSnapshotsKeepConnections: a snapshot that says the same does not make
// providers be connected to anew.
func TestSnapshotsKeepConnections(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	c := r.dial()
	for i := range 200 {
		r.configure(p.addr)
		converse(t, c, exchangeOf{seed: uint64(i), n: 2, inFlight: 2, sizes: []int{1}})
	}
	if got := fmt.Sprint(p.accepted.Load()); got != "1" {
		t.Errorf("%s upstream connections, want 1", got)
	}
}
