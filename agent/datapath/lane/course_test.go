package lane_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// write writes frames, cut at these places.
func (w *world) write(frames []lanetest.Frame, cuts ...int) {
	w.t.Helper()
	var all []byte
	for _, f := range frames {
		lanetest.Must(w.t, w.consumer.Expect(f))
		all = f.Append(all)
	}
	lanetest.Must(w.t, pieces(w.c.App.Write, all, cuts...))
}

func pieces(write func([]byte) (int, error), all []byte, cuts ...int) error {
	at := 0
	for _, cut := range append(cuts, len(all)) {
		if _, err := write(all[at:cut]); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		at = cut
	}
	return nil
}

// TestSplitHeaders: behind a frame whose header is in pieces the next one takes the lane,
// without a word of who reads.
func TestSplitHeaders(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	lanetest.Must(t, w.proxy.Open(0))
	w.proxy.Mute.Store(true)
	w.write(w.calls(1, lane.Hessian2, "echo", 100)) // whose position the proxy said when it began
	slow, took := int64(0), uint64(1)
	try := func(name string, n int, cuts ...int) {
		t.Helper()
		w.write(w.calls(n, lane.Hessian2, "echo", 100), cuts...)
		slow += int64(n)
		w.write(w.calls(2, lane.Fastjson2, "echo", 100))
		took += 2
		if got := atomic.LoadUint64(&w.proxy.Lane().Requested); got != took {
			t.Fatalf("%s: %d requests took the lane, want %d; %s", name, got, took, w)
		}
		w.settle()
	}
	for at := 1; at < lanetest.HeaderLen; at++ {
		try(fmt.Sprintf("%d bytes", at), 1, at)
		for next := at + 1; next <= lanetest.HeaderLen+1; next++ {
			try(fmt.Sprintf("%d, %d bytes", at, next), 1, at, next)
		}
	}
	var bytes []int
	for at := 1; at < lanetest.HeaderLen+20; at++ {
		bytes = append(bytes, at)
	}
	try("byte by byte", 1, bytes...)
	try("three frames, byte by byte", 3, bytes...)
	if n := w.proxy.Slow.Load(); n != slow {
		t.Errorf("the proxy had %d requests, want %d", n, slow)
	}
}

// TestSplitAnswers is TestSplitHeaders of the other direction. The provider's bytes stay
// unread.
func TestSplitAnswers(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	pair := r.DialProvider(lanetest.Families[0])
	state := lanetest.Ask(t, pair.Proxy, lane.AskBind, lane.Place(1, 0)) // in the place of the world's own
	w.proxy.Lane().Ends[0].Course.Start(state.Copied)
	lanetest.Must(t, w.proxy.Open(0))
	requests, returned := lanetest.NewReader(pair.App), lanetest.NewReader(pair.Proxy)
	answer := func(cuts ...int) lanetest.Frame {
		t.Helper()
		w.write(w.calls(1, lane.Hessian2, "echo", 100))
		f := readFrame(t, requests)
		a := lanetest.Frame{Kind: lanetest.Answer, Serialization: f.Serialization, ID: f.ID, Size: answerSize(f.ID)}
		lanetest.Must(t, pieces(pair.App.Write, a.Append(nil), cuts...))
		return a
	}
	for at := 1; at < lanetest.HeaderLen; at++ {
		slow := answer(at, lanetest.HeaderLen+1)
		answer()
		if got := atomic.LoadUint64(&w.proxy.Lane().Answered); got != uint64(at) {
			t.Fatalf("%d answers took the lane behind a header cut at %d; %s", got, at, w)
		}
		if got := readFrame(t, returned); got != slow {
			t.Fatalf("the proxy has %+v, want %+v", got, slow)
		}
		if _, ok := r.Memory.Take(1, slow.ID); !ok {
			t.Fatalf("request %d is in flight no more", slow.ID)
		}
		_, err := w.c.Proxy.Write(slow.Append(nil))
		lanetest.Must(t, err)
	}
	lanetest.Must(t, w.consumer.Settle())
}

// TestCutShort: of a message a part goes, when there is no room for the rest, and the lane
// goes on behind it without a word of who reads.
func TestCutShort(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	lanetest.Must(t, w.proxy.Open(0))
	w.proxy.Drop.Store(true)
	w.proxy.Mute.Store(true)
	lanetest.Must(t, w.c.App.SetWriteBuffer(16<<10))
	cut := 0
	for i := range 60 {
		frames := w.calls(6, lane.Hessian2, "hold", 100)
		var all []byte
		for k := range frames {
			frames[k].Kind, frames[k].Size = lanetest.OneWay, (i*7919+k*104729)%20_000
			all = frames[k].Append(all)
		}
		cut += w.trickle(all)
		took := atomic.LoadUint64(&w.proxy.Lane().Requested)
		w.write(w.calls(1, lane.Hessian2, "echo", 100))
		if atomic.LoadUint64(&w.proxy.Lane().Requested) != took+1 {
			t.Fatalf("round %d, %d cuts: the lane was not taken; %s", i, cut, w)
		}
	}
	w.settle()
	if cut == 0 {
		t.Error("no message was cut short")
	}
	lanetest.Eventually(t, "the proxy has what is its own", func() bool { return w.proxy.Slow.Load() == 360 })
}

// trickle writes by a socket that does not block, as its own poller would, and returns how
// often only a part went.
func (w *world) trickle(all []byte) (cut int) {
	w.t.Helper()
	raw, err := w.c.App.SyscallConn()
	lanetest.Must(w.t, err)
	var failed error
	lanetest.Must(w.t, raw.Write(func(fd uintptr) bool {
		for len(all) > 0 {
			n, err := unix.SendmsgN(int(fd), all, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			if failed = err; err != nil {
				return true
			}
			if n < len(all) {
				cut++
			}
			all = all[n:]
		}
		return true
	}))
	lanetest.Must(w.t, failed)
	return cut
}

// TestSplitShare: under a load without gaps every call takes the lane but those whose header
// is in pieces.
func TestSplitShare(t *testing.T) {
	r := lanetest.New(t, 8)
	for _, percent := range []int{4, 50} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			w := newWorld(t, r, lanetest.Families[1], 1, 16)
			lanetest.Must(t, w.proxy.Open(0))
			calls, split := 4000**soak, 0
			begin := time.Now()
			for range calls {
				shape := "one write each"
				if w.rnd.IntN(100) < percent {
					shape = "header split"
					split++
				}
				w.send(w.calls(1, lane.Hessian2, "echo", 1000), lanetest.Named(shape))
			}
			w.settle()
			l := w.proxy.Lane()
			t.Logf("%d of %d calls took the lane, %d were split; %v; %s", l.Requested, calls, split, time.Since(begin), w)
			if slow := w.proxy.Slow.Load(); slow > int64(split)+int64(l.Full) {
				t.Errorf("%d calls took the slow way of %d whose headers were split; %s", slow, split, w)
			}
		})
	}
}

// TestGuess: who is astray asks of the first message that may begin a frame, goes on from
// there through pieces of any size, and is back when the proxy says that it was right; in
// another lane it asks anew.
func TestGuess(t *testing.T) {
	r := lanetest.New(t, 8)
	w := newWorld(t, r, lanetest.Families[0], 1, 64)
	lanetest.Must(t, w.proxy.Open(0))
	w.proxy.Mute.Store(true)
	course := &w.proxy.Lane().Course
	asked := func(c *lane.Course) uint64 { return atomic.LoadUint64(&c.Guess) }
	course.Forget()
	lanetest.Must(t, w.rebind(2))
	other := &r.Memory.Lanes[2].Course
	other.Forget()
	first := w.calls(3, lane.Hessian2, "echo", 1000)
	w.write(first, 5, 17, 40, 41)
	guess := asked(other)
	if guess == 0 || asked(course) != 0 {
		t.Fatalf("lane 2 is asked for %x, lane 1 for %x", guess, asked(course))
	}
	w.write(w.calls(2, lane.Hessian2, "echo", 1000), 1, 2, 3)
	if got := asked(other); got != guess {
		t.Fatalf("the guess is another behind pieces: %x, not %x", got, guess)
	}
	w.settle()
	_, err := lanetest.TryAsk(w.c.Proxy, lane.AskFree, lane.Place(2, lane.Consumer))
	lanetest.Must(t, err)
	lanetest.Must(t, w.rebind(1))
	w.write(w.calls(1, lane.Hessian2, "echo", 1000), 9)
	again := asked(course)
	if again <= guess {
		t.Fatalf("lane 1 is asked for %x, behind %x", again, guess)
	}
	before := atomic.LoadUint64(&w.proxy.Lane().Requested)
	course.Start(uint32(again))
	w.write(w.calls(1, lane.Hessian2, "echo", 1000))
	if got := atomic.LoadUint64(&w.proxy.Lane().Requested); got != before+1 || asked(course) != 0 {
		t.Errorf("%d requests took the lane, want %d; asked %x", got, before+1, asked(course))
	}
	w.settle()
}

// rebind makes the consumer another lane's.
func (w *world) rebind(number uint32) error {
	_, err := lanetest.TryAsk(w.c.Proxy, lane.AskBind, lane.Place(number, lane.Consumer))
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}
