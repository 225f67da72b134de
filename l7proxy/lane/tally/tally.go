// Package tally counts what the kernel did of the calls that took a lane: it gives the
// ways of calls their numbers in the programs' tallies, adds what was counted to the
// calls' own series, and turns the lane's log into lines of the access log. It decides
// nothing about a call and opens no lane.
package tally

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// DefaultLimit is how many calls of the lane are logged in a second, unless told otherwise.
const DefaultLimit = 1000

const (
	// logEvery is the time between two reads of the log: the ring holds thousands of records.
	logEvery = 100 * time.Millisecond
	// countEvery is that between two reads of the tallies while nobody asks for metrics.
	countEvery = time.Second
)

// series is one number of the programs' tallies.
type series struct {
	call          *rpc.Call // nil: free, or of a proxy before this one
	serialization uint8
	ended         func(calls uint64) // nil: nobody is told
	users         int                // Put without Drop
	used          bool               // not free
	read          lane.Tally
	quiet         bool // nothing was new at the last look
}

// key is what has a series of its own.
type key struct {
	call          *rpc.Call
	serialization uint8
}

// Table knows whose each series is. Safe for concurrent use.
type Table struct {
	limit uint32

	// tidying is held while the memory is looked at without mu, and to replace it.
	tidying sync.Mutex
	used    chan struct{} // Use was called
	wants   atomic.Bool

	mu      sync.Mutex
	memory  *lane.Memory
	series  []series
	byCall  map[key]uint32
	free    []uint32
	dropped int // series without users that are not free yet
	lanes   lanes
	totals  Totals
	budget  lane.Budget // what was read of it
	sum     rpc.Aggregate
	record  rpc.Record
}

// New returns a Table without memory, in which nothing has room. Limit is how many calls
// are logged in a second, 0 for none.
func New(limit uint32) *Table {
	return &Table{limit: limit, used: make(chan struct{}, 1), byCall: make(map[key]uint32)}
}

// Use counts in a memory from now on, nil for none. If it is another one, what was counted in the memory
// before is added up first, and every series and lane of it is gone; when Use returns
// that memory may be closed.
func (t *Table) Use(m *lane.Memory) {
	t.Collect()
	t.tidying.Lock()
	defer t.tidying.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if m == t.memory {
		return
	}
	for number := range t.lanes.open {
		t.end(number, Off)
	}
	t.memory, t.series, t.free, t.dropped = m, nil, nil, 0
	clear(t.byCall)
	t.lanes = lanes{}
	if m != nil {
		t.begin()
	}
	select {
	case t.used <- struct{}{}:
	default: // told already
	}
}

// begin makes every series of the memory free, but for the first, which a route has that
// names none, and for those that a proxy before this one has left in use.
func (t *Table) begin() {
	m := t.memory
	t.series = make([]series, m.Sizes.Series)
	t.lanes.consumers = make([]netip.AddrPort, m.Sizes.Lanes)
	t.lanes.open = make(map[uint32]struct{})
	for number := range t.named() {
		if number > 0 && int(number) < len(t.series) {
			t.series[number].used = true
			t.dropped++
		}
	}
	for number := len(t.series) - 1; number > 0; number-- {
		if !t.series[number].used {
			t.free = append(t.free, uint32(number))
		}
	}
	if m.Budget != nil {
		t.budget.Told, t.budget.Dropped = atomic.LoadUint64(&m.Budget.Told), atomic.LoadUint64(&m.Budget.Dropped)
		atomic.StoreUint32(&m.Budget.Limit, t.limit)
	}
}

// Put returns the series of the calls of one way in one serialization, until as many Drops.
// It is false while there is no room: then such calls must go by the proxy. Ended, unless nil,
// is told of calls that were answered, when they are counted.
func (t *Table) Put(call *rpc.Call, serialization uint8, ended func(calls uint64)) (number uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := key{call: call, serialization: serialization}
	number, ok = t.byCall[k]
	switch {
	case !ok && len(t.free) == 0:
		return 0, false
	case !ok:
		number, t.free = t.free[len(t.free)-1], t.free[:len(t.free)-1]
		t.byCall[k] = number
		t.series[number] = series{call: call, serialization: serialization, used: true, read: t.total(number)}
		t.note(number)
	default:
		if t.series[number].users == 0 {
			t.dropped--
		}
		t.add(number) // for who was told so far
	}
	t.series[number].users++
	t.series[number].ended = ended
	if t.tells(call) {
		t.wants.Store(true)
	}
	return number, true
}

// Drop says that a route has no use for a series any more: it was removed from the memory
// before. The series goes when no call can count in it any more.
func (t *Table) Drop(number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(number) >= len(t.series) || t.series[number].users == 0 {
		return
	}
	t.series[number].users--
	if t.series[number].users == 0 {
		t.dropped++
	}
}

// Call returns whose calls count in a series; nil: nobody's that is known.
func (t *Table) Call(number uint32) *rpc.Call {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(number) >= len(t.series) {
		return nil
	}
	return t.series[number].call
}

// Wants tells whether calls are to be logged: lanes whose flag lane.Logged is not as Wants
// says are to be changed within a moment.
func (t *Table) Wants() bool { return t.wants.Load() }

// Run counts and logs until ctx ends. Without memory it waits.
func (t *Table) Run(ctx context.Context) error {
	clock := time.NewTicker(logEvery)
	defer clock.Stop()
	counted := time.Now()
	for {
		tick := clock.C
		if !t.has() {
			tick = nil
		}
		select {
		case <-ctx.Done():
			t.Collect()
			return nil
		case <-t.used:
			continue
		case <-tick:
		}
		if time.Since(counted) < countEvery {
			t.follow()
			continue
		}
		t.Collect()
		t.tidy(lane.Quiesce)
		counted = time.Now()
	}
}

func (t *Table) has() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.memory != nil
}
