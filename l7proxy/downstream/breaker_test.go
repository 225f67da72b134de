package downstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// thresholds gives the rig's cluster bounds.
func (r *rig) thresholds(requests, connections *uint32, endpoints ...netip.AddrPort) {
	r.configureWith(func(s *snapshot.Snapshot) {
		s.Clusters["c"].MaxRequests, s.Clusters["c"].MaxConnections = requests, connections
	}, endpoints...)
}

// TestMaxRequests: a workload has no more in flight than its cluster's threshold, while
// the connection is made or after, however they come; the rest is refused at once.
func TestMaxRequests(t *testing.T) {
	for _, connecting := range []bool{true, false} {
		p := newProvider(t)
		p.mute.Store(true)
		r := newRig(t, p.addr)
		five := uint32(5)
		r.thresholds(&five, nil, p.addr)
		c := r.dial()
		sent := uint64(0)
		batch := func(n int) (b []byte) {
			for range n {
				b = append(b, request(sent, twoWay, nil)...)
				sent++
			}
			return b
		}
		if !connecting {
			write(t, c, batch(1))
			waitFor(t, "the first arrives", func() bool { return p.requests.Load() == 1 })
		}
		write(t, c, batch(20))
		other := r.dial() // of the same workload
		for range sent - 5 {
			h, body := mustAnswer(t, c)
			if h.ID < 5 || !bytes.Contains(body, []byte(rpc.WhyOverflow.String())) {
				t.Errorf("status %d for %d: %s", h.Status, h.ID, body)
			}
		}
		// Refusals are written before what goes on: it must be in flight to be counted.
		waitFor(t, "five are in flight", func() bool { return r.env.Breakers.Of("shop/consumer", "c").Requests() == 5 })
		write(t, other, request(100, twoWay, nil))
		if _, body := mustAnswer(t, other); !bytes.Contains(body, []byte(rpc.WhyOverflow.String())) {
			t.Errorf("another connection of the workload: %s", body)
		}
		waitFor(t, "five arrive", func() bool { return p.requests.Load() == 5 })
		if n := r.env.Breakers.Of("shop/consumer", "c").Requests(); n != 5 {
			t.Errorf("%d are in flight, want 5", n)
		}
		p.mute.Store(false)
		p.kill() // which ends what is in flight
		for range 5 {
			mustAnswer(t, c)
		}
		if n := r.env.Breakers.Of("shop/consumer", "c").Requests(); n != 0 {
			t.Errorf("%d are in flight, want none", n)
		}
	}
}

// TestMaxRequestsGoOn: what has been answered makes room.
func TestMaxRequestsGoOn(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	two := uint32(2)
	r.thresholds(&two, nil, p.addr)
	c := r.dial()
	for id := range uint64(200) {
		write(t, c, append(request(2*id, twoWay, nil), request(2*id+1, twoWay, make([]byte, 300<<10))...))
		for range 2 {
			if h, body := mustAnswer(t, c); h.Status != dubbo.StatusOK || body[0] != 0x94 {
				t.Fatalf("status %d for %d", h.Status, h.ID)
			}
		}
	}
}

// TestMaxConnections: opaque connections beyond the threshold are reset.
func TestMaxConnections(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	one := uint32(1)
	r.thresholds(nil, &one, p.addr)
	first := r.dial()
	write(t, first, []byte("GET / "))
	waitFor(t, "it is connected", func() bool { return p.accepted.Load() == 1 })
	second := r.dial()
	_, _ = second.Write([]byte("GET / "))
	if n, err := io.ReadAll(second); len(n) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v; want a reset", n, err)
	}
	_ = first.(*net.TCPConn).CloseWrite()
	if n, err := io.ReadAll(first); len(n) > 0 || err != nil {
		t.Errorf("the first one ends with %q, %v", n, err)
	}
	waitFor(t, "there is room", func() bool {
		c := r.dial()
		write(t, c, []byte("GET / "))
		time.Sleep(20 * time.Millisecond)
		return p.accepted.Load() == 2
	})
}
