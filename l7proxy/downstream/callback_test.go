package downstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// TestCallback: a connection that declares a callback is called back, with every
// id intact on both sides, while another consumer goes on as before.
func TestCallback(t *testing.T) {
	for _, serialization := range []byte{dubbo.Hessian2, dubbo.Fastjson2} {
		t.Run(fmt.Sprint(serialization), func(t *testing.T) {
			p := newSpeaker(t)
			r := newRig(t, p.addr)
			c, other := r.dial(), r.dial()
			shared := asked(t, c, p, nil, request(1, twoWay, []byte("\x01a")))
			asked(t, other, p, shared, request(1, twoWay, []byte("\x01b")))
			own := asked(t, c, p, nil, subscribe(5, serialization))

			// The consumer's own request is pending under each id that is used.
			put(t, c, request(0, twoWay, []byte("\x01c")), request(1, twoWay, []byte("\x01d")))
			zero, _ := next(t, own)
			one, _ := next(t, own)
			const min64 = 1 << 63
			put(t, own, push(min64+7, twoWay, []byte("\x01x")), push(zero.ID, twoWay, []byte("\x01y")), push(9, 0x82, []byte("\x01z")))
			first, f := next(t, c)
			if !first.Request() || !bytes.Equal(f[dubbo.HeaderLen:], push(0, twoWay, []byte("\x01x"))[dubbo.HeaderLen:]) {
				t.Errorf("the consumer got %q, want the first call", f)
			}
			second, _ := next(t, c)
			if third, _ := next(t, c); third.TwoWay() || first.ID == second.ID {
				t.Errorf("calls %d, %d and %+v came", first.ID, second.ID, third)
			}
			put(t, c, value(second.ID, []byte("two")), value(first.ID, []byte("one")))
			for _, want := range [][]byte{value(zero.ID, []byte("two")), value(min64+7, []byte("one"))} {
				if _, f := next(t, own); !bytes.Equal(f, want) {
					t.Errorf("the provider got %q, want %q", f, want)
				}
			}
			put(t, own, value(one.ID, []byte("d")), value(zero.ID, []byte("c")))
			for _, id := range []uint64{1, 0} {
				if h, _ := next(t, c); h.Request() || h.ID != id {
					t.Errorf("%+v came, want the answer to %d", h, id)
				}
			}
			put(t, c, value(second.ID, nil)) // answered twice: dropped
			asked(t, other, p, shared, request(2, twoWay, []byte("\x01e")))
			asked(t, c, p, own, request(3, twoWay, []byte("\x01f")))
			stats := r.env.Pool.Stats()
			if a, o := stats.Callbacks.Answered.Load(), stats.Callbacks.OneWay.Load(); a != 2 || o != 1 || stats.Unasked.Load() != 1 {
				t.Errorf("%d answered, %d one-way, %d unasked; want 2, 1, 1", a, o, stats.Unasked.Load())
			}
			p.none()
		})
	}
}

// TestCallbackSticks: all requests of the connection, large ones too, go where it
// subscribed; those of others are balanced as before.
func TestCallbackSticks(t *testing.T) {
	a, b := newSpeaker(t), newProvider(t)
	r := newRig(t, a.addr)
	c := r.dial()
	own := asked(t, c, a, nil, subscribe(1, dubbo.Hessian2))
	r.configure(a.addr, b.addr)
	for id := range uint64(40) {
		asked(t, c, a, own, request(id, twoWay, []byte("\x01a")))
	}
	asked(t, c, a, own, request(77, twoWay, make([]byte, 2<<20)))
	asked(t, c, a, own, subscribe(78, dubbo.Hessian2))
	r.configure(b.addr) // the provider is not announced any more, but serves
	asked(t, c, a, own, request(79, twoWay, nil))
	a.none()
	if n := b.requests.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
	converse(t, r.dial(), exchangeOf{n: 20, inFlight: 4, sizes: []int{10}})
	if n := b.requests.Load(); n != 20 {
		t.Errorf("%d requests of another consumer went to the other provider, want 20", n)
	}
}

// TestCallbackLarge: calls and their answers that are not held whole.
func TestCallbackLarge(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	c := r.dial()
	own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(i * 31 >> 3)
	}
	for id := range uint64(3) {
		go own.Write(slices.Concat(push(id, twoWay, noise), push(50, 0x82, []byte("\x01z"))))
		h, f := next(t, c)
		if want := push(h.ID, twoWay, noise); !bytes.Equal(f, want) {
			t.Fatalf("a call of %d bytes came, want %d", len(f), len(want))
		}
		next(t, c)
		go c.Write(slices.Concat(value(h.ID, noise), value(h.ID, noise))) // the second is nobody's
		if _, f := next(t, own); !bytes.Equal(f, value(id, noise)) {
			t.Fatalf("an answer of %d bytes came, want %d", len(f), len(noise)+17)
		}
	}
	asked(t, c, p, own, request(2, twoWay, nil))
	// Over the limit: the provider hears so, and nothing else is harmed.
	put(t, own, push(9, twoWay, []byte("\x01x")))
	h, _ := next(t, c)
	go c.Write(value(h.ID, make([]byte, 17<<20)))
	if h, _ := next(t, own); h.ID != 9 || h.Status != dubbo.StatusBadResponse {
		t.Errorf("%+v came, want an error for 9", h)
	}
	asked(t, c, p, own, request(3, twoWay, nil))
}

// TestCallbackProviderEnds: each pending request is answered, what comes then is
// too, and the consumer reads the end behind that, not a reset.
func TestCallbackProviderEnds(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	r.env.patient = time.Second // for request 9
	c := r.dial()
	own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
	put(t, own, push(7, twoWay, []byte("\x01x")))
	next(t, c)
	for id := range uint64(3) {
		put(t, c, request(id, twoWay, nil))
		next(t, own)
	}
	_ = own.Close()
	for id := range uint64(3) {
		r.reply(c, id, dubbo.StatusServerError, rpc.WhyUpstreamClosed)
	}
	put(t, c, request(9, twoWay, nil))
	// It may come before the consumer's connection knows that its provider's has
	// ended, and not only been lost: then it was tried, and the text is another.
	if h, _ := next(t, c); h.ID != 9 || h.Status != dubbo.StatusServerError {
		t.Errorf("%+v came, want an error for 9", h)
	}
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("%d bytes and %v came, want the end", len(b), err)
	}
	waitFor(t, "the call is counted", func() bool { return r.env.Pool.Stats().Callbacks.Gone.Load() == 1 })
	waitFor(t, "no upstream connection is left", func() bool { return r.env.Pool.Count() == 0 })
	waitFor(t, "the records", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		closed, failed := r.rec.whys[rpc.WhyUpstreamClosed], r.rec.whys[rpc.WhyConnectFailed]
		return r.rec.results[rpc.ResultLocal] == 4 && closed >= 3 && closed+failed == 4
	})
}

// TestCallbackBusyConsumer: a consumer that never stops sending ends all the
// same, and gets an answer to all but what it sent at the very end.
func TestCallbackBusyConsumer(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	r.env.patient = time.Second // for the first request
	c := r.dial()
	own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
	_ = own.Close()
	go func() {
		for id := uint64(0); ; id++ {
			if _, err := c.Write(request(id, twoWay, nil)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	start, answered, last := time.Now(), make(map[uint64]bool), uint64(0)
	for {
		f, err := readFrame(c)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("after %d answers: %v, want the end", len(answered), err)
		}
		// In any order: what met the end of the connection before is routed anew.
		h, _ := dubbo.ParseHeader(f)
		if answered[h.ID] {
			t.Fatalf("a second answer to %d", h.ID)
		}
		answered[h.ID], last = true, max(last, h.ID)
	}
	if took := time.Since(start); took > time.Minute || len(answered) == 0 || len(answered) != int(last)+1 {
		t.Errorf("%d answers in %s, the last one to %d", len(answered), took, last)
	}
}

// TestCallbackConsumerEnds: the provider gets an answer to each pending call and
// then the end, whether the consumer closes or breaks.
func TestCallbackConsumerEnds(t *testing.T) {
	for _, name := range []string{"close", "half-close", "reset"} {
		t.Run(name, func(t *testing.T) {
			p := newSpeaker(t)
			r := newRig(t, p.addr)
			c := r.dial().(*net.TCPConn)
			own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
			put(t, own, push(7, twoWay, nil), push(8, twoWay, nil))
			next(t, c)
			next(t, c)
			put(t, c, request(3, twoWay, nil))
			pending, _ := next(t, own)
			switch name {
			case "close":
				_ = c.Close()
			case "half-close":
				_ = c.CloseWrite()
			case "reset":
				_ = c.SetLinger(0)
				_ = c.Close()
			}
			seen := map[uint64]bool{}
			for range 2 {
				h, _ := next(t, own)
				seen[h.ID] = h.Status == dubbo.StatusChannelInactive
			}
			if !seen[7] || !seen[8] {
				t.Errorf("answers %v came, want errors for 7 and 8", seen)
			}
			switch name {
			case "half-close":
				put(t, own, push(9, twoWay, nil))
				if h, _ := next(t, own); h.ID != 9 || h.Status != dubbo.StatusBadRequest {
					t.Errorf("%+v came, want an error for 9", h)
				}
				put(t, own, value(pending.ID, nil))
				if h, _ := next(t, c); h.ID != 3 {
					t.Errorf("%+v came, want the answer to 3", h)
				}
			case "close":
				// It is like a half-close until the consumer resets.
				put(t, own, value(pending.ID, make([]byte, 100)))
			}
			if b, err := io.ReadAll(own); len(b) > 0 || err != nil {
				t.Errorf("%d bytes and %v came, want the end", len(b), err)
			}
			if n := r.env.Pool.Stats().Callbacks.Gone.Load(); n != 2 {
				t.Errorf("%d calls are counted as gone, want 2", n)
			}
		})
	}
}

// TestCallbackDialFails: a subscription goes to an endpoint that lives.
func TestCallbackDialFails(t *testing.T) {
	dead := newProvider(t)
	dead.kill()
	for range 10 {
		p := newSpeaker(t)
		r := newRig(t, dead.addr, p.addr)
		c := r.dial()
		own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
		put(t, own, push(7, twoWay, nil))
		if h, _ := next(t, c); !h.Request() {
			t.Errorf("%+v came, want the call", h)
		}
		asked(t, c, p, own, request(2, twoWay, nil))
	}
}

// TestCallbackUndeclared: a connection that one consumer alone has used becomes
// its own when the provider calls; where several have, both get one of their own
// for what they ask next.
func TestCallbackUndeclared(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	c := r.dial()
	own := asked(t, c, p, nil, request(1, twoWay, nil))
	put(t, own, push(4, twoWay, nil))
	h, _ := next(t, c)
	put(t, c, value(h.ID, []byte("yes")))
	if _, f := next(t, own); !bytes.Equal(f, value(4, []byte("yes"))) {
		t.Errorf("the provider got %q", f)
	}
	asked(t, c, p, own, request(2, twoWay, nil))

	q := newSpeaker(t)
	r = newRig(t, q.addr)
	first, second := r.dial(), r.dial()
	shared := asked(t, first, q, nil, request(1, twoWay, nil))
	asked(t, second, q, shared, request(1, twoWay, nil))
	put(t, shared, push(4, twoWay, nil))
	if h, _ := next(t, shared); h.ID != 4 || h.Status != dubbo.StatusBadRequest {
		t.Errorf("%+v came, want an error for 4", h)
	}
	for _, c := range []net.Conn{first, second} {
		own := asked(t, c, q, nil, request(2, twoWay, nil))
		put(t, own, push(5, twoWay, nil))
		if h, _ := next(t, c); !h.Request() {
			t.Errorf("%+v came, want the call", h)
		}
	}
	if n := r.env.Pool.Stats().Callbacks.Refused.Load(); n != 1 {
		t.Errorf("%d calls refused, want 1", n)
	}
}

// TestCallbackInbound: in front of a pod's own application too.
func TestCallbackInbound(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t)
	r.in.Store(true)
	r.dst.Store(&p.addr)
	c, other := r.dial(), r.dial()
	shared := asked(t, c, p, nil, request(1, twoWay, nil))
	asked(t, other, p, shared, request(1, twoWay, nil))
	own := asked(t, c, p, nil, subscribe(2, dubbo.Hessian2))
	put(t, own, push(4, twoWay, nil))
	h, _ := next(t, c)
	put(t, c, value(h.ID, []byte("yes")))
	if _, f := next(t, own); !bytes.Equal(f, value(4, []byte("yes"))) {
		t.Errorf("the provider got %q", f)
	}
	asked(t, c, p, own, request(3, twoWay, nil))
	asked(t, other, p, shared, request(3, twoWay, nil))
}

// TestCallbackDrain: at the end of the proxy a pending call is waited for, as a
// pending request is; then both sides end.
func TestCallbackDrain(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	c, idle := r.dial(), r.dial()
	own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
	idleOwn := asked(t, idle, p, nil, subscribe(1, dubbo.Hessian2))
	put(t, own, push(7, twoWay, nil))
	h, _ := next(t, c)
	r.env.Stopping.Store(true)
	r.drain()
	for _, end := range []net.Conn{idle, idleOwn} {
		if b, err := io.ReadAll(end); len(b) > 0 || err != nil {
			t.Errorf("%d bytes and %v came on an idle connection, want the end", len(b), err)
		}
	}
	time.Sleep(3 * lastLook)
	put(t, c, value(h.ID, nil))
	if h, _ := next(t, own); h.ID != 7 || h.Status != dubbo.StatusOK {
		t.Errorf("%+v came, want the consumer's answer to 7", h)
	}
	for _, end := range []net.Conn{c, own} {
		if b, err := io.ReadAll(end); len(b) > 0 || err != nil {
			t.Errorf("%d bytes and %v came, want the end", len(b), err)
		}
	}
}

// TestCallbackStall: a consumer that does not read its calls is ended.
func TestCallbackStall(t *testing.T) {
	p := newSpeaker(t)
	r := newRig(t, p.addr)
	c := r.dial()
	own := asked(t, c, p, nil, subscribe(1, dubbo.Hessian2))
	sent := make(chan int)
	go func() {
		n := 0
		for ; n < 1000; n++ {
			if _, err := own.Write(push(1, 0x82, make([]byte, sock.Largest/2))); err != nil {
				break
			}
		}
		sent <- n
	}()
	r.mu.Lock()
	l := r.live[0]
	r.mu.Unlock()
	waitFor(t, "nothing moves and the consumer is ended", func() bool {
		l.Tick()
		time.Sleep(50 * time.Millisecond)
		select {
		case n := <-sent:
			return n < 1000
		default:
			return false
		}
	})
	waitFor(t, "no upstream connection is left", func() bool { return r.env.Pool.Count() == 0 })
}
