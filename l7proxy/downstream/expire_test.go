package downstream

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// ticks passes time for all live connections, once nothing is being written on any: that
// would look as if its consumer took nothing.
func (r *rig) ticks(n int) {
	r.t.Helper()
	waitFor(r.t, "the writes", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(r.live, func(l Live) bool {
			s, ok := l.(*Session)
			return ok && s.in.Conn.Writing()
		})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		for _, l := range r.live {
			l.Tick()
		}
	}
}

// open tells whether nothing has come from a connection, its end included.
func open(t *testing.T, c net.Conn, wait time.Duration) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(wait))
	n, err := c.Read(make([]byte, 1))
	if n > 0 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// TestIdleTimeout: a connection ends in order when it has been silent for its listener's
// time. Heartbeats keep it, and so does a request that is pending.
func TestIdleTimeout(t *testing.T) {
	const silent = 20 * time.Millisecond
	p := newProvider(t)
	r := newRig(t, p.addr)
	ask := func(c net.Conn, id uint64) {
		t.Helper()
		write(t, c, request(id, twoWay, nil))
		if h, _ := mustAnswer(t, c); h.ID != id || h.Status != dubbo.StatusOK {
			t.Fatalf("status %d for %d", h.Status, h.ID)
		}
	}
	beat := func(c net.Conn) {
		t.Helper()
		write(t, c, dubbo.AppendHeartbeat(nil, 9))
		if h, _ := mustAnswer(t, c); !h.Event() {
			t.Fatal("no answer to a heartbeat")
		}
	}
	quiet, beating, mute := r.dial(), r.dial(), r.dial()
	ask(quiet, 1)
	ask(beating, 2)
	waitFor(t, "three connections", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.live) == 3
	})
	r.ticks(1000)
	for _, c := range []net.Conn{quiet, beating, mute} {
		if !open(t, c, silent) {
			t.Fatal("it ends although it may be silent for ever")
		}
	}
	r.change(func(s *snapshot.Snapshot) { s.Listeners[0].Idle = 100 * Period })
	ask(quiet, 3)
	ask(beating, 4)
	r.ticks(1) // that notices
	for range 3 {
		r.ticks(40)
		if !open(t, beating, silent) {
			t.Fatal("it ends in spite of heartbeats")
		}
		beat(beating)
	}
	for what, c := range map[string]net.Conn{"silent since its call": quiet, "silent": mute} {
		if open(t, c, 30*time.Second) {
			t.Errorf("a connection that is %s does not end", what)
		}
	}
	p.mute.Store(true)
	write(t, beating, request(5, twoWay, nil))
	waitFor(t, "the request", func() bool { return r.pendings() == 1 })
	r.ticks(1000)
	if !open(t, beating, silent) {
		t.Error("it ends although a request is pending")
	}
	p.kill() // or the connection would wait for the answer after its consumer has left
}

// pendings is how many requests wait for an answer.
func (r *rig) pendings() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.live {
		if s, ok := l.(*Session); ok {
			n += s.pending.Load()
		}
	}
	return n
}
