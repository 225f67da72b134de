package tally

import (
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// Collect adds what was counted since the last Collect to the calls' own series, each call
// once, and reads the log. It takes a millisecond for a hundred series that are in use.
func (t *Table) Collect() {
	for from, more := 0, true; more; from += atOnce {
		more = t.collect(from)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memory == nil {
		return
	}
	t.readLog()
	t.look()
}

// atOnce is how many series are counted while others wait: Put is on the way of calls.
const atOnce = 64

// collect counts the series behind a number, and tells whether there are more.
func (t *Table) collect(from int) (more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for number := from; number < min(from+atOnce, len(t.series)); number++ {
		if t.series[number].call != nil {
			t.count(uint32(number))
		}
	}
	return from+atOnce < len(t.series)
}

// count adds to one call what is new in its series. A program adds to the bytes of requests
// last, so where they are the same as before there is nothing new. One more look behind each
// that found something is for processors that show another's additions in another order.
func (t *Table) count(number uint32) {
	s := &t.series[number]
	before := s.quiet
	if s.quiet = t.requestBytes(number) == s.read.RequestBytes; s.quiet && before {
		return
	}
	t.add(number)
}

// add is count of a series in which there may be something new.
func (t *Table) add(number uint32) {
	s, now := &t.series[number], t.total(number)
	t.sum = rpc.Aggregate{
		Serialization: s.serialization,
		Duration:      since(&now.Durations, &s.read.Durations, now.Nanoseconds-s.read.Nanoseconds),
		Request:       since(&now.RequestSizes, &s.read.RequestSizes, now.RequestBytes-s.read.RequestBytes),
		Response:      since(&now.AnswerSizes, &s.read.AnswerSizes, now.AnswerBytes-s.read.AnswerBytes),
	}
	s.read = now
	t.note(number)
	t.totals.Calls += t.sum.Calls()
	if to, ok := s.call.Observer.(rpc.Aggregator); ok {
		to.Aggregate(&t.sum)
	}
	if n := t.sum.Calls(); n > 0 && s.ended != nil {
		s.ended(n)
	}
}

// Count is Collect of the calls of one way, in one serialization.
func (t *Table) Count(call *rpc.Call, serialization uint8) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number, ok := t.byCall[key{call: call, serialization: serialization}]; ok {
		t.add(number)
	}
}

// since is what came to a histogram.
func since(now, before *[lane.Bounds + 1]uint64, sum uint64) rpc.Tally {
	t := rpc.Tally{Sum: sum}
	for i := range now {
		t.Counts[i] = now[i] - before[i]
	}
	return t
}

// total is a series on all CPUs. A program may be in the middle of adding a call: what is
// missing then comes with a next look, as the bytes of requests are read first.
func (t *Table) total(number uint32) lane.Tally {
	var sum lane.Tally
	for cpu := range t.memory.Sizes.CPUs {
		one := t.at(cpu, number)
		sum.RequestBytes += atomic.LoadUint64(&one.RequestBytes)
		for i := range sum.Durations {
			sum.Durations[i] += atomic.LoadUint64(&one.Durations[i])
			sum.RequestSizes[i] += atomic.LoadUint64(&one.RequestSizes[i])
			sum.AnswerSizes[i] += atomic.LoadUint64(&one.AnswerSizes[i])
		}
		sum.Nanoseconds += atomic.LoadUint64(&one.Nanoseconds)
		sum.AnswerBytes += atomic.LoadUint64(&one.AnswerBytes)
	}
	return sum
}

func (t *Table) requestBytes(number uint32) uint64 {
	var sum uint64
	for cpu := range t.memory.Sizes.CPUs {
		sum += atomic.LoadUint64(&t.at(cpu, number).RequestBytes)
	}
	return sum
}

func (t *Table) at(cpu int, number uint32) *lane.Tally {
	return &t.memory.Tallies[cpu*t.memory.Sizes.Series+int(number)]
}

// tidy frees series that were dropped, when no call can count in them any more. Quiesce is
// lane.Quiesce.
func (t *Table) tidy(quiesce func() error) {
	t.tidying.Lock()
	defer t.tidying.Unlock()
	gone := t.gone()
	// No program is left that read a route before it was removed, then none that took a
	// flight before it was looked for here: it has counted. Where the kernel cannot say so, nothing is freed.
	if len(gone) == 0 || quiesce() != nil {
		return
	}
	named := t.named()
	if quiesce() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readLog()
	for _, number := range gone {
		s := &t.series[number]
		if s.users > 0 || named[number] {
			continue
		}
		if s.call != nil {
			t.add(number)
			if k := (key{call: s.call, serialization: s.serialization}); t.byCall[k] == number {
				delete(t.byCall, k)
			}
		}
		*s = series{}
		t.free = append(t.free, number)
		t.dropped--
	}
}

// gone are the series without users.
func (t *Table) gone() []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped == 0 {
		return nil
	}
	var all []uint32
	for number := range t.series {
		if s := &t.series[number]; s.used && s.users == 0 {
			all = append(all, uint32(number))
		}
	}
	return all
}

// named are the series that routes and requests in flight have. Whoever asks holds tidying.
func (t *Table) named() map[uint32]bool {
	found := make(map[uint32]bool)
	for i := range t.memory.Routes {
		if r := &t.memory.Routes[i]; atomic.LoadUint64(&r.Hash) != 0 {
			for _, number := range r.Series {
				found[number] = true
			}
		}
	}
	for number := range t.memory.Sizes.Lanes {
		t.memory.InFlight(uint32(number), func(_ uint64, f lane.Flight) bool {
			found[f.Series] = true
			return true
		})
	}
	return found
}
