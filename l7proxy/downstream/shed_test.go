package downstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestShed: a request that needs a buffer beyond its workload's quota is refused; its
// rest is dropped, and the connection goes on. What needs no more than the least
// buffer is served in any case.
func TestShed(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	q := quota.NewNode(100, 100, 8<<10).Workload()
	r.quota.Store(q)
	waiting, refused := r.dial(), r.dial()
	whole := request(7, twoWay, make([]byte, 5000))
	write(t, waiting, whole[:5000])
	waitFor(t, "the first part is held", func() bool { return !has(q, 1) })
	write(t, refused, whole[:2000])
	if h, body := mustAnswer(t, refused); h.ID != 7 || !bytes.Contains(body, []byte(rpc.WhyOverflow.String())) {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	write(t, refused, whole[2000:])
	write(t, refused, request(8, twoWay, nil))
	if h, _ := mustAnswer(t, refused); h.ID != 8 || h.Status != dubbo.StatusOK {
		t.Errorf("status %d for %d", h.Status, h.ID)
	}
	write(t, waiting, whole[5000:])
	if h, body := mustAnswer(t, waiting); h.Status != dubbo.StatusOK || len(body) != len(whole)-dubbo.HeaderLen+1 {
		t.Errorf("status %d, %d bytes", h.Status, len(body))
	}
	waitFor(t, "everything is free", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, l := range r.live { // plans are forgotten by idle connections
			l.Tick()
		}
		return has(q, 8<<10)
	})
	waitFor(t, "one overflow is recorded", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.whys[rpc.WhyOverflow] == 1
	})
}

// TestUnload: who is shed gives up the requests of which a part is held, at once; their
// rest is dropped, and the connections go on, to be served when nobody is shed any more.
func TestUnload(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	const limit = 1 << 20
	q := quota.NewNode(100, 100, limit).Workload()
	r.quota.Store(q)
	silent, begun, waiting := r.dial(), r.dial(), r.dial()
	write(t, waiting, request(1, twoWay, nil))
	mustAnswer(t, waiting)
	whole := request(7, twoWay, make([]byte, 100<<10))
	write(t, begun, whole[:90<<10])
	waitFor(t, "the first part is held", func() bool { return !has(q, limit-(64<<10)) })
	q.Shed(true)
	r.mu.Lock()
	for _, l := range r.live {
		l.Unload()
	}
	r.mu.Unlock()
	if h, body := mustAnswer(t, begun); h.ID != 7 || !bytes.Contains(body, []byte(rpc.WhyOverload.String())) {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	write(t, begun, append(whole[90<<10:], request(8, twoWay, nil)...)) // in one read
	if h, body := mustAnswer(t, begun); h.ID != 8 || !bytes.Contains(body, []byte(rpc.WhyOverload.String())) {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	write(t, waiting, request(2, twoWay, nil))
	if h, body := mustAnswer(t, waiting); h.ID != 2 || !bytes.Contains(body, []byte(rpc.WhyOverload.String())) {
		t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
	}
	q.Shed(false)
	for id, c := range []net.Conn{silent, begun, waiting} {
		write(t, c, request(uint64(10+id), twoWay, nil))
		if h, body := mustAnswer(t, c); h.ID != uint64(10+id) || h.Status != dubbo.StatusOK {
			t.Errorf("status %d for %d afterwards: %s", h.Status, h.ID, body)
		}
	}
}

// has tells whether n bytes are free.
func has(w *quota.Workload, n int) bool {
	ok := w.Hold(n)
	if ok {
		w.Free(n)
	}
	return ok
}

// TestPlansForgotten: names without end are routed, and not remembered beyond a
// part of the quota.
func TestPlansForgotten(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	const limit = 256 << 10
	q := quota.NewNode(100, 100, limit).Workload()
	r.quota.Store(q)
	c := r.dial()
	for i := range 300 {
		name := fmt.Sprintf("%07d", i)
		f := bytes.Replace(request(uint64(i), twoWay, nil), []byte("org.x.S"), []byte(name), 1)
		write(t, c, f)
		if h, _ := mustAnswer(t, c); h.ID != uint64(i) || h.Status != dubbo.StatusOK {
			t.Fatalf("status %d for %d", h.Status, h.ID)
		}
	}
	// The connection's buffer counts as long as it is not waiting.
	waitFor(t, "plans take less than their half", func() bool { return has(q, limit/2) })
	if has(q, limit-limit/8) {
		t.Error("nothing is remembered")
	}
	_ = c.Close()
	waitFor(t, "what was remembered is free", func() bool { return has(q, limit) })
}

// TestRelayQuota: an opaque connection takes a second descriptor, or is reset.
func TestRelayQuota(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	q := quota.NewNode(100, 1, 0).Workload()
	r.quota.Store(q)
	dst := netip.MustParseAddrPort(p.addr.String())
	r.dst.Store(&dst)
	first := r.dial()
	write(t, first, request(1, twoWay, nil))
	if h, _ := mustAnswer(t, first); h.Status != dubbo.StatusOK {
		t.Errorf("status %d", h.Status)
	}
	second, err := net.Dial("tcp", r.ln.Addr().String())
	if err == nil { // or the reset came before connect returned
		_, _ = second.Write([]byte("ls\r\n"))
		_, err = second.Read(make([]byte, 1))
		_ = second.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a relay over the quota got %v, want a reset", err)
	}
	waitFor(t, "its record", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		for _, c := range r.rec.conns {
			if c.Why == rpc.WhyOverflow && c.Closed {
				return true
			}
		}
		return false
	})
}

func mustAnswer(t *testing.T, c io.Reader) (codec.Header, []byte) {
	t.Helper()
	f, err := readFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	h, err := dubbo.ParseHeader(f)
	if err != nil || h.Request() || int(binary.BigEndian.Uint32(f[12:])) != len(f)-dubbo.HeaderLen {
		t.Fatalf("% x is no answer: %v", f[:dubbo.HeaderLen], err)
	}
	return h, f[dubbo.HeaderLen:]
}

func write(t *testing.T, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestOverload: a workload that is shed is refused, and taken again.
func TestOverload(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	q := quota.NewNode(100, 100, 1<<20).Workload()
	r.quota.Store(q)
	c := r.dial()
	for id := range uint64(4) {
		shed := id%2 == 1
		q.Shed(shed)
		write(t, c, request(id, twoWay, nil))
		h, body := mustAnswer(t, c)
		refused := bytes.Contains(body, []byte(rpc.WhyOverload.String()))
		if h.ID != id || h.Status != dubbo.StatusOK || refused != shed {
			t.Errorf("shed %v: status %d for %d: %s", shed, h.Status, h.ID, body)
		}
	}
	if n := p.requests.Load(); n != 2 {
		t.Errorf("the provider got %d requests, want 2", n)
	}
	r.whys(t, rpc.WhyOverload, 2)
}
