package upstream

import (
	"bytes"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/export"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// unknown is the answer of a provider that does not know the interface.
func unknown(id uint64) []byte {
	return dubbo.AppendError(nil, codec.Header{Flags: codec.FlagRequest | dubbo.Hessian2, ID: id}, dubbo.StatusServiceNotFound, "no")
}

// keptBytes is the number of bytes that a connection keeps for second attempts.
func (c *Conn) keptBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// TestExport: a request whose interface is not known goes back to its owner as it
// was, once, with the provider's answer; from the first OK on nothing is kept.
func TestExport(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.edge.Export = &export.Export{}
	c := r.send(o, 7)
	p := r.prov.accept()
	first := mustRead(t, p)
	if n := c.keptBytes(); n != len(first.frame) {
		t.Errorf("%d bytes are kept, want the frame's %d", n, len(first.frame))
	}
	write(t, p, unknown(first.ID))
	again := take(t, o.again)
	dubbo.PutID(again.Frame, again.ID)
	if want := r.request(7, codec.FlagTwoWay); !bytes.Equal(again.Frame, want.Frame) || again.ID != 7 || again.Edge != r.edge {
		t.Errorf("the request came back as % x", again.Frame)
	}
	if again.Last == nil || !again.Last.Unknown || !bytes.Equal(again.Last.Answer, unknown(7)) || again.Last.Call != r.edge.Remote {
		t.Errorf("with %+v", again.Last)
	}
	if c.keptBytes() != 0 || r.watch.flying.Load() != 0 || o.settled.Load() != 0 || !r.edge.Export.Deaf() {
		t.Errorf("%d bytes kept, %d flying, %d settled, deaf %v", c.keptBytes(), r.watch.flying.Load(), o.settled.Load(), r.edge.Export.Deaf())
	}
	wantNone(t, o.delivered)

	// Its second attempt, should it come here again, is not kept.
	if !c.Send(o, []exchange.Request{again}, [][]byte{again.Frame}) || c.keptBytes() != 0 {
		t.Error("a second attempt is kept")
	}
	write(t, p, unknown(mustRead(t, p).ID))
	if g := take(t, o.delivered); g.ID != 7 || g.Status != dubbo.StatusServiceNotFound {
		t.Errorf("the second answer: %+v", g.Header)
	}

	r.send(o, 8)
	write(t, p, answer200(mustRead(t, p).ID))
	take(t, o.delivered)
	r.send(o, 9)
	if c.keptBytes() != 0 || r.edge.Export.Deaf() {
		t.Error("kept although the interface is known")
	}
	write(t, p, unknown(mustRead(t, p).ID))
	if g := take(t, o.delivered); g.ID != 9 || g.Status != dubbo.StatusServiceNotFound {
		t.Errorf("after an OK answer: %+v", g.Header)
	}
	wantNone(t, o.again)
}

// TestExportBounds: what is kept has a bound per request and per connection, and
// goes with whatever ends a request.
func TestExportBounds(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.edge.Export = &export.Export{}
	c := r.send(o, 1)
	p := r.prov.accept()
	mustRead(t, p)
	one := c.keptBytes()
	send := func(size int, flags byte) {
		q := r.request(2, flags)
		q.Frame = frame(codec.FlagRequest|flags, 0, 2, size)
		if !c.Send(o, []exchange.Request{q}, [][]byte{q.Frame}) {
			t.Fatal("the connection takes no requests")
		}
		mustRead(t, p)
	}
	send(maxKept, codec.FlagTwoWay)
	send(100, 0)
	if n := c.keptBytes(); n != one {
		t.Errorf("%d bytes are kept: of a large or a one-way request too", n)
	}
	for range 40 {
		send(maxKept-dubbo.HeaderLen, codec.FlagTwoWay)
	}
	if n := c.keptBytes(); n > maxAllKept || n < maxAllKept-maxKept {
		t.Errorf("%d bytes are kept, want nearly %d", n, maxAllKept)
	}
	c.Abandon(o)
	if n := c.keptBytes(); n != 0 {
		t.Errorf("%d bytes are kept for an owner that has gone", n)
	}
	send(100, codec.FlagTwoWay)
	c.Close()
	take(t, o.refused)
	if n := c.keptBytes(); n != 0 {
		t.Errorf("%d bytes are kept of a closed connection", n)
	}
}

// TestExportEarly: a request that waited for the connection is kept like others.
func TestExportEarly(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.edge.Export = &export.Export{}
	r.edge.Remote.Interface = "shop.orders"
	r.send(o, 3)
	p := r.prov.accept()
	g := mustRead(t, p)
	time.Sleep(10 * time.Millisecond)
	write(t, p, unknown(g.ID))
	if again := take(t, o.again); again.ID != 3 || again.Attempt != 0 {
		t.Errorf("%+v came back", again)
	}
	if n := r.watch.records(rpc.ResultError); n != 0 {
		t.Errorf("%d records of an answer that was not delivered", n)
	}
}
