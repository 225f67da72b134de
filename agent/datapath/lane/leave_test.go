package lane_test

import (
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// leave takes out what may leave, and wants so many to stay.
func leave(t *testing.T, r *lanetest.Rig, want int) {
	t.Helper()
	stay := 0
	lanetest.Eventually(t, "sockets have left", func() bool {
		var err error
		stay, err = r.Lane.Leave()
		lanetest.Must(t, err)
		return stay <= want
	})
	if stay != want {
		t.Errorf("%d sockets stay, want %d", stay, want)
	}
}

// joined tells whether lanes could use a consumer's connection.
func joined(t *testing.T, c lanetest.Pair) bool {
	t.Helper()
	return lanetest.Ask(t, c.Proxy, lane.AskState, 0).Peer != 0
}

// TestLeave: sockets that are in no lane leave the maps, and not a byte of what is written
// meanwhile is lost; those that are in one go on in it. None joins until it is allowed again.
func TestLeave(t *testing.T) {
	for _, f := range lanetest.Families {
		t.Run(f.Name, func(t *testing.T) {
			r := lanetest.New(t, 8)
			w := newWorld(t, r, f, 2, 64)
			idle := r.DialConsumer(f)
			lanetest.Must(t, w.proxy.Open(0))
			if requests, _ := w.burst(); requests == 0 || !joined(t, idle) {
				t.Fatalf("before: %s", w)
			}
			lanetest.Must(t, r.Lane.Shut(true))
			leave(t, r, 3)
			r.Consumer.Do(func() { lanetest.Must(t, r.Lane.Wake()) })
			late := r.DialConsumer(f)
			if joined(t, idle) || joined(t, late) || !joined(t, w.c) {
				t.Errorf("joined: what was in no lane %t, a new one %t, what is in a lane %t", joined(t, idle), joined(t, late), joined(t, w.c))
			}
			if requests, back := w.burst(); requests == 0 || back == 0 {
				t.Errorf("in the lane that goes on: %d requests, %d answers; %s", requests, back, w)
			}
			if _, err := lanetest.TryAsk(w.c.Proxy, lane.AskBind, lane.Place(2, lane.Consumer)); err == nil {
				t.Error("a socket was bound")
			}

			lanetest.Must(t, w.proxy.Close())
			lanetest.Ask(t, w.c.Proxy, lane.AskFree, lane.Place(1, lane.Consumer))
			end, left := make(chan struct{}), make(chan error, 1)
			go func() {
				for stay := 1; stay > 0; {
					select {
					case <-end:
						left <- nil
						return
					default:
					}
					var err error
					if stay, err = r.Lane.Leave(); err != nil {
						left <- err
						return
					}
				}
				left <- nil
			}()
			slow := w.proxy.Slow.Load()
			for range 10 {
				w.send(w.calls(64, lane.Hessian2, "echo", 20_000), lanetest.Named("one write each"))
				w.send(w.calls(64, lane.Fastjson2, "hold", 2000), lanetest.Named("one write for all"))
			}
			w.settle()
			close(end)
			lanetest.Must(t, <-left)
			leave(t, r, 0)
			w.send(w.calls(64, lane.Hessian2, "echo", 100_000), lanetest.Named("one write each"))
			w.settle()
			if n := w.proxy.Slow.Load() - slow; n != 21*64 {
				t.Errorf("the proxy had %d requests, want all %d; %s", n, 21*64, w)
			}
			lanetest.Must(t, r.Lane.Shut(false))
			if again := r.DialConsumer(f); !joined(t, again) || joined(t, w.c) {
				t.Errorf("with memory again: a new one joined %t, one that had left %t", joined(t, again), joined(t, w.c))
			}
		})
	}
}

// TestLeaveUnread: who has not read all that it was sent by a lane stays until it has.
func TestLeaveUnread(t *testing.T) {
	r := lanetest.New(t, 8)
	w, lazy, frames := unserved(t, r)
	lanetest.Eventually(t, "they took the lane", func() bool { return atomic.LoadUint64(&w.proxy.Lane().Requested) == 5 })
	w.proxy.Lane().Flags = 0
	lanetest.Ask(t, w.c.Proxy, lane.AskFree, lane.Place(1, lane.Consumer))
	lanetest.Must(t, r.Lane.Shut(true))
	leave(t, r, 1)
	rd := lanetest.NewReader(lazy.App)
	for _, f := range frames {
		if got := readFrame(t, rd); got != f {
			t.Errorf("the provider has %+v, want %+v", got, f)
		}
	}
	leave(t, r, 0)
}
