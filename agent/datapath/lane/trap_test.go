package lane_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// TestUnknownBetweenKnown: a request without a route in the middle of a message is the
// proxy's, and not the provider's that the one before went to (T1 of the kernel's traps),
// and the sender is not stopped (T5).
func TestUnknownBetweenKnown(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	var slow int64
	lanetest.Must(t, w.proxy.Open(0))
	w.proxy.Drop.Store(true)
	for range 100 {
		frames := w.calls(4, lane.Hessian2, "echo", 100)
		frames[2].Method = "hold"
		frames[2].Kind, frames[3].Kind = lanetest.OneWay, lanetest.OneWay
		w.send(frames, lanetest.Named("one write for all"))
		slow += 2
	}
	lanetest.Eventually(t, "the proxy has what is its own", func() bool { return w.proxy.Slow.Load() == slow })
	w.settle()
	if n := w.provider.Served.Load(); n != 200 {
		t.Errorf("the provider had %d requests, want 200; %s", n, w)
	}
}

// TestDeadPeer: whose other end is gone does not send into the lane (T12).
func TestDeadPeer(t *testing.T) {
	for name, end := range map[string]func(c lanetest.Pair){
		"FIN": func(c lanetest.Pair) { c.Proxy.Close() },
		"RST": func(c lanetest.Pair) { _ = c.Proxy.SetLinger(0); c.Proxy.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := lanetest.New(t, 8)
			w := newWorld(t, r, lanetest.Families[0], 1, 64)
			lanetest.Must(t, w.proxy.Open(0))
			w.send(w.calls(3, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
			w.settle()
			end(w.c)
			frame := w.calls(1, lane.Hessian2, "echo", 100)[0].Append(nil)
			lanetest.Eventually(t, "writes fail", func() bool {
				_, err := w.c.App.Write(frame)
				return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
			})
			if n := w.provider.Served.Load(); n != 3 {
				t.Errorf("the provider had %d requests, want 3", n)
			}
		})
	}
}

// unserved is a world whose provider answers nothing by itself, and has been asked.
func unserved(t *testing.T, r *lanetest.Rig) (w *world, provider lanetest.Pair, frames []lanetest.Frame) {
	t.Helper()
	w = newWorld(t, r, lanetest.Families[0], 1, 64)
	provider = r.DialProvider(lanetest.Families[0])
	lanetest.Ask(t, provider.Proxy, lane.AskBind, lane.Place(1, 0)) // in the place of the world's own
	lanetest.Must(t, w.proxy.Open(0))
	frames = w.calls(5, lane.Hessian2, "echo", 100)
	w.send(frames, lanetest.Named("one write each"))
	return w, provider, frames
}

// TestConsumerGone: a provider whose consumer is gone sees no error; its answer is the
// proxy's.
func TestConsumerGone(t *testing.T) {
	r := lanetest.New(t, 8)
	w, slow, frames := unserved(t, r)
	rd := lanetest.NewReader(slow.App)
	for range frames {
		readFrame(t, rd)
	}
	lanetest.Must(t, w.c.App.Close())
	lanetest.Eventually(t, "the consumer is in no map", func() bool { return lanetest.Ask(t, w.c.Proxy, lane.AskState, 0).Peer == 0 })
	back := lanetest.NewReader(slow.Proxy)
	for _, f := range frames {
		a := lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: answerSize(f.ID)}
		if _, err := slow.App.Write(a.Append(nil)); err != nil {
			t.Fatalf("the provider's write: %v", err)
		}
		if got := readFrame(t, back); got != a {
			t.Errorf("the proxy has %+v, want %+v", got, a)
		}
		if _, ok := r.Memory.Take(1, f.ID); !ok {
			t.Errorf("request %d is in flight no more", f.ID)
		}
	}
}

// TestProviderReset: a provider that dies in the middle of an answer leaves the consumer's
// stream as it was, and the next requests are the proxy's.
func TestProviderReset(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	dying := r.DialProvider(lanetest.Families[0])
	state := lanetest.Ask(t, dying.Proxy, lane.AskBind, lane.Place(1, 0))
	w.proxy.Lane().Ends[0].Course.Start(state.Copied)
	lanetest.Must(t, w.proxy.Open(0))
	f := w.calls(1, lane.Hessian2, "echo", 100)[0]
	w.send([]lanetest.Frame{f}, lanetest.Named("one write each"))
	if got := readFrame(t, lanetest.NewReader(dying.App)); got != f {
		t.Fatalf("the provider has %+v, want %+v", got, f)
	}
	answer := lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: 50_000}.Append(nil)
	if _, err := dying.App.Write(answer[:20_000]); err != nil {
		t.Fatal(err)
	}
	lanetest.Must(t, dying.App.SetLinger(0))
	lanetest.Must(t, dying.App.Close())
	lanetest.Eventually(t, "the provider is in no map", func() bool { return lanetest.Ask(t, dying.Proxy, lane.AskState, 0).Peer == 0 })
	if _, ok := r.Memory.Take(1, f.ID); !ok {
		t.Error("its request is in flight no more")
	}
	atomic.AddUint64(&r.Memory.Active[0], ^uint64(0))
	_, err := w.c.Proxy.Write(lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: answerSize(f.ID)}.Append(nil))
	lanetest.Must(t, err)
	lanetest.Must(t, w.consumer.Settle())
	w.send(w.calls(20, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
	lanetest.Must(t, w.consumer.Settle())
	if n := w.proxy.Slow.Load(); n != 20 {
		t.Errorf("the proxy had %d requests, want 20; %s", n, w)
	}
}

func readFrame(t *testing.T, r *lanetest.Reader) lanetest.Frame {
	t.Helper()
	for {
		raw, err := r.Next()
		lanetest.Must(t, err)
		if raw != nil {
			f, err := lanetest.Check(raw, []string{"echo", "hold"})
			lanetest.Must(t, err)
			return f
		}
		lanetest.Must(t, r.More())
	}
}

// TestCapOfRequests: a provider that does not read stops the consumer, as TCP would, with
// EAGAIN; and has every byte when it reads.
func TestCapOfRequests(t *testing.T) {
	r := lanetest.New(t, 8)
	c := r.DialConsumer(lanetest.Families[0])
	p := r.DialProvider(lanetest.Families[0])
	plain := r.DialPlain(lanetest.Families[0])
	proxy := r.NewProxy(1, c, []lanetest.Pair{p}, plain)
	proxy.Class(1, lane.Random, "echo")
	lanetest.Must(t, proxy.Open(0))
	accepted := flood(t, func(i int) []byte {
		return lanetest.Frame{Kind: lanetest.Call, Serialization: lane.Hessian2, ID: uint64(i), Method: "echo", Size: 20_000}.Append(nil)
	}, c)
	peak := lanetest.Ask(t, p.Proxy, lane.AskState, 0).Queued
	if peak < 1<<19 || peak > 1<<20+100_000 {
		t.Errorf("%d bytes wait for the provider; of its kernel they are charged: %t", peak, lanetest.Ask(t, p.Proxy, lane.AskState, 0).Flags&lane.Charged != 0)
	}
	served := lanetest.NewProvider(answerSize, "echo")
	served.Serve(p.App)
	served.Serve(plain.App)
	NewReaderOf(t, c)
	lanetest.Eventually(t, "every request is served", func() bool { return served.Served.Load() == int64(accepted) })
	lanetest.Must(t, served.Err())
}

// NewReaderOf reads and drops what a consumer is answered.
func NewReaderOf(t *testing.T, c lanetest.Pair) {
	t.Helper()
	go func() {
		b := make([]byte, 1<<16)
		for {
			if _, err := c.App.Read(b); err != nil {
				return
			}
		}
	}()
}

// flood writes frames to a socket that does not block, until it would for a while; the frame
// in the middle of which it stopped is ended when there is room.
func flood(t *testing.T, frame func(i int) []byte, c lanetest.Pair) (whole int) {
	t.Helper()
	raw, err := c.App.SyscallConn()
	lanetest.Must(t, err)
	full := 0
	var rest []byte
	for i := 0; full < 20; {
		if len(rest) == 0 {
			rest = frame(i)
			i++
			whole++
		}
		var n int
		var failed error
		lanetest.Must(t, raw.Control(func(fd uintptr) {
			n, failed = unix.SendmsgN(int(fd), rest, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}))
		switch {
		case errors.Is(failed, unix.EAGAIN):
			full++
			time.Sleep(10 * time.Millisecond)
			continue
		case failed != nil:
			t.Fatalf("write: %v", failed)
		}
		full = 0
		rest = rest[n:]
		if whole > 20_000 {
			t.Fatal("400 MB were taken from a sender whose receiver sleeps")
		}
	}
	go func() { _ = lanetest.Send(c.App, rest, unix.MSG_NOSIGNAL) }()
	return whole
}

// TestCapOfAnswers: the same in the other direction.
func TestCapOfAnswers(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 400, func(p *lanetest.Provider) { p.Size = func(uint64) int { return 50_000 } })
	w.consumer.Asleep.Store(true)
	lanetest.Must(t, w.proxy.Open(0))
	w.send(w.calls(1, lane.Hessian2, "echo", 100), lanetest.Named("one write each")) // wakes the reader once
	w.send(w.calls(399, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
	lanetest.Eventually(t, "the consumer has as much as it may", func() bool { return lanetest.Ask(t, w.c.Proxy, lane.AskState, 0).Queued > 1<<20 })
	time.Sleep(100 * time.Millisecond)
	if n := lanetest.Ask(t, w.c.Proxy, lane.AskState, 0).Queued; n > 1<<20+200_000 {
		t.Errorf("%d bytes wait for the consumer", n)
	}
	w.consumer.Asleep.Store(false)
	w.settle()
	if w.proxy.Returned.Load() == 0 {
		t.Errorf("no answer took the proxy; %s", w)
	}
}
