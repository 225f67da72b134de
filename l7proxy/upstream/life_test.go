package upstream

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestHeartbeat: the clock's heartbeats, the provider's, and silence.
func TestHeartbeat(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c := r.send(o, 1)
	p := r.prov.accept()
	write(t, p, answer200(mustRead(t, p).ID))
	take(t, o.delivered)
	for range 2 {
		for range beatEvery {
			r.tick(c)
		}
		g := mustRead(t, p)
		if !g.Event() || !g.Request() || !g.TwoWay() || g.ID != heartbeatID {
			t.Errorf("frame %x came, want a heartbeat", g.frame)
		}
		before := c.sock.Reads()
		write(t, p, dubbo.AppendHeartbeatReply(nil, g.Header))
		eventually(t, "its answer is heard", func() bool { return c.sock.Reads() != before })
	}
	write(t, p, dubbo.AppendHeartbeat(nil, 4711))
	if g := mustRead(t, p); !g.Event() || g.Request() || g.ID != 4711 {
		t.Errorf("frame %x answers a heartbeat", g.frame)
	}
	if n := r.pool.Stats().Unasked.Load(); n != 0 {
		t.Errorf("%d events were taken for answers", n)
	}
	r.send(o, 2)
	mustRead(t, p)
	for range deadAfter + 1 {
		c.tick()
	}
	if f := take(t, o.refused); f.ID != 2 || f.Why != rpc.WhyUpstreamClosed {
		t.Errorf("request %d was refused with %q, want 2 because the provider is silent", f.ID, f.Why)
	}
}

// TestHeartbeatAlways: each connection that is held is heartbeated at most 60 s
// apart, whatever flows on it or elsewhere.
func TestHeartbeatAlways(t *testing.T) {
	r, o := newRig(t), newConsumer()
	own, ownP := r.dedicated(o)
	defer own.Quit()
	bulkP, g := r.upload(o, r.request(3, codec.FlagTwoWay), nil)
	write(t, bulkP, answer200(g.ID))
	take(t, o.delivered)
	busy := r.send(newConsumer(), 2)
	busyP := r.prov.accept()
	mustRead(t, busyP)
	retiring := busy
	retiring.Retire() // something is pending: it stays
	r.send(newConsumer(), 4)
	freshP := r.prov.accept()
	mustRead(t, freshP)

	peers := []*net.TCPConn{ownP, bulkP, busyP, freshP}
	const ticks = 24 // four minutes
	for range ticks {
		for _, c := range r.group.Conns() {
			c.beat.silent = 0 // something was heard
			r.tick(c)
		}
		r.sendOne(own, o, 9) // busy all the time
	}
	for i, p := range peers {
		for n := 0; n < ticks*int(tick/time.Second)/60; {
			f, err := readFrame(p)
			if err != nil {
				t.Fatalf("connection %d: %d heartbeats in %s, want one a minute: %v", i, n, ticks*tick, err)
			}
			if f.Event() && f.Request() && f.TwoWay() {
				n++
			}
		}
	}
}

// TestConnClosing: who asks for a connection while the pool closes, because the
// drain's time was over, gets one that ends.
func TestConnClosing(t *testing.T) {
	for range 300 {
		pool := NewPool(&dialer{}, Limits{MaxFrame: 4 << 20})
		var asking sync.WaitGroup
		for port := range uint16(4) {
			nowhere := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
			g := pool.Group(Key{Protocol: seam.Protocol(), Workload: "shop/consumer", Endpoint: nowhere}, netip.AddrPort{})
			asking.Go(func() {
				for range 20 {
					g.Conn()
				}
			})
		}
		pool.Close()
		asking.Wait()
		eventually(t, "no connection is left", func() bool { return pool.Count() == 0 })
	}
}

// TestFinUnbound: the end of a connection on which nothing is pending is
// nobody's error, and is followed by a connect only if somebody dialled the
// address.
func TestFinUnbound(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1)
	p := r.prov.accept()
	write(t, p, answer200(mustRead(t, p).ID))
	take(t, o.delivered)
	_ = p.CloseWrite()
	wantEnd(t, p)
	eventually(t, "no connection is left", func() bool { return r.pool.Count() == 0 })
	time.Sleep(20 * time.Millisecond)
	if n := r.dial.dials.Load(); n != 1 {
		t.Errorf("%d connects, want 1", n)
	}
	wantNone(t, o.refused)
	wantNone(t, o.parted)
	r.send(o, 2)
	go echo(r.prov.accept())
	if a := take(t, o.delivered); a.ID != 2 {
		t.Errorf("an answer to %d, want 2", a.ID)
	}
}

// TestExpired: a connection whose ends are no longer who they showed to be takes no new
// requests, and answers those that it has; one that is a consumer's alone stays.
func TestExpired(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c := r.send(o, 1)
	p := r.prov.accept()
	q := mustRead(t, p)
	expire := func(c *Conn) {
		c.mu.Lock()
		c.until = time.Now().Add(-time.Second)
		c.mu.Unlock()
		r.tick(c)
	}
	expire(c)
	if r.sendOn(c, o, 2) {
		t.Error("it takes another request")
	}
	write(t, p, answer200(q.ID))
	if a := take(t, o.delivered); a.ID != 1 {
		t.Errorf("an answer to %d, want 1", a.ID)
	}
	wantEnd(t, p)
	own, _ := r.dedicated(o)
	expire(own)
	wantNone(t, o.parted)
	own.Quit()
}
