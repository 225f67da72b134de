package upstream

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

const readOnly = "\xda\xbb\xa2\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x02\x01R"

// callback makes a request of the provider.
func callback(flags byte, id uint64, body int) []byte {
	return frame(codec.FlagRequest|flags, 0, id, body)
}

// sendOne sends a two-way request on a connection.
func (r *rig) sendOne(c *Conn, o Owner, id uint64) {
	r.t.Helper()
	if !r.sendOn(c, o, id) {
		r.t.Fatal("the connection takes no requests")
	}
}

// dedicated gives o a connection of its own and returns the provider's side.
func (r *rig) dedicated(o *consumer) (*Conn, *net.TCPConn) {
	r.t.Helper()
	c := r.group.Dedicate(o)
	r.sendOne(c, o, 1)
	p := r.prov.accept()
	write(r.t, p, answer200(mustRead(r.t, p).ID))
	take(r.t, o.delivered)
	return c, p
}

// TestDedicated: the provider's requests reach the one consumer, answers go
// back, both id spaces stay apart, and no other consumer gets in.
func TestDedicated(t *testing.T) {
	r, o, other := newRig(t), newConsumer(), newConsumer()
	c, p := r.dedicated(o)
	defer c.Quit()
	if r.sendOn(c, other, 5) {
		t.Error("another consumer's request was taken")
	}
	// One read: an answer between a two-way and a one-way call.
	r.sendOne(c, o, 7)
	q := mustRead(t, p)
	write(t, p, slices.Concat(callback(codec.FlagTwoWay, q.ID, 40), answer200(q.ID), callback(0, 9, 40)))
	first, second, third := take(t, o.delivered), take(t, o.delivered), take(t, o.delivered)
	if !first.Request() || !first.TwoWay() || first.ID != 1001 || len(first.frame) != 56 {
		t.Errorf("frame %x came, want the call with id 1001", first.frame)
	}
	if second.Request() || second.ID != 7 {
		t.Errorf("frame %x came, want the answer to 7", second.frame)
	}
	if !third.Request() || third.TwoWay() || third.ID != 9 {
		t.Errorf("frame %x came, want the one-way call 9", third.frame)
	}
	c.Answer(answer200(q.ID))
	if g := mustRead(t, p); g.Request() || g.ID != q.ID {
		t.Errorf("frame %x came, want the answer to call %d", g.frame, q.ID)
	}
	if s := r.pool.Stats(); s.Unasked.Load() != 0 || s.Callbacks.OneWay.Load() != 1 || s.Callbacks.Refused.Load() != 0 {
		t.Errorf("%d unasked, %d one-way, %d refused", s.Unasked.Load(), s.Callbacks.OneWay.Load(), s.Callbacks.Refused.Load())
	}
	r.send(other, 5)
	go echo(r.prov.accept())
	if a := take(t, other.delivered); a.ID != 5 {
		t.Errorf("an answer to %d, want 5", a.ID)
	}
}

// TestDedicateUsed: a connection that nobody else has used is taken over, one
// that somebody has is not.
func TestDedicateUsed(t *testing.T) {
	r, o, other := newRig(t), newConsumer(), newConsumer()
	first := r.send(o, 1)
	if c := r.group.Dedicate(o); c != first {
		t.Error("a connection that only this consumer used was not taken over")
	} else {
		defer c.Quit()
	}
	if r.group.Conn() == first {
		t.Error("others still get the connection")
	}
	r.send(o, 2)
	shared := r.send(other, 3)
	c := r.group.Dedicate(other)
	defer c.Quit()
	if c == shared {
		t.Error("a connection that another has used was taken over")
	}
	if n := r.group.refs.Load(); n != 3 {
		t.Errorf("%d references, want the test's and two", n)
	}
}

// TestDedicatedEnds: what is pending is refused, then the consumer hears of it.
func TestDedicatedEnds(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	r.sendOne(c, o, 5)
	mustRead(t, p)
	_ = p.Close()
	if f := take(t, o.refused); f.ID != 5 || f.Why != rpc.WhyUpstreamClosed {
		t.Errorf("request %d was refused with %q, want 5", f.ID, f.Why)
	}
	if made := take(t, o.parted); !made || len(o.refused) != 0 {
		t.Errorf("parted: made %v; %d refusals after that", made, len(o.refused))
	}
	if c.StartAnswer(answer200(1)) != nil {
		t.Error("an ended connection takes a large answer")
	}
	c.Answer(answer200(1))
	c.Quit()
	if n := r.group.refs.Load(); n != 1 {
		t.Errorf("%d references, want the test's", n)
	}
}

// TestDedicateFails: what waited comes back after the consumer has been told
// that the connection is none.
func TestDedicateFails(t *testing.T) {
	r, o := newRig(t), newConsumer()
	dial := make(chan error)
	r.dial.gate = func(context.Context) error { return <-dial }
	c := r.group.Dedicate(o)
	r.sendOne(c, o, 1)
	dial <- errors.New("refused")
	if q := take(t, o.again); q.ID != 1 || len(o.parted) != 1 || <-o.parted {
		t.Errorf("request %d came back, %d partings before it", q.ID, len(o.parted))
	}
	c.Quit()
}

// TestQuit: what was sent arrives, then the provider sees the end.
func TestQuit(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	c.Answer(answer200(77))
	c.Quit()
	if g := mustRead(t, p); g.ID != 77 {
		t.Errorf("frame %x came, want the answer 77", g.frame)
	}
	wantEnd(t, p)
	eventually(t, "no connection is left", func() bool { return r.pool.Count() == 0 })
}

// TestAdopt: a provider's call on a connection that one consumer alone has used
// makes it that one's, a connection for large requests too.
func TestAdopt(t *testing.T) {
	for _, name := range []string{"shared", "bulk"} {
		t.Run(name, func(t *testing.T) {
			r, o := newRig(t), newConsumer()
			var p *net.TCPConn
			if name == "bulk" {
				p, _ = r.upload(o, r.request(1, codec.FlagTwoWay), nil)
			} else {
				r.send(o, 1)
				p = r.prov.accept()
				mustRead(t, p)
			}
			write(t, p, callback(codec.FlagTwoWay, 3, 20))
			c := take(t, o.adopted)
			if g := take(t, o.delivered); !g.Request() || g.ID != 1001 {
				t.Errorf("frame %x came, want the call", g.frame)
			}
			c.Answer(answer200(3))
			if g := mustRead(t, p); g.ID != 3 || g.Request() {
				t.Errorf("frame %x came, want the answer to call 3", g.frame)
			}
			r.sendOne(c, o, 8)
			r.sendOne(c, o, 9)
			write(t, p, slices.Concat(answer200(mustRead(t, p).ID), answer200(mustRead(t, p).ID)))
			take(t, o.delivered)
			take(t, o.delivered)
			if r.group.Conn() == c || !r.group.CallsBack() {
				t.Error("others may still get the connection")
			}
			if all, parked := r.group.bulks.Count(); all != 0 || parked != 0 {
				t.Errorf("%d connections for large requests, %d free; want none", all, parked)
			}
			c.Quit()
			wantEnd(t, p)
		})
	}
}

// TestNotAdopted: where several may be meant, or the one is gone, the provider
// gets an error, and the group shares no more.
func TestNotAdopted(t *testing.T) {
	for _, name := range []string{"several", "gone", "another after it", "nobody"} {
		t.Run(name, func(t *testing.T) {
			r, o, other := newRig(t), newConsumer(), newConsumer()
			if name == "nobody" {
				r.group.Conn()
			} else {
				r.send(o, 1)
			}
			p := r.prov.accept()
			if name != "nobody" {
				mustRead(t, p)
			}
			if name == "gone" || name == "another after it" {
				o.gone.Store(true)
			}
			if name == "several" || name == "another after it" {
				r.send(other, 2)
				mustRead(t, p)
			}
			write(t, p, callback(0, 4, 20)) // nobody waits for this one
			write(t, p, callback(codec.FlagTwoWay, 3, 20))
			if g := mustRead(t, p); g.ID != 3 || g.Request() || g.Status != dubbo.StatusBadRequest {
				t.Errorf("frame %x came, want an error for 3", g.frame)
			}
			if n := r.pool.Stats().Callbacks.Refused.Load(); n != 2 || !r.group.CallsBack() {
				t.Errorf("%d refused, want 2; calls back: %v", n, r.group.CallsBack())
			}
			wantNone(t, o.delivered)
			wantNone(t, other.delivered)
			if n := r.group.refs.Load(); n != 1 {
				t.Errorf("%d references, want the test's", n)
			}
			if name == "gone" {
				for _, c := range r.group.Conns() {
					c.Abandon(o) // as a session does at its end
				}
				write(t, p, dubbo.AppendHeartbeat(nil, 1))
				mustRead(t, p)
				wantEnd(t, p)
			}
		})
	}
}

// TestClaimRace: while a connection becomes one consumer's, others get another
// one, and none of their requests is lost.
func TestClaimRace(t *testing.T) {
	for range 40 {
		r, o, other := newRig(t), newConsumer(), newConsumer()
		r.send(o, 1)
		go func() {
			for p := range r.prov.conns {
				go echo(p)
			}
		}()
		done := make(chan *Conn)
		go func() { done <- r.group.Dedicate(o) }()
		for id := range uint64(20) {
			for try := 0; !r.sendOn(r.group.Conn(), other, id); try++ {
				if try == 1 {
					t.Fatal("the next connection takes no requests either")
				}
			}
		}
		for range 20 {
			take(t, other.delivered)
		}
		take(t, o.delivered)
		(<-done).Quit()
		wantNone(t, o.refused)
		wantNone(t, other.refused)
	}
}

// TestLargeCall: a call that is too large to be held passes whole, and so does a
// large answer.
func TestLargeCall(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	defer c.Quit()
	call := callback(codec.FlagTwoWay, 3, 5*sock.Largest)
	for i := dubbo.HeaderLen + 1; i < len(call); i++ {
		call[i] = byte(i * 7)
	}
	write(t, p, slices.Concat(callback(codec.FlagTwoWay, 2, 20), call, callback(0, 8, 20)))
	take(t, o.delivered)
	if g := take(t, o.delivered); g.ID != 8 {
		t.Errorf("call %d came behind the large one, want 8", g.ID)
	}
	dubbo.PutID(call, 1002)
	o.mu.Lock()
	if !bytes.Equal(o.streamed, call) || len(o.ends) != 1 || o.ends[0] != nil {
		t.Errorf("%d bytes were streamed, ended with %v; want %d as they were sent", len(o.streamed), o.ends, len(call))
	}
	o.mu.Unlock()

	answer := frame(0, dubbo.StatusOK, 3, 3*sock.Largest)
	u := c.StartAnswer(answer[:sock.Largest])
	go func() {
		u.Write(answer[sock.Largest:])
		u.End()
	}()
	if g := mustRead(t, p); !bytes.Equal(g.frame, answer) {
		t.Errorf("an answer of %d bytes came, want the %d that were sent", len(g.frame), len(answer))
	}
}

// TestLargeOnOwn: large requests take the dedicated connection too.
func TestLargeOnOwn(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	defer c.Quit()
	q := r.request(6, codec.FlagTwoWay)
	u, err := c.Upload(o, q)
	if err != nil {
		t.Fatal(err)
	}
	u.End()
	write(t, p, answer200(mustRead(t, p).ID))
	if a := take(t, o.delivered); a.ID != 6 {
		t.Errorf("an answer to %d, want 6", a.ID)
	}
	if _, err := c.Upload(newConsumer(), q); err == nil {
		t.Error("another consumer's large request was taken")
	}
	if n := r.prov.count.Load(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
}

// TestReadOnlyDedicated: the provider still serves it, and the endpoint is told.
func TestReadOnlyDedicated(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	write(t, p, []byte(readOnly+readOnly))
	eventually(t, "the endpoint hears of it", func() bool { return r.watch.draining.Load() == 2 })
	r.sendOne(c, o, 3)
	write(t, p, slices.Concat(callback(codec.FlagTwoWay, 4, 20), answer200(mustRead(t, p).ID)))
	if call, a := take(t, o.delivered), take(t, o.delivered); call.ID != 1001 || a.ID != 3 {
		t.Errorf("%d and %d came, want the call and the answer to 3", call.ID, a.ID)
	}
	wantNone(t, o.parted)
	c.Quit()
}

// TestRotateDedicated: a better way ends nobody's connection; a short cut that
// may be forbidden now does.
func TestRotateDedicated(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c, p := r.dedicated(o)
	r.group.Rotate()
	wantNone(t, o.parted)
	r.sendOne(c, o, 2)
	q := mustRead(t, p)
	c.mu.Lock()
	c.sameNode = true
	c.mu.Unlock()
	r.group.Rotate()
	if made := take(t, o.parted); !made {
		t.Error("the connection was made")
	}
	write(t, p, answer200(q.ID))
	if a := take(t, o.delivered); a.ID != 2 {
		t.Errorf("an answer to %d, want 2", a.ID)
	}
	wantEnd(t, p)
	c.Quit()
}

// TestDedicatedBound: who keeps the group connected by a connection of its own
// needs no second one; others do.
func TestDedicatedBound(t *testing.T) {
	r := newRig(t)
	o := &boundConsumer{consumer: newConsumer(), watcher: &watcher{}}
	r.group.Bind(o)
	c := r.group.Dedicate(o)
	defer c.Quit()
	r.prov.accept()
	time.Sleep(10 * time.Millisecond)
	if n := r.dial.dials.Load(); n != 1 {
		t.Errorf("%d connects, want one", n)
	}
	r.group.Bind(r.watch)
	r.prov.accept()
	r.group.Unbind(o)
	r.group.Unbind(r.watch)
}

// boundConsumer is a consumer that dialled the endpoint.
type boundConsumer struct {
	*consumer

	watcher *watcher
}

func (b *boundConsumer) Dead() { b.watcher.Dead() }
