package downstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

const twoWay = 0xc2

// TestByteExact sends many requests of many sizes over several connections, cut
// at random places, many in flight, and compares every byte of every answer.
func TestByteExact(t *testing.T) {
	sizes := []int{0, 1, 15, 100, 1 << 10, 4 << 10}
	total := 100_000
	if testing.Short() {
		total = 10_000
	}
	conns := 8
	p1, p2 := newProvider(t), newProvider(t)
	r := newRig(t, p1.addr, p2.addr)
	var wg sync.WaitGroup
	for c := range conns {
		wg.Go(func() {
			converse(t, r.dial(), exchangeOf{seed: uint64(c), n: total / conns, inFlight: 64, sizes: sizes, split: true})
		})
	}
	wg.Wait()
	if got := int(p1.requests.Load() + p2.requests.Load()); got != total/conns*conns {
		t.Errorf("providers saw %d requests, want %d", got, total)
	}
	if n := p1.accepted.Load() + p2.accepted.Load(); n != 2 {
		t.Errorf("%d upstream connections, want one for each endpoint", n)
	}
	waitFor(t, "every request recorded as a value", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.results[rpc.ResultValue] == total/conns*conns
	})
}

// TestByteExactLarge does the same with frames that are held in larger buffers
// or streamed.
func TestByteExactLarge(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	sizes := []int{0, 60 << 10, 64 << 10, 200 << 10, 262_000, 300 << 10, 1 << 20, 8 << 20}
	var wg sync.WaitGroup
	for c := range 3 {
		wg.Go(func() {
			converse(t, r.dial(), exchangeOf{seed: uint64(c), n: 60, inFlight: 8, sizes: sizes})
		})
	}
	wg.Wait()
	if got := p.requests.Load(); got != 180 {
		t.Errorf("provider saw %d requests, want 180", got)
	}
}

type exchangeOf struct {
	seed     uint64
	n        int
	inFlight int
	sizes    []int
	split    bool
}

// converse writes n requests and checks n answers on one connection.
func converse(t *testing.T, c net.Conn, x exchangeOf) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(x.seed, 1))
	tokens := make(chan struct{}, x.inFlight)
	var mu sync.Mutex
	want := make(map[uint64][]byte)
	go func() {
		var out []byte
		for i := range x.n {
			tokens <- struct{}{}
			id := rnd.Uint64()
			payload := make([]byte, x.sizes[rnd.IntN(len(x.sizes))])
			for j := range payload {
				payload[j] = byte(id>>(j%8)) ^ byte(j)
			}
			f := request(id, twoWay, payload)
			mu.Lock()
			want[id] = f[dubbo.HeaderLen:]
			mu.Unlock()
			out = append(out, f...)
			if len(tokens) < cap(tokens) && rnd.IntN(4) > 0 && i < x.n-1 && len(out) < 64<<10 {
				continue
			}
			for len(out) > 0 {
				n := len(out)
				if x.split && rnd.IntN(3) == 0 {
					n = 1 + rnd.IntN(n)
				}
				if _, err := c.Write(out[:n]); err != nil {
					return
				}
				out = out[n:]
			}
		}
	}()
	for range x.n {
		f, err := readFrame(c)
		if err != nil {
			t.Errorf("connection %d: %v", x.seed, err)
			return
		}
		h, err := dubbo.ParseHeader(f)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		body, known := want[h.ID]
		delete(want, h.ID)
		mu.Unlock()
		if !known || h.Status != dubbo.StatusOK || !bytes.Equal(f[dubbo.HeaderLen+1:], body) {
			t.Errorf("connection %d: id %x known %v status %d: wrong answer of %d bytes", x.seed, h.ID, known, h.Status, len(f))
			return
		}
		<-tokens
	}
}

func TestOneWayAndHeartbeat(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	c := r.dial()
	_, _ = c.Write(request(1, 0x82, []byte("\x01a")))
	_, _ = c.Write(dubbo.AppendHeartbeat(nil, 7))
	f, err := readFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0xda, 0xbb, 0x22, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 'N'}; !bytes.Equal(f, want) {
		t.Errorf("heartbeat's answer %x, want %x", f, want)
	}
	waitFor(t, "the one-way request", func() bool { return p.requests.Load() == 1 })
	r.expect(rpc.ResultNone, rpc.WhyNone, 1)
}

// TestLocalReplies: each condition gets one reply with the consumer's id, in the
// form that its consumer understands, with a text; and the record says the same.
func TestLocalReplies(t *testing.T) {
	dead := newProvider(t)
	dead.kill()
	for _, tt := range []struct {
		name   string
		change func(*rig)
		why    rpc.Why
		status byte
	}{
		{"no route", func(r *rig) {
			r.change(func(s *snapshot.Snapshot) { s.Listeners[0].Route.VirtualHosts = nil })
		}, rpc.WhyNoRoute, 20},
		{"no cluster", func(r *rig) {
			r.change(func(s *snapshot.Snapshot) { s.Routes["r"].VirtualHosts[0].Routes[0].Action.Clusters[0].Cluster = "x" })
		}, rpc.WhyNoCluster, 20},
		{"no endpoint", func(r *rig) { r.configure() }, rpc.WhyNoEndpoint, 80},
		{"refused", func(r *rig) { r.configure(dead.addr) }, rpc.WhyConnectFailed, 80},
		{"too large", func(r *rig) { r.env.MaxFrame = 40 }, rpc.WhyTooLarge, 20},
		{"denied", func(r *rig) {
			r.change(func(s *snapshot.Snapshot) {
				s.Listeners[0].RBAC = []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}
			})
		}, rpc.WhyDenied, 20},
		{"limited", func(r *rig) {
			r.change(func(s *snapshot.Snapshot) {
				s.Listeners[0].Limits = []*snapshot.Limit{{
					Name: "none", Bucket: &snapshot.Bucket{Fill: 1, Interval: time.Hour}, Always: true, Enabled: 1e6, Enforced: 1e6,
				}}
			})
		}, rpc.WhyLimited, 20},
		{"a gate", func(r *rig) {
			r.change(func(s *snapshot.Snapshot) {
				s.Listeners[0].Gate = &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}}
			})
		}, rpc.WhyDenied, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newProvider(t)
			r := newRig(t, p.addr)
			tt.change(r)
			c := r.dial()
			_, _ = c.Write(request(0xfedcba9876543210, twoWay, make([]byte, 300)))
			r.reply(c, 0xfedcba9876543210, tt.status, tt.why)
			r.expect(rpc.ResultLocal, tt.why, 1)
			if tt.why == rpc.WhyTooLarge {
				r.env.MaxFrame = 1 << 20
				converse(t, c, exchangeOf{n: 3, inFlight: 1, sizes: []int{10}})
			}
		})
	}
}

// reply reads one local reply.
func (r *rig) reply(c net.Conn, id uint64, status byte, why rpc.Why) {
	r.t.Helper()
	f, err := readFrame(c)
	if err != nil {
		r.t.Fatal(err)
	}
	h, _ := dubbo.ParseHeader(f)
	if h.Request() || h.ID != id || h.Status != status || h.Serialization() != 2 {
		r.t.Errorf("reply %x, want id %x status %d", f[:dubbo.HeaderLen], id, status)
	}
	if !strings.Contains(string(f), why.String()) {
		r.t.Errorf("reply %q does not say %q", f[dubbo.HeaderLen:], why)
	}
}

func (r *rig) expect(result rpc.Result, why rpc.Why, n int) {
	r.t.Helper()
	waitFor(r.t, fmt.Sprintf("%d records of %s %q", n, result, why), func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.results[result] == n && r.rec.whys[why] >= n
	})
}

// TestProviderKilled: every request in flight gets exactly one reply, and the
// calls after it go to the provider that is left.
func TestProviderKilled(t *testing.T) {
	a, b := newProvider(t), newProvider(t)
	r := newRig(t, a.addr, b.addr)
	a.mute.Store(true)
	b.mute.Store(true)
	c := r.dial()
	const n = 40
	for i := range n {
		_, _ = c.Write(request(uint64(i), twoWay, []byte("\x01a")))
	}
	waitFor(t, "all requests at the providers", func() bool { return a.requests.Load()+b.requests.Load() == n })
	half := int(a.requests.Load())
	if half == 0 || half == n {
		t.Fatalf("%d of %d requests went to one endpoint", half, n)
	}
	a.kill()
	seen := make(map[uint64]bool)
	for range half {
		f, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := dubbo.ParseHeader(f)
		if h.Status != dubbo.StatusServerError || seen[h.ID] {
			t.Fatalf("id %d status %d seen before: %v", h.ID, h.Status, seen[h.ID])
		}
		seen[h.ID] = true
	}
	r.expect(rpc.ResultLocal, rpc.WhyUpstreamClosed, half)
	b.mute.Store(false)
	converse(t, c, exchangeOf{seed: 3, n: 200, inFlight: 8, sizes: []int{10}})
	b.kill() // what it never answered is settled
}

// TestConsumerGone: a consumer that leaves with requests in flight is recorded,
// and late answers disturb nobody.
func TestConsumerGone(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	p.mute.Store(true)
	c := r.dial()
	_, _ = c.Write(request(1, twoWay, []byte("\x01a")))
	waitFor(t, "the request", func() bool { return p.requests.Load() == 1 })
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	r.expect(rpc.ResultGone, rpc.WhyDownstreamGone, 1)
	p.mute.Store(false)
	converse(t, r.dial(), exchangeOf{n: 10, inFlight: 2, sizes: []int{10}})
	if n := p.accepted.Load(); n != 1 {
		t.Errorf("%d upstream connections, want the old one", n)
	}
}

// TestHalfClose: a consumer that closes its side still gets what is pending.
func TestHalfClose(t *testing.T) {
	p := newProvider(t)
	c := newRig(t, p.addr).dial()
	_, _ = c.Write(request(9, twoWay, []byte("\x01a")))
	_ = c.(*net.TCPConn).CloseWrite()
	if _, err := readFrame(c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v, want EOF", err)
	}
}

// TestDeadProviderLooksDead: a dialled pod address that refuses is reset before
// the consumer sends anything.
func TestDeadProviderLooksDead(t *testing.T) {
	dead := newProvider(t)
	dead.kill()
	r := newRig(t, dead.addr)
	r.dst.Store(&dead.addr)
	s := r.snap.Load()
	l := *s.Listeners[0]
	l.Prefix, l.Port = netip.PrefixFrom(dead.addr.Addr(), 32), dead.addr.Port()
	r.snap.Store((&snapshot.Snapshot{
		Generation: 2, Listeners: []*snapshot.Listener{&l}, Routes: s.Routes, Clusters: s.Clusters,
	}).Seal())
	c, err := net.Dial("tcp", r.ln.Addr().String())
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// TestOpaque: what is not Dubbo passes byte for byte, half-close included.
func TestOpaque(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(c)
		_, _ = c.Write(append([]byte("got "), all...))
		_ = c.Close()
	}()
	r := newRig(t, netip.MustParseAddrPort(ln.Addr().String()))
	c := r.dial()
	sent := append([]byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 3<<20)...)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, append([]byte("got "), sent...)) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	waitFor(t, "the closing record", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		n := len(r.rec.conns)
		return n == 2 && r.rec.conns[1].Closed && r.rec.conns[1].Received == int64(len(sent)) &&
			r.rec.conns[1].Sent == int64(len(sent)+4)
	})
}

// TestOpaqueDenied: who may not connect is closed as by a firewall.
func TestOpaqueDenied(t *testing.T) {
	nobody := &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}}
	for first, guard := range map[string]func(l *snapshot.Listener){
		"GET / HTTP/1.1\r\n\r\n": func(l *snapshot.Listener) { l.HTTPGate = nobody },
		"\x16\x03\x01 and so on": func(l *snapshot.Listener) { l.TCPGate = nobody },
	} {
		p := newProvider(t)
		r := newRig(t, p.addr)
		r.change(func(s *snapshot.Snapshot) { guard(s.Listeners[0]) })
		c := r.dial()
		_, _ = c.Write([]byte(first))
		if n, err := io.ReadAll(c); len(n) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: read %q, %v; want a reset", first, n, err)
		}
		waitFor(t, "the record", func() bool {
			r.rec.mu.Lock()
			defer r.rec.mu.Unlock()
			return len(r.rec.conns) == 1 && r.rec.conns[0].Why == rpc.WhyDenied && r.rec.conns[0].Closed
		})
	}
}

// TestShutdown: at the end of the proxy every pending request is answered before
// its connection closes.
func TestShutdown(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	p.mute.Store(true)
	c := r.dial()
	for id := range uint64(5) {
		_, _ = c.Write(request(id, twoWay, []byte("\x01a")))
	}
	waitFor(t, "the requests", func() bool { return p.requests.Load() == 5 })
	r.env.Stopping.Store(true)
	r.env.Pool.Close()
	for range 5 {
		f, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := dubbo.ParseHeader(f); h.Status != dubbo.StatusServerError {
			t.Errorf("status %d", h.Status)
		}
	}
	r.expect(rpc.ResultLocal, rpc.WhyShuttingDown, 5)
}

// TestLastLook: a connection on which nothing is pending when the proxy begins to stop ends no
// sooner than nothing has come for a while, and not behind an answer.
func TestLastLook(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	r.env.patient = 2 * time.Second
	c := r.dial()
	for id := range uint64(10) {
		_, _ = c.Write(request(id, twoWay, []byte("\x01a")))
		if _, err := readFrame(c); err != nil {
			t.Fatalf("call %d: %v", id, err)
		}
		if id == 4 {
			r.env.Stopping.Store(true)
			r.drain()
			time.Sleep(20 * time.Millisecond)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("in the end: %d bytes, %v; want the end", n, err)
	}
}

// TestNotFrames: bytes that are no frames after a frame end the connection, not
// the proxy, and the answered stays answered.
func TestNotFrames(t *testing.T) {
	p := newProvider(t)
	c := newRig(t, p.addr).dial()
	_, _ = c.Write(request(4, twoWay, []byte("\x01a")))
	if _, err := readFrame(c); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(bytes.Repeat([]byte("ls\r\n"), 10))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection goes on")
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestInboundUnreached: a pod whose application is not there says so in a way that
// nothing else does, so that a consumer's proxy can ask another pod.
func TestInboundUnreached(t *testing.T) {
	p := newProvider(t)
	p.kill()
	r := newRig(t)
	r.in.Store(true)
	r.dst.Store(&p.addr)
	c := r.dial()
	write(t, c, request(7, twoWay, nil))
	if h, body := mustAnswer(t, c); h.ID != 7 || h.Status != dubbo.StatusChannelInactive {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	r.whys(t, rpc.WhyConnectFailed, 1)
}

// TestUnreachedGoesElsewhere: such an answer is no service's, while another endpoint can
// be asked; also when the provider has answered before on the same connection.
func TestUnreachedGoesElsewhere(t *testing.T) {
	a, b := newProvider(t), newProvider(t)
	failing(dubbo.StatusChannelInactive)(a)
	r := newRig(t, a.addr, b.addr)
	c := r.dial()
	converse(t, c, exchangeOf{n: 20, inFlight: 1, sizes: []int{10}}) // both have answered
	if a.requests.Load() == 0 || b.requests.Load() == 0 {
		t.Fatal("one was never asked")
	}
	a.failures.Store(1 << 30)
	lost := 0
	for id := range uint64(60) {
		write(t, c, request(id, twoWay, nil))
		if h, _ := mustAnswer(t, c); h.Status != dubbo.StatusOK {
			lost++
		}
	}
	if lost > 1 { // what was sent before anybody knew
		t.Errorf("%d of 60 calls are lost", lost)
	}
	fresh := r.dial()
	for id := range uint64(20) {
		write(t, fresh, request(id, twoWay, nil))
		if h, _ := mustAnswer(t, fresh); h.Status != dubbo.StatusOK {
			t.Errorf("status %d for a new connection's call %d", h.Status, id)
		}
	}
}

// TestInboundReadOnly: the consumer of a meshed provider is told what it would be told
// without a mesh.
func TestInboundReadOnly(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t)
	r.in.Store(true)
	r.dst.Store(&p.addr)
	c := r.dial()
	on := asked(t, c, p, nil, request(1, twoWay, nil))
	put(t, on, []byte(readOnly))
	if f, err := readFrame(c); err != nil || !dubbo.IsReadOnly(mustHeader(t, f), f[dubbo.HeaderLen:]) {
		t.Errorf("%x, %v came, want READONLY", f, err)
	}
	asked(t, c, p, on, request(2, twoWay, nil))
}

func mustHeader(t *testing.T, frame []byte) codec.Header {
	t.Helper()
	h, err := dubbo.ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
