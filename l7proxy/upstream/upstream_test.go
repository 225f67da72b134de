package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestShared: consumers that use the same ids share one connection.
func TestShared(t *testing.T) {
	r := newRig(t)
	r.group.Conn()
	go echo(r.prov.accept())
	const consumers, each = 4, 100
	var sending sync.WaitGroup
	owners := make([]*consumer, consumers)
	for i := range owners {
		owners[i] = newConsumer()
		sending.Go(func() {
			for id := range uint64(each) {
				if !r.sendOn(r.group.Conn(), owners[i], id) {
					t.Error("the connection takes no requests")
				}
			}
		})
	}
	sending.Wait()
	for _, o := range owners {
		seen := make(map[uint64]bool)
		for range each {
			a := take(t, o.delivered)
			if a.ID >= each || seen[a.ID] {
				t.Fatalf("an answer to %d, which was not asked or is answered already", a.ID)
			}
			seen[a.ID] = true
		}
		eventually(t, "all is settled", func() bool { return o.settled.Load() == each })
		wantNone(t, o.refused)
	}
	if n := r.prov.count.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	eventually(t, "a record of each, and none in flight", func() bool {
		return r.watch.records(rpc.ResultValue) == consumers*each && r.watch.flying.Load() == 0
	})
	if r.pool.Count() != 1 || r.watch.connected.Load() != 1 {
		t.Errorf("the pool counts %d connections, the endpoint %d", r.pool.Count(), r.watch.connected.Load())
	}
}

// TestRedial: what was in flight on a connection that ends is refused once; the
// next request gets a new connection.
func TestRedial(t *testing.T) {
	r, o := newRig(t), newConsumer()
	first := r.send(o, 1, 2)
	p := r.prov.accept()
	mustRead(t, p)
	_ = p.Close()
	var ids []uint64
	for range 2 {
		f := take(t, o.refused)
		if f.Why != rpc.WhyUpstreamClosed {
			t.Errorf("refused with %q", f.Why)
		}
		ids = append(ids, f.ID)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []uint64{1, 2}) {
		t.Errorf("refused %v, want 1 and 2", ids)
	}
	wantNone(t, o.refused)
	if r.sendOn(first, o, 3) {
		t.Error("the ended connection took a request")
	}
	if second := r.send(o, 4); second == first {
		t.Error("the group keeps the ended connection")
	}
	go echo(r.prov.accept())
	if a := take(t, o.delivered); a.ID != 4 {
		t.Errorf("an answer to %d, want 4", a.ID)
	}
	eventually(t, "none in flight", func() bool { return r.watch.flying.Load() == 0 })
}

// TestDialFails: what waited comes back once, whole, and the next Conn dials.
func TestDialFails(t *testing.T) {
	r := newRig(t)
	dial := make(chan error)
	r.dial.gate = func(context.Context) error { return <-dial }
	owners := []*consumer{newConsumer(), newConsumer()}
	r.group.Bind(r.watch)
	for i, o := range owners {
		q := r.request(uint64(i), codec.FlagTwoWay)
		if !r.group.Conn().Send(o, []exchange.Request{q}, [][]byte{q.Frame}) {
			t.Fatal("a connection that is being made takes no requests")
		}
		clear(q.Frame) // the caller's buffer goes on
	}
	dial <- errors.New("refused")
	for i, o := range owners {
		q := take(t, o.again)
		if q.ID != uint64(i) || q.Attempt != 1 || !slices.Equal(q.Frame, frame(codec.FlagRequest|codec.FlagTwoWay, 0, uint64(i), 30)) {
			t.Errorf("request %d came back as %d, attempt %d, frame %x", i, q.ID, q.Attempt, q.Frame)
		}
		wantNone(t, o.again)
		wantNone(t, o.refused)
		if n := o.settled.Load(); n != 0 {
			t.Errorf("%d settled, want none: they are still pending", n)
		}
	}
	eventually(t, "the bound one hears of it", func() bool { return r.watch.dead.Load() == 1 })
	if n, m := r.watch.failed.Load(), r.pool.Stats().DialFailures.Load(); n != 1 || m != 1 {
		t.Errorf("%d failures told and %d counted, want 1", n, m)
	}
	r.group.Unbind(r.watch)
	r.send(owners[0], 5)
	dial <- nil
	go echo(r.prov.accept())
	if a := take(t, owners[0].delivered); a.ID != 5 || r.dial.dials.Load() != 2 {
		t.Errorf("an answer to %d after %d dials, want 5 after 2", a.ID, r.dial.dials.Load())
	}
}

// TestEarly: what waited for the connection leaves in order, before what comes later.
func TestEarly(t *testing.T) {
	r, o := newRig(t), newConsumer()
	dial := make(chan error)
	r.dial.gate = func(context.Context) error { return <-dial }
	for id := range uint64(10) {
		r.send(o, id)
	}
	oneWay := r.request(77, 0)
	r.group.Conn().Send(o, []exchange.Request{oneWay}, [][]byte{oneWay.Frame})
	dial <- nil
	p := r.prov.accept()
	for range 10 {
		write(t, p, answer200(mustRead(t, p).ID))
	}
	if g := mustRead(t, p); g.ID != 77 || g.TwoWay() {
		t.Errorf("request %d came, want the one-way 77 as it was", g.ID)
	}
	for id := range uint64(10) {
		if a := take(t, o.delivered); a.ID != id {
			t.Errorf("an answer to %d, want %d", a.ID, id)
		}
	}
	eventually(t, "the one-way request is recorded", func() bool { return r.watch.records(rpc.ResultNone) == 1 })
	eventually(t, "all are settled", func() bool { return o.settled.Load() == 10 })
}

// TestRetire: new requests get another connection, what is pending ends where it is.
func TestRetire(t *testing.T) {
	r, o := newRig(t), newConsumer()
	first := r.send(o, 1)
	p := r.prov.accept()
	q := mustRead(t, p)
	first.Retire()
	if r.group.current.Load() != nil || r.sendOn(first, o, 2) {
		t.Error("a retired connection takes requests")
	}
	r.send(o, 3)
	go echo(r.prov.accept())
	if a := take(t, o.delivered); a.ID != 3 {
		t.Errorf("an answer to %d, want 3", a.ID)
	}
	write(t, p, answer200(q.ID))
	if a := take(t, o.delivered); a.ID != 1 {
		t.Errorf("an answer to %d, want 1, which was pending", a.ID)
	}
	wantEnd(t, p)
	wantNone(t, o.refused)
}

// TestReadOnly: the endpoint is told, and the connection goes on until the provider
// closes it: one that has no consumer any more ends before its time.
func TestReadOnly(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.group.Watch(r.watch)
	first := r.send(o, 1)
	p := r.prov.accept()
	q := mustRead(t, p)
	write(t, p, []byte("\xda\xbb\xa2\x00\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x02\x01R"))
	eventually(t, "the endpoint is told", func() bool { return r.watch.draining.Load() > 0 })
	write(t, p, answer200(q.ID))
	if a := take(t, o.delivered); a.ID != 1 {
		t.Errorf("an answer to %d, want 1, which was pending", a.ID)
	}
	for range deadAfter - 1 { // three minutes, in which it says nothing
		r.tick(first)
	}
	if !r.sendOn(first, o, 2) {
		t.Fatal("the connection takes nothing more")
	}
	for g := mustRead(t, p); ; g = mustRead(t, p) {
		if !g.Event() {
			write(t, p, answer200(g.ID))
			break
		}
	}
	if a := take(t, o.delivered); a.ID != 2 {
		t.Errorf("an answer to %d, want 2", a.ID)
	}
	wantNone(t, o.refused)
}

func TestRetireIdle(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1)
	p := r.prov.accept()
	write(t, p, answer200(mustRead(t, p).ID))
	take(t, o.delivered)
	r.group.Rotate()
	wantEnd(t, p)
	if n := r.pool.Count(); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
}

// TestCloseRetiring: a retired connection with a request in flight ends with the
// pool, and its request is answered.
func TestCloseRetiring(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c := r.send(o, 1)
	mustRead(t, r.prov.accept())
	c.Retire()
	r.pool.Close()
	if f := take(t, o.refused); f.ID != 1 {
		t.Errorf("request %d was refused, want 1", f.ID)
	}
}

// TestCloseConnecting: so does one that is not connected yet.
func TestCloseConnecting(t *testing.T) {
	r, o := newRig(t), newConsumer()
	dial := make(chan error)
	r.dial.gate = func(context.Context) error { return <-dial }
	c := r.send(o, 1)
	c.Close()
	dial <- nil
	if f := take(t, o.refused); f.ID != 1 || f.Why != rpc.WhyUpstreamClosed {
		t.Errorf("request %d was refused with %q, want 1", f.ID, f.Why)
	}
	wantNone(t, o.again)
}

// TestRetireConnecting: what waits is sent and answered, then it ends.
func TestRetireConnecting(t *testing.T) {
	r, o := newRig(t), newConsumer()
	dial := make(chan error)
	r.dial.gate = func(context.Context) error { return <-dial }
	c := r.send(o, 1)
	c.Retire()
	dial <- nil
	p := r.prov.accept()
	write(t, p, answer200(mustRead(t, p).ID))
	if a := take(t, o.delivered); a.ID != 1 {
		t.Errorf("an answer to %d, want 1", a.ID)
	}
	wantEnd(t, p)
}

// TestRetireFailed: a retirement may come after the end.
func TestRetireFailed(t *testing.T) {
	r, o := newRig(t), newConsumer()
	sent := make(chan struct{})
	r.dial.gate = func(context.Context) error { <-sent; return errors.New("refused") }
	c := r.send(o, 1)
	close(sent) // not before: a connection that has failed takes no request
	take(t, o.again)
	c.Retire()
	c.Close()
	time.Sleep(10 * time.Millisecond)
	if n := r.pool.Count(); n != 0 {
		t.Errorf("%d connections, want none", n)
	}
}

// TestAbandonRetiring: a retired connection ends when its last consumer has left.
func TestAbandonRetiring(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c := r.send(o, 1)
	p := r.prov.accept()
	mustRead(t, p)
	c.Retire()
	c.Abandon(o)
	c.tick()
	wantEnd(t, p)
}

// TestBound: an address that somebody dialled is connected again at once, unless
// the provider ends every connection.
func TestBound(t *testing.T) {
	r := newRig(t)
	r.group.Bind(r.watch)
	p := r.prov.accept()
	c := r.group.Conn()
	eventually(t, "it is connected", func() bool { _, opened := c.lived(); return opened })
	c.mu.Lock()
	c.since = time.Now().Add(-minLife)
	c.mu.Unlock()
	_ = p.Close()
	p = r.prov.accept()
	if r.watch.dead.Load() != 0 {
		t.Error("a live provider was called dead")
	}
	c = r.group.Conn()
	eventually(t, "it is connected again", func() bool { _, opened := c.lived(); return opened })
	c.mu.Lock()
	c.since = time.Now().Add(time.Hour) // however long this test takes
	c.mu.Unlock()
	_ = p.Close()
	eventually(t, "the bound one hears of it", func() bool { return r.watch.dead.Load() == 1 })
	r.group.Unbind(r.watch)
}

// TestConnFailing: a connection that ends while it is made the current one is not
// the current one afterwards.
func TestConnFailing(t *testing.T) {
	r := newRig(t)
	r.dial.gate = func(context.Context) error { return errors.New("refused") }
	for range 500 {
		r.group.Conn()
		eventually(t, "it is gone", func() bool { return r.pool.Count() == 0 })
		if r.group.current.Load() != nil {
			t.Fatal("an ended connection takes requests")
		}
	}
}

// TestUnasked: late answers, answers to nobody, and callbacks disturb nothing.
func TestUnasked(t *testing.T) {
	r, o := newRig(t), newConsumer()
	c := r.send(o, 1, 2)
	p := r.prov.accept()
	late, next := mustRead(t, p), mustRead(t, p)
	c.Abandon(o)
	if n := o.settled.Load(); n != 2 || r.watch.flying.Load() != 0 || r.watch.records(rpc.ResultGone) != 2 {
		t.Errorf("%d settled, %d in flight, %d recorded as gone; want 2, 0, 2", n, r.watch.flying.Load(), r.watch.records(rpc.ResultGone))
	}
	r.send(o, 3)
	q := mustRead(t, p)
	r.send(newConsumer(), 4)
	mustRead(t, p)
	write(t, p, slices.Concat(answer200(late.ID), answer200(next.ID), answer200(1<<40)))
	write(t, p, frame(codec.FlagRequest|codec.FlagTwoWay, 0, 5, 20))
	if g := mustRead(t, p); g.Request() || g.ID != 5 || g.Status != dubbo.StatusBadRequest {
		t.Errorf("frame %x answers a callback", g.frame)
	}
	write(t, p, answer200(q.ID))
	if a := take(t, o.delivered); a.ID != 3 {
		t.Errorf("an answer to %d, want 3", a.ID)
	}
	wantNone(t, o.delivered)
	if s := r.pool.Stats(); s.Unasked.Load() != 3 || s.Callbacks.Refused.Load() != 1 {
		t.Errorf("%d unasked, %d callbacks; want 3 and 1", s.Unasked.Load(), s.Callbacks.Refused.Load())
	}
}

// TestClose answers what is pending and leaves no connection.
func TestClose(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1, 2, 3)
	p := r.prov.accept()
	mustRead(t, p)
	r.pool.Close()
	for range 3 {
		take(t, o.refused)
	}
	wantNone(t, o.refused)
	if r.pool.Count() != 0 {
		t.Errorf("%d connections after Close", r.pool.Count())
	}
}

// TestReap drops a group that nobody references, after a while.
func TestReap(t *testing.T) {
	r := newRig(t)
	r.group.Conn()
	p := r.prov.accept()
	eventually(t, "it is connected", func() bool { return r.watch.connected.Load() == 1 })
	if same := r.pool.Group(r.group.key, r.group.client); same != r.group {
		t.Error("the same key gave another group")
	}
	for range 2 * unusedTicks {
		r.pool.reap(r.group)
	}
	if len(r.pool.all()) != 1 {
		t.Error("a group in use was dropped")
	}
	r.group.Release()
	r.group.Release()
	eventually(t, "the connection is open", func() bool { _, open := r.group.Conn().lived(); return open })
	for range unusedTicks {
		r.pool.reap(r.group)
	}
	if len(r.pool.all()) != 0 {
		t.Error("a group that nobody uses was kept")
	}
	wantEnd(t, p)
}
