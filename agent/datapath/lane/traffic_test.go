package lane_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// soak is how many times as long the tests run that may run for ever.
var soak = flag.Int("soak", 1, "multiply the calls of the lane's longer tests")

// world is a consumer, providers and the proxy's part of one lane.
type world struct {
	t        *testing.T
	rig      *lanetest.Rig
	proxy    *lanetest.Proxy
	consumer *lanetest.Consumer
	provider *lanetest.Provider
	c        lanetest.Pair
	ps       []lanetest.Pair
	rnd      *rand.Rand
	next     uint64
	most     int               // calls that may wait for their answers
	active   [lane.Ends]uint64 // requests in flight that a test made up, by end
}

// answerSize is that of most tests: up to 2 KiB.
func answerSize(id uint64) int { return int(id * 2654435761 % 2048) }

// newWorld makes one; so many calls may be in flight. Set sets its provider up.
func newWorld(t *testing.T, r *lanetest.Rig, f lanetest.Family, ends, most int, set ...func(*lanetest.Provider)) *world {
	t.Helper()
	w := &world{t: t, rig: r, c: r.DialConsumer(f), rnd: rand.New(rand.NewPCG(7, 7)), most: most}
	w.provider = lanetest.NewProvider(answerSize, "echo", "hold")
	for _, f := range set {
		f(w.provider)
	}
	for range ends {
		p := r.DialProvider(f)
		w.ps = append(w.ps, p)
	}
	plain := r.DialPlain(f)
	w.proxy = r.NewProxy(1, w.c, w.ps, plain)
	w.proxy.Class(1, lane.RoundRobin, "echo")
	w.consumer = lanetest.NewConsumer(w.c.App, most, w.provider)
	t.Cleanup(func() { // the lane is another's then
		for _, p := range w.ps {
			p.App.Close()
		}
		w.c.App.Close()
		w.proxy.Lane().Flags = 0
		_, _ = lanetest.TryAsk(w.c.Proxy, lane.AskFree, lane.Place(1, lane.Consumer)) // which may be closed
	})
	for _, p := range w.ps {
		w.provider.Serve(p.App)
	}
	w.provider.Serve(plain.App)
	return w
}

// calls are n calls of a method with bodies of up to most bytes.
func (w *world) calls(n int, serialization byte, method string, most int) []lanetest.Frame {
	frames := make([]lanetest.Frame, n)
	for i := range frames {
		w.next++
		frames[i] = lanetest.Frame{Kind: lanetest.Call, Serialization: serialization, ID: w.next, Method: method, Size: 8 + lanetest.Sizes(w.rnd, most)}
	}
	return frames
}

// send sends frames in a shape, as many at a time as may wait for their answers.
func (w *world) send(frames []lanetest.Frame, s lanetest.Shape) {
	w.t.Helper()
	for len(frames) > w.most {
		w.send(frames[:w.most], s)
		frames = frames[w.most:]
	}
	if err := w.consumer.Send(frames, s, w.rnd); err != nil {
		w.t.Fatalf("%v; provider: %v; proxy: %v; %s", err, w.provider.Err(), w.proxy.Err(), w)
	}
}

// settle waits for all answers and compares what was counted.
func (w *world) settle() {
	w.t.Helper()
	err := w.consumer.Settle()
	for _, e := range []error{err, w.provider.Err(), w.proxy.Err()} {
		if e != nil {
			w.t.Fatalf("%v; %s", e, w)
		}
	}
	lanetest.Eventually(w.t, "no flights are left", func() bool { return w.proxy.InFlight() == 0 })
	l := w.proxy.Lane()
	requested, answered := atomic.LoadUint64(&l.Requested), atomic.LoadUint64(&l.Answered)
	if returned := uint64(w.proxy.Returned.Load()); requested != answered+returned {
		w.t.Errorf("%d requests took the lane, %d answers did, %d came back; %s", requested, answered, returned, w)
	}
	if n := w.proxy.Late.Load(); n != 0 {
		w.t.Errorf("%d answers were not in flight", n)
	}
	for i := range w.ps {
		if n := atomic.LoadUint64(&w.rig.Memory.Active[lanetest.Active(i)]); n != w.active[i] {
			w.t.Errorf("%d requests of end %d are counted as in flight", int64(n-w.active[i]), i)
		}
	}
}

func (w *world) String() string {
	counts, _ := w.rig.Lane.Counts()
	for k, n := range counts {
		if n == 0 {
			delete(counts, k)
		}
	}
	l := w.proxy.Lane()
	return fmt.Sprintf("lane: flags %d, %d requests, %d answers, %d slow, %d returned, %d behind, %d full; "+
		"proxy: %d requests, %d answers returned, %d late, %d injected, %d paused; served %d; answered %d; counts %v",
		l.Flags, l.Requested, l.Answered, l.Slow, l.Returned, l.Behind, l.Full, w.proxy.Slow.Load(), w.proxy.Returned.Load(),
		w.proxy.Late.Load(), w.proxy.Injected.Load(), w.proxy.Paused.Load(), w.provider.Served.Load(), w.consumer.Answers.Load(), counts)
}

// tallies are the sums of all that was tallied, as a difference to before.
func tallies(m *lane.Memory) (sum lane.Tally) {
	for i := range m.Tallies {
		t := &m.Tallies[i]
		for b := range t.Durations {
			sum.Durations[b] += t.Durations[b]
			sum.RequestSizes[b] += t.RequestSizes[b]
			sum.AnswerSizes[b] += t.AnswerSizes[b]
		}
		sum.Nanoseconds += t.Nanoseconds
		sum.RequestBytes += t.RequestBytes
		sum.AnswerBytes += t.AnswerBytes
	}
	return sum
}

// TestShapes: however an application writes, every byte arrives; and what can take the lane
// does.
func TestShapes(t *testing.T) {
	r := lanetest.New(t, 8)
	for _, f := range lanetest.Families {
		for _, serialization := range []byte{lane.Hessian2, lane.Fastjson2} {
			for _, s := range lanetest.Shapes {
				t.Run(fmt.Sprintf("%s/%d/%s", f.Name, serialization, s.Name), func(t *testing.T) {
					w := newWorld(t, r, f, 1, 64)
					lanetest.Must(t, w.proxy.Open(0))
					most := 4000
					if s.Most > 0 {
						most = s.Most
					}
					for range 8 {
						w.send(w.calls(8, serialization, "echo", most), s)
					}
					w.settle()
					if n := w.proxy.Slow.Load(); s.Lane && n > 0 {
						t.Errorf("%d requests took the slow way; %s", n, w)
					}
				})
			}
		}
	}
}
