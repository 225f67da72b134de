package lane

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
)

// TestOpen: a connection that is worth it has a lane, with an end for each provider, and
// says up to where it has read.
func TestOpen(t *testing.T) {
	r := newRig(t, 2)
	r.come(worthRate - 1)
	if r.ride.Busy() {
		t.Error("there is a lane for a connection that is not worth one")
	}
	l, providers := r.open()
	if len(providers) != 2 || len(r.kernel.bound) != 3 || r.kernel.bound[0] != lane.Place(l.Number, lane.Consumer) {
		t.Errorf("%d providers, bound %x", len(providers), r.kernel.bound)
	}
	for k := range providers {
		if e := &r.at(l).Ends[k]; e.Flags != lane.EndOpen || e.Course.Resume != lane.At(seq) || r.route().Actives[k] == 0 {
			t.Errorf("end %d: %+v", k, e)
		}
	}
	before := atomic.LoadUint64(&r.at(l).Course.Resume)
	taken := r.conn.Taken()
	r.come(1)
	if got, want := atomic.LoadUint64(&r.at(l).Course.Resume), before+uint64(r.conn.Taken()-taken); got != want || before < lane.At(seq) {
		t.Errorf("resume %x, want %x", got, want)
	}
	if r.at(l).Class == 0 || atomic.LoadUint32(&r.at(l).Flags)&lane.Answers == 0 {
		t.Errorf("%+v", r.at(l))
	}
	if list := r.lanes.List(); len(list) != 1 || len(list[0].Providers) != 2 || list[0].State != "open" {
		t.Errorf("%+v", list)
	}
	if names := r.lanes.Names(ways); len(names) != 1 || names[0].InLane != 5 || names[0].ByProxy != 7 || names[0].Method != "echo" || names[0].Way != "lane" {
		t.Errorf("%+v", names)
	}
}

// TestEarly: a lane that is open before its consumer's reader is done with the request that
// asked for it says that this one has not been read.
func TestEarly(t *testing.T) {
	r := newRig(t, 1)
	r.come(worthRate - 1)
	h, request := r.reads()
	r.ride.Came(planner{r}, h, request)
	l := r.ride.get()
	if l == nil {
		t.Fatal("no lane")
	}
	r.eventually("the lane is open", func() bool { return atomic.LoadUint32(&r.at(l).Flags)&lane.Requests != 0 })
	if got, want := atomic.LoadUint64(&r.at(l).Course.Resume), lane.At(seq-uint32(len(request))); got != want {
		t.Errorf("resume %x, want %x", got, want)
	}
	if got := atomic.LoadUint64(&r.at(l).Reading); got != lane.At(seq) {
		t.Errorf("reading %x, want %x", got, lane.At(seq))
	}
	r.ride.Read(len(request))
	if got := atomic.LoadUint64(&r.at(l).Course.Resume); got != lane.At(seq) {
		t.Errorf("resume %x, want %x", got, lane.At(seq))
	}
}

// TestAnswers: what a provider writes by TCP arrives and is recorded once; what nobody
// waits for at that provider does not.
func TestAnswers(t *testing.T) {
	r := newRig(t, 2)
	l, providers := r.open()
	const size = sock.Largest + 1000 // it is not held
	for i, step := range []struct {
		id     uint64
		from   uint8
		size   int
		flies  uint8
		wanted bool
	}{
		{7, 0, 10, 0, true},
		{8, 1, size, 1, true},
		{9, 1, lane.MaxWrite + 5, 1, true},
		{10, 1, 10, 0, false}, // another's
		{11, 0, 10, 0, true},
	} {
		r.fly(l, step.id, step.flies)
		written := make(chan error, 1)
		go func() {
			_, err := providers[step.from].Write(answer(step.id, step.size))
			written <- err
		}()
		if step.wanted {
			if h := r.gets(); h.ID != step.id {
				t.Errorf("step %d: the consumer gets %d", i, h.ID)
			}
		} else {
			r.eventually("the answer is dropped", func() bool { return r.lanes.Stats().Unasked.Load() == 1 })
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
	r.eventually("four records, nothing pending", func() bool {
		records, refusals, pending := r.counts()
		return records == 4 && refusals == 0 && pending == 0
	})
	for _, rec := range r.records {
		if rec.Result != rpc.ResultValue || rec.Downstream != r.source.Remote || rec.RequestBytes != 100 || rec.Call.Endpoint.Port() == 0 {
			t.Errorf("%+v", rec)
		}
	}
	if flying := r.flying(l); !slices.Equal(flying, []uint64{10}) {
		t.Errorf("%d are in flight, not what was not answered", flying)
	}
	if n := atomic.LoadUint64(&r.memory.Active[r.route().Actives[1]]); n != 0 {
		t.Errorf("%d requests are counted at provider 1", n)
	}
	if atomic.LoadUint32(&r.at(l).Flags)&lane.Paused != 0 {
		t.Error("the lane is paused behind a large answer")
	}
}

// TestForgottenAsItLands: a name that is forgotten at the moment at which an answer comes is the
// answer's until it has landed.
func TestForgottenAsItLands(t *testing.T) {
	r := newRig(t, 1)
	l, providers := r.open()
	r.fly(l, 7, 0)
	r.lanes.node.Mu.Lock()
	if _, err := providers[0].Write(answer(7, 10)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // it comes as far as it can without whose request it was
	b := r.lanes.node.Book
	b.Forget(l.Way)
	b.Rested(b.Rest(), func(place uint32) (used bool) {
		r.memory.InFlight(l.Number, func(_ uint64, f lane.Flight) bool {
			used = f.Route == place
			return !used
		})
		return used
	})
	r.lanes.node.Mu.Unlock()
	if h := r.gets(); h.ID != 7 {
		t.Errorf("the consumer gets %d", h.ID)
	}
	r.eventually("it is recorded", func() bool {
		records, refusals, pending := r.counts()
		return records == 1 && refusals == 0 && pending == 0
	})
}

// TestProviderGone: its requests are refused, those of another go on, and it is counted
// once against the endpoint.
func TestProviderGone(t *testing.T) {
	r := newRig(t, 2)
	l, providers := r.open()
	r.fly(l, 1, 0)
	r.fly(l, 2, 0)
	r.fly(l, 3, 1)
	_ = providers[0].Close()
	r.eventually("two are refused", func() bool { _, n, _ := r.counts(); return n == 2 })
	for _, refusal := range r.refusals {
		if refusal.Why != rpc.WhyUpstreamClosed || refusal.ID == 3 || refusal.Downstream != r.source.Remote {
			t.Errorf("%+v", refusal)
		}
	}
	_, _ = providers[1].Write(answer(3, 10))
	if h := r.gets(); h.ID != 3 {
		t.Errorf("the consumer gets %d", h.ID)
	}
	reset := 0
	for _, e := range r.ends {
		reset += e.told(rpc.OutcomeReset)
	}
	if reset != 1 {
		t.Errorf("%d resets are told of", reset)
	}
	r.eventually("it is connected to again", func() bool { return atomic.LoadUint32(&r.at(l).Ends[0].Flags) == lane.EndOpen })
}

// TestFailures: what the lane has answered is counted before an error is told, and what comes to
// the proxy of it is counted by the policies that let its name pass.
func TestFailures(t *testing.T) {
	r := newRig(t, 1)
	var policies filter.Policies
	r.access = new(filter.Verdict)
	rules := &snapshot.Rules{Action: snapshot.RBACDeny, Policies: []snapshot.RBACPolicy{}}
	policies.Access(filter.Place{Listener: &snapshot.Listener{RBAC: []*snapshot.RBAC{{Name: "some", Rules: rules}}}}, &subject.Subject{}, r.access)
	l, providers := r.open()
	passed := func() (n uint64) {
		for _, c := range policies.Tally.All() {
			n += c.Total
		}
		return n
	}
	before := r.tally.counts.Load()
	for i, step := range []struct {
		status byte
		lane   uint64 // answers of the lane's before it
		counts int64  // of the tally, so far
	}{{codec.StatusOK, 1, 0}, {70, 1, 1}, {70, 0, 1}, {70, 3, 2}, {codec.StatusOK, 1, 2}} {
		id := uint64(i + 1)
		atomic.AddUint64(&r.at(l).Answered, step.lane)
		r.fly(l, id, 0)
		f := answer(id, 10)
		f[3] = step.status
		_, _ = providers[0].Write(f)
		if h := r.gets(); h.ID != id {
			t.Errorf("step %d: the consumer gets %d", i, h.ID)
		}
		if n := r.tally.counts.Load() - before; n != step.counts {
			t.Errorf("step %d: the tally was looked at %d times, want %d", i, n, step.counts)
		}
		if n := passed(); n != id {
			t.Errorf("step %d: policies have let %d pass", i, n)
		}
	}
}

// TestTimeout: a request that takes too long is refused, and its late answer is dropped.
func TestTimeout(t *testing.T) {
	r := newRig(t, 1)
	r.timeout = time.Second
	l, providers := r.open()
	r.fly(l, 5, 0)
	r.lanes.tick(time.Now())
	if _, refused, _ := r.counts(); refused > 0 {
		t.Error("refused before its time")
	}
	r.kernel.now.Add(uint64(r.timeout))
	r.eventually("it is refused", func() bool {
		r.lanes.tick(time.Now())
		_, refused, pending := r.counts()
		return refused == 1 && pending == 0
	})
	if r.refusals[0].Why != rpc.WhyTimeout || r.ends[0].told(rpc.OutcomeTimeout) != 1 {
		t.Errorf("%+v", r.refusals[0])
	}
	_, _ = providers[0].Write(answer(5, 10))
	r.eventually("the late answer is dropped", func() bool { return r.lanes.Stats().Unasked.Load() == 1 })
}

// TestOff: a lane ends behind what is in flight, the connection goes on, and may have
// another lane.
func TestOff(t *testing.T) {
	r := newRig(t, 1)
	l, providers := r.open()
	r.fly(l, 4, 0)
	r.lanes.Use(r.memory, handoff.LaneOff)
	if atomic.LoadUint32(&r.at(l).Flags)&lane.Requests != 0 {
		t.Error("requests take a lane that is off")
	}
	r.come(worthRate) // by the proxy
	select {
	case <-l.Done():
		t.Fatal("it has ended before what is in flight")
	case <-time.After(100 * time.Millisecond):
	}
	_, _ = providers[0].Write(answer(4, 10))
	if h := r.gets(); h.ID != 4 {
		t.Errorf("the consumer gets %d", h.ID)
	}
	<-l.Done()
	if r.at(l).Flags != 0 || len(r.kernel.freed) != 1 || r.ride.Busy() || r.tally.closed[0] != tally.Off {
		t.Errorf("%+v, freed %x, closed %v", r.at(l), r.kernel.freed, r.tally.closed)
	}
	if err := r.conn.Send(answer(6, 10)); err != nil || r.gets().ID != 6 {
		t.Errorf("behind the lane: %v", err)
	}
	r.use()
	r.ride.next = time.Time{} // not so soon
	again, _ := r.open()
	if again == l || again.Number != l.Number {
		t.Errorf("lane %d behind lane %d", again.Number, l.Number)
	}
}

// TestHeld: while something is on its way to the consumer nothing is written by TCP.
func TestHeld(t *testing.T) {
	r := newRig(t, 1)
	l, _ := r.open()
	r.kernel.holders.Store(1)
	r.ride.Leave()
	r.eventually("it pauses", func() bool { return atomic.LoadUint32(&r.at(l).Flags)&lane.Paused != 0 })
	if atomic.LoadUint32(&r.at(l).Flags)&lane.Answers == 0 {
		t.Error("answers left the lane while one was on its way")
	}
	r.kernel.holders.Store(0)
	<-l.Done()
}

// TestConsumerGone: what is in flight is recorded as such when End returns.
func TestConsumerGone(t *testing.T) {
	r := newRig(t, 2)
	l, _ := r.open()
	r.fly(l, 1, 0)
	r.fly(l, 2, 1)
	_ = r.conn.Close()
	r.ride.End()
	if _, refused, pending := r.counts(); refused != 2 || pending != 0 {
		t.Errorf("%d refused, %d pending", refused, pending)
	}
	for _, refusal := range r.refusals {
		if refusal.Why != rpc.WhyDownstreamGone {
			t.Errorf("%+v", refusal)
		}
	}
	if len(r.flying(l)) > 0 || r.at(l).Flags != 0 || r.tally.closed[0] != tally.Consumer {
		t.Errorf("%+v, closed %v", r.at(l), r.tally.closed)
	}
}

// TestReadOnly: a provider that is about to stop gets no more requests, and answers what it
// has. Its connection is its own to end.
func TestReadOnly(t *testing.T) {
	r := newRig(t, 1)
	l, providers := r.open()
	r.fly(l, 3, 0)
	_, _ = providers[0].Write(frame(0xa2, 0, 1, []byte("\x01R")))
	r.eventually("no more go there", func() bool { return atomic.LoadUint32(&r.at(l).Ends[0].Flags) == 0 })
	if names := r.lanes.Names(ways); len(names) != 0 {
		t.Errorf("%+v", names)
	}
	_, _ = providers[0].Write(answer(3, 10))
	if h := r.gets(); h.ID != 3 || r.ends[0].draining != 1 {
		t.Errorf("the consumer gets %d; told %d times", h.ID, r.ends[0].draining)
	}
	_ = providers[0].Close()
	r.eventually("its end is gone", func() bool { return len(r.lanes.List()[0].Providers) == 0 })
	if r.ends[0].told(rpc.OutcomeReset) != 0 {
		t.Error("its end is held against it")
	}
}

// TestForbidden: where no provider may be reached by the short cut there is no lane, and
// names stay with the proxy for a while.
func TestForbidden(t *testing.T) {
	r := newRig(t, 1)
	r.refuses.Store(true)
	r.come(worthRate)
	r.eventually("it is given up", func() bool { return r.lanes.Stats().Failed.Load() == 1 && !r.ride.Busy() })
	r.come(4 * worthRate)
	if r.ride.Busy() || len(r.kernel.bound) > 0 {
		t.Errorf("bound %x", r.kernel.bound)
	}
}

// TestLogged: the first calls of a lane are logged too, before the clock has looked at it.
func TestLogged(t *testing.T) {
	r := newRig(t, 1)
	l, _ := r.open()
	if atomic.LoadUint32(&r.at(l).Flags)&lane.Logged == 0 {
		t.Error("an open lane whose calls are to be logged does not log them")
	}
}

// TestMoved: the numbers of two providers are exchanged while one is dialled. No end leads to
// another provider than the names that have its number mean.
func TestMoved(t *testing.T) {
	r := newRig(t, 2)
	var once sync.Once
	r.dialling = func() {
		once.Do(func() {
			r.lanes.node.Mu.Lock()
			defer r.lanes.node.Mu.Unlock()
			for _, w := range r.lanes.node.Book.Ways() {
				w.Ends[0], w.Ends[1] = w.Ends[1], w.Ends[0]
			}
		})
	}
	r.come(worthRate)
	l := r.ride.get()
	if l == nil {
		t.Fatal("no lane")
	}
	r.eventually("the lane is open", func() bool { return atomic.LoadUint32(&r.at(l).Flags)&lane.Requests != 0 })
	r.lanes.node.Mu.Lock()
	defer r.lanes.node.Mu.Unlock()
	for k := range r.address {
		if leads := r.kernel.at(l, uint8(k)).Remote(); leads != l.Way.Ends[k] {
			t.Errorf("end %d leads to %s, and means %s", k, leads, l.Way.Ends[k])
		}
	}
}

// TestIdle: a lane that few requests take ends.
func TestIdle(t *testing.T) {
	r := newRig(t, 1)
	l, _ := r.open()
	atomic.StoreUint64(&r.at(l).Requested, 8)
	r.lanes.tick(time.Now().Add(16 * time.Second))
	if r.lanes.List()[0].State != "open" {
		t.Error("a lane that is used ends")
	}
	if !r.ride.Moved() || r.ride.Moved() {
		t.Error("requests are not told of, or twice")
	}
	r.lanes.tick(time.Now().Add(32 * time.Second))
	<-l.Done()
	if r.tally.closed[0] != tally.Idle {
		t.Errorf("closed %v", r.tally.closed)
	}
}
