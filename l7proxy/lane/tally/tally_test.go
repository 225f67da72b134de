package tally

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

func quiet() error { return nil }

// TestMiddle: a call that a program is in the middle of adding when its series is read counts,
// also if it is the last one for good.
func TestMiddle(t *testing.T) {
	for name, freed := range map[string]bool{"looked at again": false, "freed": true} {
		r := newRig(t, 0)
		call, seen := newCall()
		number := r.put(call, 2)
		one := &r.memory.Tallies[number]
		one.RequestBytes = 300 // as it is read while the counts are not there yet, or no more
		r.Collect()
		r.answer(0, number, time.Second)
		one.RequestBytes = 300
		if freed {
			r.Drop(number)
			r.tidy(quiet)
		} else {
			r.Collect()
		}
		if seen.calls != 1 || seen.bytes != 300 || r.Totals().Calls != 1 {
			t.Errorf("%s: %d calls of %d bytes", name, seen.calls, seen.bytes)
		}
		r.Collect()
		if seen.calls != 1 {
			t.Errorf("%s: it counts again", name)
		}
	}
}

// TestOnce: each call is counted once, whoever collects and however often, while programs
// of all CPUs go on.
func TestOnce(t *testing.T) {
	const each = 20000
	r := newRig(t, 0)
	call, seen := newCall()
	plain, fast := r.put(call, 2), r.put(call, 23)
	if again := r.put(call, 2); again != plain || fast == plain {
		t.Fatalf("series %d, again %d, of another serialization %d", plain, again, fast)
	}
	var all, collectors sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		collectors.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					r.Collect()
				}
			}
		})
	}
	for cpu := range r.memory.Sizes.CPUs {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(cpu), 1))
			for i := range each {
				r.answer(cpu, []uint32{plain, fast}[i%2], time.Duration(1+random.Uint64N(1<<random.UintN(43))))
			}
		})
	}
	all.Wait()
	close(done)
	collectors.Wait()
	r.Collect()
	want := uint64(each * r.memory.Sizes.CPUs)
	if seen.calls != want || seen.bytes != 300*want || seen.kinds[2] != want/2 || seen.kinds[23] != want/2 || r.Totals().Calls != want {
		t.Errorf("%d calls, %d bytes, %v by serialization, %d in all; want %d calls", seen.calls, seen.bytes, seen.kinds, r.Totals().Calls, want)
	}
	// What a number counted before is not the next one's.
	r.Drop(plain)
	r.Drop(plain)
	r.answer(0, plain, time.Second)
	r.tidy(quiet)
	if seen.calls != want+1 {
		t.Errorf("%d calls, want the last one too", seen.calls)
	}
	next, nobody := newCall()
	for range r.memory.Sizes.Series - 2 {
		other, _ := newCall()
		if number, ok := r.Put(other, 2, nil); ok && number == plain {
			next, nobody = other, other.Observer.(*observer)
		}
	}
	if r.Call(plain) != next {
		t.Fatal("the number is not used again")
	}
	r.Collect()
	if nobody.calls != 0 {
		t.Errorf("%d calls are another's", nobody.calls)
	}
	if _, ok := r.Put(&rpc.Call{}, 2, nil); ok {
		t.Error("there is room without end")
	}
}

// TestDrop: a number is given to nobody else while a call can count in it.
func TestDrop(t *testing.T) {
	r := newRig(t, 0)
	call, seen := newCall()
	number := r.put(call, 2)
	used := func() bool { return r.Call(number) == call }
	route := &r.memory.Routes[3]
	route.Series[7] = number
	atomic.StoreUint64(&route.Hash, 5)
	flight := &r.memory.Flights[lane.Flights+9]
	*flight = lane.Flight{Key: 522, Series: number}

	r.tidy(quiet)
	if !used() {
		t.Fatal("a series went that is in use")
	}
	r.Drop(number)
	r.tidy(quiet)
	if !used() {
		t.Fatal("a series went that a route has")
	}
	r.memory.Remove(3)
	r.tidy(quiet)
	if !used() {
		t.Fatal("a series went that a request in flight has")
	}
	if _, ok := r.memory.Take(1, 521); !ok {
		t.Fatal("there is no such request")
	}
	r.tidy(func() error { return errors.New("not on this kernel") })
	if !used() {
		t.Fatal("a series went though a program may still count in it")
	}
	quiesces := 0
	r.tidy(func() error {
		if quiesces++; quiesces == 2 {
			r.answer(1, number, time.Millisecond) // by whoever took the flight
		}
		return nil
	})
	if used() || seen.calls != 1 {
		t.Errorf("the series is used %v and has counted %d calls", used(), seen.calls)
	}
	if n := r.Totals().Series; n != 0 {
		t.Errorf("%d series are in use", n)
	}
	// A way that comes back before its series went has it still.
	number = r.put(call, 2)
	r.Drop(number)
	r.Drop(number) // once too often
	if again := r.put(call, 2); again != number {
		t.Errorf("the way has series %d, and %d when it comes back", number, again)
	}
	r.tidy(quiet)
	if !used() {
		t.Error("a series went that is in use again")
	}
}

// TestUse: other memory begins anew, without what was left in it, and nothing that was
// counted before is lost.
func TestUse(t *testing.T) {
	r := newRig(t, 0)
	call, seen := newCall()
	number := r.put(call, 2)
	r.Opened(1, consumer)
	r.memory.Lanes[1].Slow = 4
	r.answer(2, number, time.Millisecond)

	next, _ := newMemory(t)
	next.Flights[0] = lane.Flight{Key: 1, Series: 5} // of the proxy before
	next.Tallies[4].Durations[0] = 9
	next.Tallies[4].RequestBytes = 900
	r.Use(next)
	if err := r.memory.Close(); err != nil {
		t.Fatal(err)
	}
	r.memory = next
	if all := r.Totals(); seen.calls != 1 || all.Calls != 1 || all.Slow != 4 || all.Open != 0 || all.Closed[Off] != 1 || r.Call(number) != nil {
		t.Errorf("%d calls were counted; %+v", seen.calls, all)
	}
	for range r.memory.Sizes.Series - 2 {
		other, o := newCall()
		if number := r.put(other, 2); number == 5 {
			t.Error("the series of a request that is in flight is somebody else's")
		}
		r.Collect()
		if o.calls != 0 {
			t.Errorf("%d calls of another time were counted", o.calls)
		}
	}
	if _, ok := r.Put(call, 2, nil); ok {
		t.Error("the series of a request that is in flight is somebody else's")
	}
	if _, ok := next.Take(0, 0); !ok {
		t.Fatal("there is no such request")
	}
	r.tidy(quiet)
	if number := r.put(call, 2); number != 5 {
		t.Errorf("series %d, want the one that is free now", number)
	}
	r.Use(nil)
	if _, ok := r.Put(call, 2, nil); ok || r.Routes() != 0 {
		t.Error("there is room without memory")
	}
	r.Opened(0, consumer)
	r.Closed(0, Idle)
	r.Collect()
	r.tidy(quiet)
}

// TestLog: records become those that a call would have had by the proxy, of the consumer
// whose lane it was.
func TestLog(t *testing.T) {
	r := newRig(t, 1000)
	call, seen := newCall()
	if got := atomic.LoadUint32(&r.memory.Budget.Limit); got != 1000 {
		t.Errorf("the budget is %d records a second", got)
	}
	number := r.put(call, 2)
	if r.Wants() {
		t.Error("records are wanted by nobody")
	}
	seen.tells = true
	r.Collect()
	if !r.Wants() {
		t.Error("records are not wanted")
	}
	r.Opened(2, consumer)
	start := time.Now()
	began := lane.Now()
	rec := lane.Record{
		Lane: 2, Series: number, ID: 7, Start: began, Duration: 1500, RequestBytes: 300, AnswerBytes: 80, Serialization: 2, Status: 20,
	}
	r.write(rec)
	for _, wrong := range []lane.Record{{Lane: 99, Series: number}, {Lane: 2, Series: 99}, {Lane: 2, Series: number + 1}} {
		r.write(wrong)
	}
	r.memory.Budget.Told, r.memory.Budget.Dropped = 1, 5
	r.Closed(2, Idle)
	r.Opened(2, sibling(consumer)) // the record is the former consumer's
	r.write(rec)
	r.follow()
	if len(seen.told) != 2 {
		t.Fatalf("%d records, want 2", len(seen.told))
	}
	if seen.told[1].Downstream != sibling(consumer) {
		t.Errorf("the second call came from %s", seen.told[1].Downstream)
	}
	got := seen.told[0]
	if off := got.Start.Sub(start).Abs(); off > time.Second {
		t.Errorf("the call began %s off", off)
	}
	got.Start = time.Time{}
	want := rpc.Record{
		Call: call, Result: rpc.ResultValue, Status: 20, Serialization: 2, ID: 7, Duration: 1500, RequestBytes: 300, ResponseBytes: 80,
		Downstream: consumer, Lane: true,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if all := r.Totals(); all.Told != 1 || all.Dropped != 5 || all.Calls != 0 {
		t.Errorf("%+v", all)
	}
	seen.tells = false
	r.Collect()
	if r.Wants() {
		t.Error("records are wanted still")
	}
	off := newRig(t, 0)
	seen.tells = true
	off.put(call, 2)
	off.Collect()
	if off.Wants() {
		t.Error("records are wanted though there are to be none")
	}
}

// TestTotals: what lanes counted is added up over their lives.
func TestTotals(t *testing.T) {
	r := newRig(t, 0)
	for why := range Reason(Reasons) {
		r.Opened(3, consumer)
		l := &r.memory.Lanes[3]
		if l.Requested+l.Slow+l.Returned+l.Behind+l.Full != 0 {
			t.Errorf("a lane begins with %+v", l)
		}
		l.Requested, l.Slow, l.Returned, l.Behind, l.Full = 1, 2, 3, 4, 5
		if all := r.Totals(); all.Open != 1 || all.Full != 5*(uint64(why)+1) {
			t.Errorf("%+v", all)
		}
		r.Closed(3, why)
		r.Closed(3, why) // it is closed
	}
	n := uint64(Reasons)
	want := Totals{Requests: n, Slow: 2 * n, Returned: 3 * n, Behind: 4 * n, Full: 5 * n, Opened: n}
	seen := map[string]bool{}
	for why := range Reason(Reasons) {
		want.Closed[why] = 1
		seen[why.String()] = true
	}
	if got := r.Totals(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(seen) != Reasons || seen["unknown"] {
		t.Errorf("the reasons are %v", seen)
	}
	r.memory.Routes[2].Hash = 1
	if got := r.Routes(); got != 1 {
		t.Errorf("%d routes", got)
	}
}

// TestRun: calls are counted and told of without anybody who asks, whenever memory comes,
// and series go by themselves.
func TestRun(t *testing.T) {
	r := newRig(t, 1)
	memory := r.memory
	r.Use(nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.Use(memory)
	call, seen := newCall()
	seen.tells = true
	number := r.put(call, 2)
	r.Opened(0, consumer)
	r.answer(0, number, time.Millisecond)
	r.write(lane.Record{Series: number, Duration: 1})
	wait(t, func() bool { return r.Totals().Calls == 1 })
	r.Drop(number)
	wait(t, func() bool { return r.Call(number) == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if seen.calls != 1 || len(seen.told) != 1 {
		t.Errorf("%d calls were counted, %d told of", seen.calls, len(seen.told))
	}
}

func wait(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatal("nothing happens")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
