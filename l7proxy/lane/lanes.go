// Package lane gives consumer connections their lanes: it learns whose requests the kernel
// may route, connects to the providers, and begins and ends what the programs do, so that
// no byte is lost, doubled or out of order. What comes back by the proxy it delivers and
// records like any answer. It decides nothing about a request: verdict does, and it reads
// no request but its names.
package lane

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/left"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Series are the numbers by which the programs count calls.
type Series interface {
	// Put returns the series of the calls of one way, until Drop; false: there is no room.
	Put(call *rpc.Call, serialization uint8) (series uint32, ok bool)
	Drop(series uint32)
	// Adopt is Put of a series that a proxy before this one gave; false: it is gone.
	Adopt(series uint32, call *rpc.Call, serialization uint8) bool
}

// Tally counts what the programs do. It is a *tally.Table.
type Tally interface {
	Series

	// Opened says that a lane begins, Closed that it has ended.
	Opened(number uint32, consumer netip.AddrPort)
	Closed(number uint32, why tally.Reason)
	// Wants tells whether each call is to be logged.
	Wants() bool
}

var _ Tally = (*tally.Table)(nil)

// Dialer connects to providers of this node in their own network namespaces.
type Dialer interface {
	// Lane connects for a lane of a workload to an endpoint. Client is what the provider's
	// application is to see as its consumer.
	Lane(ctx context.Context, workload string, endpoint, client netip.AddrPort) (*sock.Conn, error)
	// Near tells whether the short cut that it takes is open.
	Near(ctx context.Context, workload string, endpoint netip.AddrPort) bool
}

// Options are what Lanes need.
type Options struct {
	Dialer Dialer
	Tally  Tally
	Kernel Kernel // nil: this machine's
	Keeper Keeper // nil: a lane ends with the proxy
	// Tapped tells whether somebody looks at bodies: then no call takes a lane. Nil: never.
	Tapped   func() bool
	MaxFrame int // bytes of an answer, header included
	Logger   *slog.Logger
}

// The clock of lanes: how often it is looked whether requests are late, whether what was
// learned still stands, and whether a lane is used.
const every = 100 * time.Millisecond

// forgetAfter is how long what was learned is kept where there is no lane.
const forgetAfter = time.Minute

// Stats are counts, for metrics.
type Stats struct {
	Failed  atomic.Uint64 // lanes that could not be opened
	Unasked atomic.Uint64 // answers that nobody waited for
}

// Lanes are those of the node. Safe for concurrent use; a nil Lanes is always off.
type Lanes struct {
	opts    Options
	stats   Stats
	barrier barrier
	on      atomic.Bool
	taking  sync.WaitGroup // of lanes that were left

	mu     sync.Mutex
	book   *book // nil: there is no memory
	ways   map[wayKey]*way
	rests  []*name // whose routes are removed, and maybe used still
	live   map[*Lane]bool
	left   map[uint32]bool // numbers of lanes of a proxy before this one
	round  int             // how often an agent came that has none of the lanes
	next   uint32          // number that was never given
	free   []uint32        // numbers
	class  uint32          // given last
	active actives
}

// book is a memory and whose its routes are. Lanes.mu guards the names.
type book struct {
	memory *lane.Memory
	names  map[uint32]*name // by their routes' places, those that rest too
}

// New returns Lanes without memory, in which there can be none.
func New(opts Options) *Lanes {
	if opts.Kernel == nil {
		opts.Kernel = programs{}
	}
	return &Lanes{
		opts: opts, barrier: barrier{kernel: opts.Kernel}, ways: make(map[wayKey]*way),
		live: make(map[*Lane]bool), active: newActives(0),
	}
}

// Stats returns the counts.
func (ls *Lanes) Stats() *Stats { return &ls.stats }

// Use makes lanes in a memory from now on, or, where mode says so, ends them all without
// losing a call. In memory that is another than before may be lanes of a proxy before this
// one, until Settle; the one before, which must stay mapped, is in use until its lanes have
// ended. Part of lent.User.
func (ls *Lanes) Use(m *lane.Memory, mode handoff.LaneMode) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.uses(m) {
		ls.replace(m)
	}
	on := m != nil && mode == handoff.LaneOn
	ls.on.Store(on)
	if !on {
		for l := range ls.live {
			l.quit(tally.Off)
		}
	}
}

// Uses tells whether lanes are made in a memory.
func (ls *Lanes) Uses(m *lane.Memory) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.uses(m)
}

func (ls *Lanes) uses(m *lane.Memory) bool {
	return ls.book == nil && m == nil || ls.book != nil && ls.book.memory == m
}

// replace begins with another memory, or none. The caller locks.
func (ls *Lanes) replace(m *lane.Memory) {
	for l := range ls.live {
		l.quit(tally.Off)
	}
	for _, w := range ls.ways {
		ls.forget(w)
	}
	clear(ls.ways)
	ls.book, ls.rests, ls.next, ls.free, ls.left = nil, nil, 0, nil, nil
	if m == nil {
		return
	}
	ls.book = &book{memory: m, names: make(map[uint32]*name)}
	ls.active = newActives(len(m.Active))
	// In the lanes that are there calls go on, until Settle.
	before := left.Read(m)
	ls.left, ls.class = before.Lanes, max(ls.class, before.Class)
	for number := range ls.left {
		ls.next = max(ls.next, number+1)
	}
	for number := range ls.next {
		if !ls.left[number] {
			ls.free = append(ls.free, number)
		}
	}
}

// On tells whether there may be lanes.
func (ls *Lanes) On() bool { return ls != nil && ls.on.Load() }

// Run is the clock, until ctx ends.
func (ls *Lanes) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		ls.tick(time.Now())
	}
}

func (ls *Lanes) tick(now time.Time) {
	ls.Look()
	ls.mu.Lock()
	logged := ls.opts.Tally.Wants()
	for l := range ls.live {
		l.tick(now, logged)
	}
	ls.tidy(now)
	resting := len(ls.rests) > 0
	ls.mu.Unlock()
	if resting {
		ls.rest()
	}
}

// Look ends what does not stand any more: the configuration is another, or a provider's
// health. It is called where either is known to have changed, and by the clock.
func (ls *Lanes) Look() {
	if ls == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	tapped := ls.tapped()
	for _, w := range ls.ways {
		for n := range w.each() {
			if n.placed && (tapped || !n.verdict.Stands()) {
				ls.remove(w, n)
			}
		}
	}
}

// Forget ends the lanes of a workload, behind what is in flight, and forgets what was
// learned of it.
func (ls *Lanes) Forget(workload string) {
	if ls == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for key, w := range ls.ways {
		if key.workload == workload {
			for l := range w.lanes {
				l.quit(tally.Changed)
			}
			ls.forget(w)
		}
	}
}

// tidy forgets the ways that nobody uses. The caller locks.
func (ls *Lanes) tidy(now time.Time) {
	for key, w := range ls.ways {
		switch {
		case len(w.lanes) > 0:
			w.idle = time.Time{}
		case w.idle.IsZero():
			w.idle = now
		case now.Sub(w.idle) > forgetAfter:
			ls.forget(w)
			delete(ls.ways, key)
		}
	}
}

// Leave closes the connections of a workload's lanes to an endpoint: the way to it is
// another than it was.
func (ls *Lanes) Leave(workload string, endpoint netip.AddrPort) {
	if ls == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for key, w := range ls.ways {
		if key.workload == workload {
			ls.refuse(w, endpoint, time.Time{})
			for l := range w.lanes {
				l.shut(endpoint)
			}
		}
	}
}

// Close refuses what is in flight: the proxy ends.
func (ls *Lanes) Close() {
	ls.on.Store(false)
	ls.mu.Lock()
	all := make([]*Lane, 0, len(ls.live))
	for l := range ls.live {
		l.quit(tally.Draining)
		all = append(all, l)
	}
	ls.mu.Unlock()
	for _, l := range all {
		l.sweep(nil, rpc.WhyUpstreamClosed)
	}
}

func (ls *Lanes) tapped() bool { return ls.opts.Tapped != nil && ls.opts.Tapped() }

// number gives a lane its number. The caller locks.
func (ls *Lanes) number() (uint32, bool) {
	if n := len(ls.free); n > 0 {
		number := ls.free[n-1]
		ls.free = ls.free[:n-1]
		return number, true
	}
	if int(ls.next) >= len(ls.book.memory.Lanes) {
		return 0, false
	}
	ls.next++
	return ls.next - 1, true
}

// rest gives the places of removed routes back, when no program can be at them and no
// request in flight names them.
func (ls *Lanes) rest() {
	ls.mu.Lock()
	resting, b := ls.rests, ls.book
	ls.rests = nil
	ls.mu.Unlock()
	failed := ls.barrier.wait() != nil
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if b != ls.book {
		return // nobody uses those places any more
	}
	used := make(map[uint32]bool)
	for l := range ls.live {
		l.book.memory.InFlight(l.number, func(_ uint64, f lane.Flight) bool {
			used[f.Route] = true
			return true
		})
	}
	for _, n := range resting {
		if failed || used[n.place] {
			ls.rests = append(ls.rests, n)
			continue
		}
		delete(b.names, n.place)
		n.drop(ls.opts.Tally)
	}
}
