package tally

import (
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// Adopt is Put of a series that a route of a proxy before this one has: what was counted in
// it since that one looked last counts for the call. It is false if the series is another
// call's already.
func (t *Table) Adopt(number uint32, call *rpc.Call, serialization uint8, ended func(calls uint64)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number == 0 || int(number) >= len(t.series) || !t.series[number].used {
		return false
	}
	s := &t.series[number]
	k := key{call: call, serialization: serialization}
	switch {
	case s.call == nil:
		s.call, s.serialization, s.read = call, serialization, t.memory.Counted[number]
		if _, ok := t.byCall[k]; !ok {
			t.byCall[k] = number
		}
	case s.call != call || s.serialization != serialization:
		return false
	}
	if s.users == 0 {
		t.dropped--
	}
	s.users++
	s.ended = ended
	if t.tells(call) {
		t.wants.Store(true)
	}
	return true
}

// note writes down what is counted of a series, for the proxy that comes after one that
// dies. One that dies in the middle leaves some of one look's calls counted twice, or not.
func (t *Table) note(number uint32) {
	from, to := &t.series[number].read, &t.memory.Counted[number]
	for i := range from.Durations {
		atomic.StoreUint64(&to.Durations[i], from.Durations[i])
		atomic.StoreUint64(&to.RequestSizes[i], from.RequestSizes[i])
		atomic.StoreUint64(&to.AnswerSizes[i], from.AnswerSizes[i])
	}
	atomic.StoreUint64(&to.Nanoseconds, from.Nanoseconds)
	atomic.StoreUint64(&to.RequestBytes, from.RequestBytes)
	atomic.StoreUint64(&to.AnswerBytes, from.AnswerBytes)
}
