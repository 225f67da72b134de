package upstream

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// half starts to send one large request and returns the rest of its frame.
func (r *rig) half(owner Owner, q exchange.Request) (*Upload, []byte) {
	r.t.Helper()
	cut := len(q.Frame) / 2
	first := q
	first.Frame, first.Length = q.Frame[:cut], len(q.Frame)
	u, err := r.group.Upload(owner, first)
	if err != nil {
		r.t.Fatal(err)
	}
	return u, q.Frame[cut:]
}

// upload sends one large request and returns what came and where.
func (r *rig) upload(owner Owner, q exchange.Request, on *net.TCPConn) (*net.TCPConn, got) {
	r.t.Helper()
	u, rest := r.half(owner, q)
	u.Write(rest)
	u.End()
	if on == nil {
		on = r.prov.accept()
	}
	return on, mustRead(r.t, on)
}

// TestUploadReuse: one connection carries one large request after another.
func TestUploadReuse(t *testing.T) {
	r, o := newRig(t), newConsumer()
	var p *net.TCPConn
	for id := range uint64(3) {
		var g got
		p, g = r.upload(o, r.request(id, codec.FlagTwoWay), p)
		write(t, p, answer200(g.ID))
		if a := take(t, o.delivered); a.ID != id {
			t.Errorf("an answer to %d, want %d", a.ID, id)
		}
		eventually(t, "the connection is free", r.hasParked)
	}
	_, g := r.upload(o, r.request(50, 0), p)
	if g.ID != 50 {
		t.Errorf("the one-way request %d came", g.ID)
	}
	eventually(t, "the connection is free again", r.hasParked)
	eventually(t, "one record of the one-way request", func() bool { return r.watch.records(rpc.ResultNone) == 1 })
	if n := r.prov.count.Load(); n != 1 || r.dial.dials.Load() != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	eventually(t, "none in flight, and three settled", func() bool { return r.watch.flying.Load() == 0 && o.settled.Load() == 3 })
}

func (r *rig) hasParked() bool {
	_, parked := r.group.bulks.Count()
	return parked == 1
}

// TestUploadBound: no more than maxBulk at a time; who comes then waits, and an
// end makes room.
func TestUploadBound(t *testing.T) {
	r, o := newRig(t), newConsumer()
	for id := range uint64(maxBulk - 1) {
		r.upload(o, r.request(id, codec.FlagTwoWay), nil)
	}
	last, _ := r.half(o, r.request(maxBulk-1, codec.FlagTwoWay))
	p := r.prov.accept()
	start := time.Now()
	if _, err := r.group.Upload(o, r.request(99, codec.FlagTwoWay)); !errors.Is(err, ErrBusy) || time.Since(start) < bulkPatience {
		t.Errorf("Upload = %v after %s, want ErrBusy", err, time.Since(start))
	}
	const waiting = 3
	done := make(chan error, waiting)
	for id := range uint64(waiting) {
		go func() {
			q := r.request(100+id, codec.FlagTwoWay)
			u, err := r.group.Upload(o, q)
			for errors.Is(err, ErrBusy) { // this test may take longer than its patience
				u, err = r.group.Upload(o, q)
			}
			if err == nil {
				u.End()
			}
			done <- err
		}()
	}
	time.Sleep(10 * time.Millisecond)
	wantNone(t, done)
	last.Abort()
	if f := take(t, o.refused); f.ID != maxBulk-1 || f.Why != rpc.WhyUpstreamClosed {
		t.Errorf("request %d was refused with %q", f.ID, f.Why)
	}
	if _, err := readFrame(p); err == nil {
		t.Error("the provider got a whole frame of an aborted request")
	}
	// Each answer parks the connection for the next who waits.
	p = r.prov.accept()
	for range waiting {
		write(t, p, answer200(mustRead(t, p).ID))
		take(t, o.delivered)
		if err := take(t, done); err != nil {
			t.Errorf("who waited got %v", err)
		}
	}
	wantNone(t, o.refused)
}

// TestUploadWaitClosed: who waits for a connection does not hold up the end.
func TestUploadWaitClosed(t *testing.T) {
	r, o := newRig(t), newConsumer()
	for id := range uint64(maxBulk) {
		r.upload(o, r.request(id, codec.FlagTwoWay), nil)
	}
	done := make(chan error)
	go func() {
		_, err := r.group.Upload(o, r.request(99, codec.FlagTwoWay))
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	r.pool.Close()
	if err := take(t, done); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("Upload = %v, want the end", err)
	}
}

// TestUploadProviderGone: the rest of a request whose provider died is dropped
// and the request is refused once.
func TestUploadProviderGone(t *testing.T) {
	r, o := newRig(t), newConsumer()
	u, _ := r.half(o, r.request(1, codec.FlagTwoWay))
	_ = r.prov.accept().Close()
	if f := take(t, o.refused); f.ID != 1 {
		t.Errorf("request %d was refused, want 1", f.ID)
	}
	for range 3 {
		u.Write(make([]byte, 1000))
	}
	u.End()
	wantNone(t, o.refused)
	if r.hasParked() || r.pool.Count() != 0 {
		t.Error("the ended connection is kept")
	}
}

// TestUploadAnsweredEarly: the connection is not free before the request's end,
// even if its answer has come.
func TestUploadAnsweredEarly(t *testing.T) {
	r, o := newRig(t), newConsumer()
	u, rest := r.half(o, r.request(1, codec.FlagTwoWay))
	p := r.prov.accept()
	write(t, p, answer200(0))
	take(t, o.delivered)
	write(t, p, dubbo.AppendHeartbeat(nil, 5))
	r.upload(o, r.request(2, codec.FlagTwoWay), nil)
	u.Write(rest)
	u.End()
	eventually(t, "the connection is free", r.hasParked)
	if g := mustRead(t, p); g.Event() || len(g.frame) != 46 {
		t.Errorf("frame %x came, want the request", g.frame)
	}
	if g := mustRead(t, p); !g.Event() || g.ID != 5 {
		t.Errorf("frame %x came, want the answer to the heartbeat behind the request", g.frame)
	}
}

// TestUploadAbandoned: consumers that leave after their request use up nothing.
func TestUploadAbandoned(t *testing.T) {
	r, o := newRig(t), newConsumer()
	for id := range uint64(maxBulk + 4) {
		p, _ := r.upload(o, r.request(id, codec.FlagTwoWay), nil)
		for _, c := range r.group.Conns() {
			c.Abandon(o)
		}
		wantEnd(t, p)
	}
	if n := o.settled.Load(); n != maxBulk+4 {
		t.Errorf("%d settled, want %d", n, maxBulk+4)
	}
}

func TestUploadDialFails(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.pool.cancel()
	if _, err := r.group.Upload(o, r.request(1, codec.FlagTwoWay)); err == nil {
		t.Error("Upload without a connection gave no error")
	}
	wantNone(t, o.again)
	wantNone(t, o.refused)
	if all, _ := r.group.bulks.Count(); all != 0 || r.watch.flying.Load() != 0 {
		t.Errorf("%d in flight, %d connections counted; want none", r.watch.flying.Load(), all)
	}
}

// TestStream: an answer that is too large to be held passes whole, between others.
func TestStream(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1, 2, 3)
	p := r.prov.accept()
	before, large, after := mustRead(t, p), mustRead(t, p), mustRead(t, p)
	body := frame(0, dubbo.StatusOK, large.ID, 5*sock.Largest)
	for i := dubbo.HeaderLen + 1; i < len(body); i++ {
		body[i] = byte(i * 7)
	}
	write(t, p, slices.Concat(answer200(before.ID), body, answer200(after.ID)))
	for _, id := range []uint64{1, 3} {
		if a := take(t, o.delivered); a.ID != id {
			t.Errorf("an answer to %d, want %d", a.ID, id)
		}
	}
	dubbo.PutID(body, 2)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.streamed, body) || len(o.ends) != 1 || o.ends[0] != nil {
		t.Errorf("%d bytes were streamed, ended with %v; want %d as they were sent", len(o.streamed), o.ends, len(body))
	}
	eventually(t, "what was answered is settled", func() bool { return o.settled.Load() >= 2 && r.watch.records(rpc.ResultValue) >= 2 })
}

// TestStreamBreaks: the consumer learns that it has half an answer.
func TestStreamBreaks(t *testing.T) {
	r, o := newRig(t), newConsumer()
	r.send(o, 1)
	p := r.prov.accept()
	q := mustRead(t, p)
	write(t, p, frame(0, dubbo.StatusOK, q.ID, 3*sock.Largest)[:2*sock.Largest])
	_ = p.Close()
	eventually(t, "it is settled", func() bool { return o.settled.Load() == 1 })
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ends) != 1 || o.ends[0] == nil {
		t.Errorf("the stream ended with %v, want one error", o.ends)
	}
	wantNone(t, o.refused)
	if n := r.watch.records(rpc.ResultGone); n != 1 {
		t.Errorf("%d records of a lost answer, want 1", n)
	}
}
