package lane_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// reroute makes a new class of routes like the first one's, changed.
func (w *world) reroute(class uint32, change func(*lane.Route)) {
	w.t.Helper()
	w.proxy.Class(class, lane.RoundRobin, "echo")
	for i := range w.rig.Memory.Routes {
		if r := &w.rig.Memory.Routes[i]; r.Hash != 0 && r.Class == class {
			change(r)
		}
	}
}

// TestLimit: no more requests are in flight to a cluster than may be, the proxy's counted,
// however many are in a message; what is too much takes the slow way.
func TestLimit(t *testing.T) {
	const bound, limit, calls = 9, 7, 12
	r := lanetest.New(t, 8)
	var gate sync.RWMutex // closed while it is locked
	w := newWorld(t, r, lanetest.Families[0], 2, 64, func(p *lanetest.Provider) {
		p.Size = func(id uint64) int {
			gate.RLock()
			defer gate.RUnlock()
			return answerSize(id)
		}
	})
	w.reroute(2, func(route *lane.Route) {
		route.Flags |= lane.Limited
		route.Shares[0].Limit = limit
		route.Bounds[0], route.Bounds[1] = bound, bound
	})
	lanetest.Must(t, w.proxy.Open(0))
	word := &r.Memory.Active[bound]
	for _, tt := range []struct {
		shape  string
		others uint64 // of the proxy
		flying int
	}{{"one write for all", 0, limit}, {"one write for all", 2, limit - 2}, {"one write each", 6, 1}, {"one write for all", 9, 0}, {"one write each", 0, limit}} {
		gate.Lock()
		atomic.StoreUint64(word, tt.others<<32)
		before := w.proxy.Slow.Load()
		w.send(w.calls(calls, lane.Hessian2, "echo", 100), lanetest.Named(tt.shape))
		lanetest.Eventually(t, "the rest takes the slow way", func() bool { return w.proxy.Slow.Load()-before == int64(calls-tt.flying) })
		if n := w.proxy.InFlight(); n != tt.flying || atomic.LoadUint64(word) != tt.others<<32|uint64(n) {
			t.Errorf("%s, %d of the proxy: %d in flight, want %d; counted %x", tt.shape, tt.others, n, tt.flying, *word)
		}
		gate.Unlock()
		w.settle()
		if n := atomic.LoadUint64(word); n != tt.others<<32 {
			t.Errorf("%s, %d of the proxy: nothing is in flight, and %x are counted", tt.shape, tt.others, n)
		}
	}
}

// TestTraces: requests that say anything of a trace go to the proxy, wherever they say it,
// and of the others those that are drawn: each is drawn once, and the proxy is told of it.
func TestTraces(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 2, 64)
	lanetest.Must(t, w.proxy.Open(0))
	w.reroute(2, func(route *lane.Route) { route.Flags |= lane.Traced })
	for says, traced := range lanetest.Sayings {
		for _, serialization := range []byte{lane.Hessian2, lane.Fastjson2} {
			frames := w.calls(64, serialization, "echo", 1)
			for i := range frames {
				frames[i].Size, frames[i].Says = i, says // in every place of a word
			}
			frames[63].Size = 1800
			before, slow := w.proxy.Lane().Requested, w.proxy.Slow.Load()
			w.send(frames, lanetest.Named("one write each"))
			w.settle()
			took, slow := w.proxy.Lane().Requested-before, w.proxy.Slow.Load()-slow
			if traced && took != 0 || !traced && slow > 1 { // what fills them may look like one
				t.Errorf("%q in %d: %d took the lane, %d did not", says, serialization, took, slow)
			}
		}
	}
	if n := w.proxy.Drawn.Load(); n != 0 {
		t.Errorf("%d were drawn although none is to be", n)
	}
	w.reroute(3, func(route *lane.Route) { route.Flags, route.Sampled = route.Flags|lane.Traced, 1<<30 })
	before, slow := w.proxy.Lane().Requested, w.proxy.Slow.Load()
	for range 40 {
		w.send(w.calls(64, lane.Hessian2, "echo", 1500), lanetest.Named("one write each"))
		w.send(w.calls(8, lane.Hessian2, "echo", 1500), lanetest.Named("one write for all"))
	}
	w.settle()
	took, drawn := w.proxy.Lane().Requested-before, uint64(w.proxy.Drawn.Load())
	t.Logf("%d took the lane, %d were drawn, %d went to the proxy undrawn", took, drawn, w.proxy.Slow.Load()-slow-int64(drawn))
	// Five standard deviations of a thousand draws.
	if share := float64(drawn) / float64(took+drawn); took+drawn < 1000 || share < 0.25-0.07 || share > 0.25+0.07 {
		t.Errorf("%d of %d were drawn, want a quarter", drawn, took+drawn)
	}
	large := w.calls(50, lane.Hessian2, "echo", 1)
	for i := range large {
		large[i].Size = 2100
	}
	before = w.proxy.Lane().Requested
	w.send(large, lanetest.Named("one write each"))
	w.settle()
	if n := w.proxy.Lane().Requested - before; n != 0 || uint64(w.proxy.Drawn.Load()) != drawn {
		t.Errorf("%d requests took the lane that nobody looked through, %d were drawn", n, uint64(w.proxy.Drawn.Load())-drawn)
	}
}

// TestLed: of a route of which a share is the proxy's each request is drawn once, so that
// the shares are kept whatever else leaves a request to the proxy: what was drawn it is told.
func TestLed(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 2, 64)
	lanetest.Must(t, w.proxy.Open(0))
	w.reroute(2, func(route *lane.Route) {
		route.Flags |= lane.Mixed
		route.Count = 3
		here := route.Shares[0]
		here.Count, here.Choices[0] = 1, 0
		there := here
		there.Choices[0] = 1
		route.Shares = [lane.Shares]lane.Share{here, {}, there}
		route.Shares[0].UpTo, route.Shares[1].UpTo, route.Shares[2].UpTo = 1<<30, 1<<31, ^uint32(0) // 1/4, 1/4, 1/2
	})
	// The last one's provider takes no requests: they are the proxy's too, as they were drawn.
	shut := func(flags uint32) { atomic.StoreUint32(&w.proxy.Lane().Ends[1].Flags, flags) }
	for round, shape := range []string{"one write each", "one write each", "one write for all", "random chunks"} {
		shut(uint32(1 - round%2))
		before, slow := w.proxy.Lane().Requested, w.proxy.Slow.Load()
		var led [lane.Shares]int64
		for i := range led {
			led[i] = -w.proxy.Led[i].Load()
		}
		const n = 3000
		for range n / 50 {
			w.send(w.calls(50, lane.Hessian2, "echo", 300), lanetest.Named(shape))
		}
		w.settle()
		took := int64(w.proxy.Lane().Requested - before)
		for i := range led {
			led[i] += w.proxy.Led[i].Load()
		}
		drawn := took + led[0] + led[1] + led[2]
		t.Logf("%s: %d took the lane, %v went to the proxy as they were drawn, %d undrawn", shape, took, led, w.proxy.Slow.Load()-slow-led[0]-led[1]-led[2])
		if share := float64(led[1]) / float64(drawn); drawn > 200 && (share < 0.25-5*0.4331/math.Sqrt(float64(drawn)) || share > 0.25+5*0.4331/math.Sqrt(float64(drawn))) {
			t.Errorf("%s: %d of %d are the proxy's share, want a quarter", shape, led[1], drawn)
		}
		if round%2 == 1 && drawn > 200 && math.Abs(float64(led[2])/float64(drawn)-0.5) > 5*0.5/math.Sqrt(float64(drawn)) {
			t.Errorf("%s: %d of %d are of a provider that takes none, want half", shape, led[2], drawn)
		}
		if round == 0 && (drawn < n*9/10 || led[0]+led[2] != 0) {
			t.Errorf("%d of %d were drawn, %d left to the proxy in spite of it", drawn, n, led[0]+led[2])
		}
	}
}
