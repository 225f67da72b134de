package tally

import (
	"net/netip"
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
)

// Reason is why a lane was closed.
type Reason uint8

// The reasons.
const (
	Idle     Reason = iota // no request took it for a while
	Consumer               // the consumer's connection ended
	Provider               // no provider is left
	Changed                // the configuration, or who may be called, is another
	Off                    // lanes were switched off
	Tapped                 // somebody looks at bodies
	Failed                 // the kernel did not do what it should
	Draining               // the proxy ends
	Memory                 // there may be no memory for what the consumer is sent
	numReasons
)

// Reasons is the number of reasons, for tables.
const Reasons = int(numReasons)

// String returns the value of the metric label reason.
func (r Reason) String() string {
	switch r {
	case Idle:
		return "idle"
	case Consumer:
		return "consumer_gone"
	case Provider:
		return "provider_gone"
	case Changed:
		return "changed"
	case Off:
		return "off"
	case Tapped:
		return "tapped"
	case Failed:
		return "failed"
	case Draining:
		return "draining"
	case Memory:
		return "memory"
	case numReasons:
	}
	return "unknown"
}

// lanes are those of the memory.
type lanes struct {
	open      map[uint32]struct{}
	consumers []netip.AddrPort // of each lane, also when it is closed: the log may still tell of it
}

// Totals are counts since the proxy began.
type Totals struct {
	Calls    uint64 // that took the lane both ways
	Requests uint64 // that took it
	Slow     uint64 // messages of consumers with a lane that went to the proxy
	Returned uint64 // messages of providers that did
	Behind   uint64 // messages that began in the middle of a frame, or where nobody knew
	Full     uint64 // requests that found no room
	Scarce   uint64 // messages for which there may be no memory
	Told     uint64 // records in the log
	Dropped  uint64 // records beyond the log's budget
	Opened   uint64 // lanes
	Closed   [Reasons]uint64

	Open   int // lanes, at present
	Series int // in use, at present
}

// Opened says that a lane begins, before any flag of it is set: of the consumer at an
// address, as its application sees it.
func (t *Table) Opened(number uint32, consumer netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memory == nil || int(number) >= len(t.lanes.consumers) {
		return
	}
	t.readLog() // by the name of the consumer before
	t.lanes.consumers[number] = consumer
	t.lanes.open[number] = struct{}{}
	t.totals.Opened++
	l := &t.memory.Lanes[number]
	for _, counter := range []*uint64{&l.Requested, &l.Answered, &l.Slow, &l.Returned, &l.Last, &l.Behind, &l.Full, &l.Scarce} {
		atomic.StoreUint64(counter, 0)
	}
}

// Closed says that a lane has ended: it has no flags and no requests in flight any more.
func (t *Table) Closed(number uint32, why Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.lanes.open[number]; ok {
		t.end(number, why)
	}
}

// end keeps what a lane has counted.
func (t *Table) end(number uint32, why Reason) {
	t.totals.add(&t.memory.Lanes[number])
	t.totals.Closed[why]++
	delete(t.lanes.open, number)
}

func (all *Totals) add(l *lane.Lane) {
	all.Requests += atomic.LoadUint64(&l.Requested)
	all.Slow += atomic.LoadUint64(&l.Slow)
	all.Returned += atomic.LoadUint64(&l.Returned)
	all.Behind += atomic.LoadUint64(&l.Behind)
	all.Full += atomic.LoadUint64(&l.Full)
	all.Scarce += atomic.LoadUint64(&l.Scarce)
}

// Totals returns what was counted so far. Calls, Told and Dropped are as of the last Collect.
func (t *Table) Totals() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.totals
	all.Open = len(t.lanes.open)
	for number := range t.series {
		if t.series[number].used {
			all.Series++
		}
	}
	for number := range t.lanes.open {
		all.add(&t.memory.Lanes[number])
	}
	return all
}

// Routes is how many routes the memory has at present.
func (t *Table) Routes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memory == nil {
		return 0
	}
	n := 0
	for i := range t.memory.Routes {
		if atomic.LoadUint64(&t.memory.Routes[i].Hash) != 0 {
			n++
		}
	}
	return n
}
