package lane_test

import (
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// mixed sends batches of everything that a consumer may write: calls that have a route and
// calls that have none, of both serializations, heartbeats, one-ways; mostly whole.
func (w *world) mixed(calls, most int) (beats int) {
	w.t.Helper()
	shapes := []lanetest.Shape{lanetest.Named("random chunks"), lanetest.Named("header split"), lanetest.Named("writev"), lanetest.Named("one write each")}
	for sent := 0; sent < calls; {
		var frames []lanetest.Frame
		for range 1 + w.rnd.IntN(6) {
			serialization := byte(lane.Hessian2)
			if w.rnd.IntN(2) == 0 {
				serialization = lane.Fastjson2
			}
			method := "echo"
			if w.rnd.IntN(2) == 0 {
				method = "hold"
			}
			f := w.calls(1, serialization, method, most)[0]
			switch w.rnd.IntN(100) {
			case 0:
				f.Kind, f.Method, f.Size = lanetest.Heartbeat, "", 1
				beats++
			case 1:
				f.Kind = lanetest.OneWay
			default:
				sent++
			}
			frames = append(frames, f)
		}
		s := lanetest.Named("one write for all")
		if n := w.rnd.IntN(50); n < len(shapes) {
			s = shapes[n]
		}
		w.send(frames, s)
	}
	return beats
}

// TestMixed: two providers answer one consumer at the same time, a quarter of the answers in
// pieces, half of the calls by the proxy.
func TestMixed(t *testing.T) {
	r := lanetest.New(t, 8)
	for _, f := range lanetest.Families {
		t.Run(f.Name, func(t *testing.T) {
			w := newWorld(t, r, f, 2, 16, func(p *lanetest.Provider) {
				p.Pieces, p.Together = 25, 4
				p.Size = func(id uint64) int { return answerSize(id) * int(1+id%4*20) }
			})
			lanetest.Must(t, w.proxy.Open(0))
			beats := w.mixed(1500**soak, 100_000)
			w.settle()
			lanetest.Eventually(t, "all heartbeats are answered", func() bool { return w.consumer.Beats.Load() == int64(beats) })
			l := w.proxy.Lane()
			t.Log(w)
			if l.Requested == 0 || l.Answered == 0 || w.proxy.Slow.Load() == 0 || w.proxy.Returned.Load() == 0 {
				t.Errorf("not every way was taken: %s", w)
			}
		})
	}
}

// TestLarge: frames of up to 8 MiB, and answers that do not fit into one write of the lane.
func TestLarge(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[2], 2, 16, func(p *lanetest.Provider) {
		p.Size = func(id uint64) int {
			if id%10 == 0 {
				return 700_000
			}
			return int(id * 7919 % 100_000)
		}
	})
	lanetest.Must(t, w.proxy.Open(0))
	w.send(w.calls(120**soak, lane.Hessian2, "echo", 60_000), lanetest.Named("one write each"))
	large := []int{600_000, 1 << 20, 8 << 20}
	for _, size := range large {
		frames := w.calls(3, lane.Fastjson2, "echo", 1000)
		frames[1].Size = size
		w.send(frames, lanetest.Named("one write each"))
		frames = w.calls(3, lane.Hessian2, "echo", 1000)
		frames[2].Size = size
		w.send(frames, lanetest.Named("one write for all"))
	}
	w.settle()
	if w.proxy.Paused.Load() == 0 {
		t.Errorf("no answer was written in pieces: %s", w)
	}
	// On a machine that is slow enough the provider has more to read than it may.
	if n := w.proxy.Slow.Load(); n != int64(2*len(large)) && w.proxy.Lane().Full == 0 {
		t.Errorf("%d requests took the slow way, of which %d are more than one message; %s", n, 2*len(large), w)
	}
}

// TestToggle: the lane is closed and opened all the time, on a connection that is busy.
func TestToggle(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 2, 32, func(p *lanetest.Provider) { p.Together = 3 })
	stop := make(chan struct{})
	var toggling sync.WaitGroup
	toggles := 0
	toggling.Go(func() {
		for {
			if err := w.proxy.Open(0); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
			}
			if err := w.proxy.Close(); err != nil {
				t.Error(err)
				return
			}
			toggles++
		}
	})
	for i := range 400 * *soak {
		s := lanetest.Named("one write for all")
		if i%40 == 0 {
			s = lanetest.Named("header split")
		}
		w.send(w.calls(8, lane.Hessian2, "echo", 20_000), s)
		if i%20 == 0 { // the lane is as often open as not, however fast this machine is
			time.Sleep(10 * time.Millisecond)
		}
	}
	close(stop)
	toggling.Wait()
	w.settle()
	t.Log(toggles, w)
	if toggles < 3 || w.proxy.Lane().Requested == 0 || w.proxy.Slow.Load() == 0 {
		t.Errorf("closed %d times; %s", toggles, w)
	}
}

// TestResync: a consumer that lost the lane by a frame in pieces is back when the proxy has
// read all.
func TestResync(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[1], 1, 64)
	lanetest.Must(t, w.proxy.Open(0))
	for i := range 200 {
		before := w.proxy.Lane().Requested
		w.send(w.calls(2, lane.Hessian2, "echo", 100), lanetest.Named("header split"))
		w.settle()
		// The answers have come, so the proxy has read the requests; what it then says
		// of its position is a moment later.
		lanetest.Eventually(t, "the lane is taken again", func() bool {
			w.send(w.calls(1, lane.Hessian2, "echo", 100), lanetest.Named("one write each"))
			w.settle()
			return w.proxy.Lane().Requested > before
		})
		if t.Failed() {
			t.Fatalf("round %d: %s", i, w)
		}
	}
}
