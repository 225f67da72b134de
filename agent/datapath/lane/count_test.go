package lane_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// sizeBounds are those of l7proxy/telemetry/histogram, which are Envoy's.
var sizeBounds = [lane.Bounds]int{
	0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

// sizeBucket is where a size is counted.
func sizeBucket(n int) int {
	for i, bound := range sizeBounds {
		if n <= bound {
			return i
		}
	}
	return lane.Bounds
}

// TestTallies: what is tallied is what was sent, in the buckets where the proxy has it.
func TestTallies(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 32)
	lanetest.Must(t, w.proxy.Open(0))
	var want lane.Tally
	frames := w.calls(300, lane.Hessian2, "echo", 20_000)
	frames = append(frames, w.calls(300, lane.Fastjson2, "echo", 20_000)...)
	for _, f := range frames {
		n := len(f.Append(nil))
		want.RequestSizes[sizeBucket(n)]++
		want.RequestBytes += uint64(n)
		n = len(lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: answerSize(f.ID)}.Append(nil))
		want.AnswerSizes[sizeBucket(n)]++
		want.AnswerBytes += uint64(n)
	}
	w.send(frames, lanetest.Named("one write each"))
	w.settle()
	got := tallies(r.Memory)
	var calls uint64
	for _, n := range got.Durations {
		calls += n
	}
	if calls != uint64(len(frames)) || got.Nanoseconds == 0 {
		t.Errorf("%d durations of %d ns in all, want %d", calls, got.Nanoseconds, len(frames))
	}
	got.Durations, got.Nanoseconds = want.Durations, 0
	if got != want {
		t.Errorf("tallied\n%+v, want\n%+v", got, want)
	}
	for cpu := range r.Memory.Sizes.CPUs {
		for _, series := range []int{0, lane.Hessian2 + 1, lane.Fastjson2 + 1} {
			if r.Memory.Tallies[cpu*r.Memory.Sizes.Series+series] != (lane.Tally{}) {
				t.Errorf("series %d was tallied, which no route has", series)
			}
		}
	}
}

// TestLog: each call is in the log while the budget lasts; the others are counted.
func TestLog(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 32)
	lanetest.Must(t, w.proxy.Open(lane.Logged))
	b := r.Memory.Budget
	calls := func(n int) map[uint64]lanetest.Frame {
		t.Helper()
		sent := map[uint64]lanetest.Frame{}
		frames := w.calls(n, lane.Hessian2, "echo", 500)
		for _, f := range frames {
			sent[f.ID] = f
		}
		w.send(frames, lanetest.Named("one write each"))
		w.settle()
		return sent
	}
	atomic.StoreUint32(&b.Limit, 1_000_000)
	sent := calls(500)
	seen := 0
	for n := 1; n > 0; {
		n = r.Memory.Log.Read(func(got *lane.Record) {
			seen++
			f, ok := sent[got.ID]
			delete(sent, got.ID)
			a := lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: answerSize(f.ID)}
			want := lane.Record{
				Lane: 1, Series: lane.Hessian2, ID: f.ID, Start: got.Start, Duration: got.Duration, Serialization: lane.Hessian2, Status: 20,
				RequestBytes: uint32(len(f.Append(nil))), AnswerBytes: uint32(len(a.Append(nil))),
			}
			if !ok || *got != want || got.Start == 0 || got.Duration == 0 || got.Duration > uint64(time.Minute) {
				t.Errorf("the log has %+v, want %+v", *got, want)
			}
		})
	}
	if seen != 500 || b.Told != 500 || b.Dropped != 0 {
		t.Errorf("read %d records of 500; told %d, dropped %d", seen, b.Told, b.Dropped)
	}
	// This second's are spent; there will be others.
	atomic.StoreUint32(&b.Limit, 3)
	began, sums := time.Now(), 0
	lanetest.Eventually(t, "a new second's are told", func() bool {
		calls(50)
		sums += 50
		return b.Told > 500
	})
	seconds := uint64(time.Since(began)/time.Second) + 2
	read := uint64(r.Memory.Log.Read(func(*lane.Record) {}))
	if told := b.Told - 500; told > 3*seconds || read != told || told+b.Dropped != uint64(sums) {
		t.Errorf("told %d and read %d with a budget of 3 a second in %d, dropped %d, of %d", told, read, seconds, b.Dropped, sums)
	}
}

// TestPolicies: requests are shared by weight, and by each policy.
func TestPolicies(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 4, 32)
	lanetest.Must(t, w.proxy.Open(lane.Logged))
	atomic.StoreUint32(&r.Memory.Budget.Limit, 1_000_000)
	class := uint32(1)
	run := func(n int, shares ...lane.Share) (by [4]int) {
		t.Helper()
		class++
		var route lane.Route
		lanetest.Must(t, route.Name(class, lane.Hessian2, lanetest.Names(lane.Hessian2, "echo")))
		route.Count = uint8(copy(route.Shares[:], shares))
		route.Flags = lane.CountsActive
		for i := range w.ps {
			route.Actives[i] = lanetest.Active(i)
			route.Candidates[i] = lane.Candidate{Weight: 1, Active: lanetest.Active(i), End: uint8(i)}
		}
		place, _, _ := r.Memory.Find(&route, nil)
		r.Memory.Put(place, &route)
		atomic.StoreUint32(&w.proxy.Lane().Class, class)
		w.send(w.calls(n, lane.Hessian2, "echo", 50), lanetest.Named("one write each"))
		w.settle()
		r.Memory.Log.Read(func(got *lane.Record) { by[got.End]++ })
		return by
	}
	if by := run(400, lane.Share{UpTo: ^uint32(0), Policy: lane.RoundRobin, Count: 4, Choices: [lane.Choices]uint8{0, 1, 2, 1}}); by != [4]int{100, 200, 100, 0} {
		t.Errorf("in turn: %v", by)
	}
	by := run(2000, lane.Share{UpTo: 1 << 30, Policy: lane.RoundRobin, Count: 1, Choices: [lane.Choices]uint8{3}},
		lane.Share{UpTo: ^uint32(0), Policy: lane.Random, Count: 2, Choices: [lane.Choices]uint8{0, 1}})
	if by[3] < 400 || by[3] > 600 || by[0] < 600 || by[1] < 600 || by[2] != 0 {
		t.Errorf("a quarter to 3, the rest to 0 and 1 at random: %v", by)
	}
	// Who has much in flight is not chosen while another is asked too.
	w.active[2] = 1000
	atomic.AddUint64(&r.Memory.Active[lanetest.Active(2)], w.active[2])
	by = run(500, lane.Share{UpTo: ^uint32(0), Policy: lane.LeastRequest, First: 1, Count: 2, Draws: 2})
	if by[2] < 50 || by[2] > 210 || by[1]+by[2] != 500 {
		t.Errorf("a quarter to 2, where it is asked twice: %v", by)
	}
	if by := run(100, lane.Share{UpTo: ^uint32(0)}); by != [4]int{} {
		t.Errorf("no choice: %v", by)
	}
}
