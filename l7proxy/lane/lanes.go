// Package lane gives consumer connections their lanes: it learns whose requests the kernel
// may route, says which connections are worth a lane and which lanes end, and takes over what
// a proxy before this one has left. What a lane does life knows. It decides nothing about a
// request: verdict does, and it reads no request but its names.
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
	"github.com/dubway/dubway/l7proxy/lane/kernel"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/left"
	"github.com/dubway/dubway/l7proxy/lane/life"
	"github.com/dubway/dubway/l7proxy/lane/observed"
	"github.com/dubway/dubway/l7proxy/lane/tally"
)

// Options are what Lanes need.
type Options struct {
	Dialer life.Dialer
	Tally  life.Tally
	Kernel kernel.Kernel // nil: this machine's
	Keeper life.Keeper   // nil: a lane ends with the proxy
	// Tapped tells whether somebody looks at bodies: then no call takes a lane. Nil: never.
	Tapped   func() bool
	MaxFrame int // bytes of an answer, header included
	Logger   *slog.Logger
}

// The clock of lanes: how often it is looked whether requests are late, whether what was
// learned still stands, and whether a lane is used.
const every = 100 * time.Millisecond

// Lanes are those of the node. Safe for concurrent use; a nil Lanes is always off.
type Lanes struct {
	Observer observed.Observer // where no call takes a lane, and it is counted which would

	node   life.Node
	tapped func() bool
	on     atomic.Bool
	taking sync.WaitGroup // of lanes that were left

	// The node's Mu guards the rest.
	live map[*life.Lane]bool
	left map[uint32]bool // numbers of lanes of a proxy before this one
	next uint32          // number that was never given
	free []uint32        // numbers
}

// New returns Lanes without memory, in which there can be none.
func New(opts Options) *Lanes {
	if opts.Kernel == nil {
		opts.Kernel = kernel.Programs{}
	}
	if opts.Tapped == nil {
		opts.Tapped = func() bool { return false }
	}
	ls := &Lanes{tapped: opts.Tapped, live: make(map[*life.Lane]bool)}
	ls.node = life.Node{
		Dialer: opts.Dialer, Tally: opts.Tally, Kernel: opts.Kernel, Barrier: kernel.Barrier{Kernel: opts.Kernel},
		Keeper: opts.Keeper, MaxFrame: opts.MaxFrame, Logger: opts.Logger, Ended: ls.ended,
	}
	return ls
}

// Stats returns the counts.
func (ls *Lanes) Stats() *life.Stats { return &ls.node.Stats }

// Use makes lanes in a memory from now on, or, where mode says so, ends them all without
// losing a call. In memory that is another than before may be lanes of a proxy before this
// one, until Settle; the one before, which must stay mapped, is in use until its lanes have
// ended. Part of lent.User.
func (ls *Lanes) Use(m *lane.Memory, mode handoff.LaneMode) {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if !ls.uses(m) {
		ls.replace(m)
	}
	on := m != nil && mode == handoff.LaneOn
	ls.on.Store(on)
	ls.Observer.Observe(mode == handoff.LaneObserve)
	if !on {
		for l := range ls.live {
			l.Quit(tally.Off)
		}
	}
}

// Uses tells whether lanes are made in a memory.
func (ls *Lanes) Uses(m *lane.Memory) bool {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	return ls.uses(m)
}

func (ls *Lanes) uses(m *lane.Memory) bool {
	return ls.node.Book == nil && m == nil || ls.node.Book != nil && ls.node.Book.Memory == m
}

// replace begins with another memory, or none. The caller locks.
func (ls *Lanes) replace(m *lane.Memory) {
	for l := range ls.live {
		l.Quit(tally.Off)
	}
	if ls.node.Book != nil {
		ls.node.Book.Close()
	}
	ls.node.Book, ls.next, ls.free, ls.left = nil, 0, nil, nil
	if m == nil {
		return
	}
	ls.node.Book = learned.New(m, ls.node.Tally)
	// In the lanes that are there calls go on, until Settle.
	before := left.Read(m)
	ls.node.Book.After(before.Class)
	ls.left = before.Lanes
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
	ls.node.Mu.Lock()
	logged := ls.node.Tally.Wants()
	for l := range ls.live {
		l.Tick(now, logged)
	}
	b := ls.node.Book
	if b == nil {
		ls.node.Mu.Unlock()
		return
	}
	b.Tidy(now)
	resting := b.Rest()
	ls.node.Mu.Unlock()
	if len(resting) > 0 {
		ls.rest(b, resting)
	}
}

// Look ends what does not stand any more: the configuration is another, or a provider's
// health. It is called where either is known to have changed, and by the clock.
func (ls *Lanes) Look() {
	if ls == nil {
		return
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if ls.node.Book != nil {
		ls.node.Book.Look(time.Now(), ls.tapped())
	}
}

// Forget ends the lanes of a workload, behind what is in flight, and forgets what was
// learned of it.
func (ls *Lanes) Forget(workload string) {
	if ls == nil {
		return
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	for l := range ls.live {
		if l.Way.Key.Workload == workload {
			l.Quit(tally.Changed)
		}
	}
	if ls.node.Book == nil {
		return
	}
	for key, w := range ls.node.Book.Ways() {
		if key.Workload == workload {
			ls.node.Book.Forget(w)
		}
	}
}

// Leave closes the connections of a workload's lanes to an endpoint: the way to it is
// another than it was.
func (ls *Lanes) Leave(workload string, endpoint netip.AddrPort) {
	if ls == nil {
		return
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	for l := range ls.live {
		if l.Way.Key.Workload == workload {
			l.Book.Refuse(l.Way, endpoint, time.Time{})
			l.Shut(endpoint)
		}
	}
	if ls.node.Book == nil {
		return
	}
	for key, w := range ls.node.Book.Ways() {
		if key.Workload == workload {
			ls.node.Book.Refuse(w, endpoint, time.Time{})
		}
	}
}

// TellAll says that another agent is there, which has none of the lanes.
func (ls *Lanes) TellAll() {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	ls.node.Round++
	for l := range ls.live {
		l.Nudge()
	}
}

// Close refuses what is in flight: the proxy ends.
func (ls *Lanes) Close() {
	ls.on.Store(false)
	ls.node.Mu.Lock()
	all := make([]*life.Lane, 0, len(ls.live))
	for l := range ls.live {
		l.Quit(tally.Draining)
		all = append(all, l)
	}
	ls.node.Mu.Unlock()
	for _, l := range all {
		l.GiveUp()
	}
}

// begin makes a lane for a ride; nil: there is no number left, or nobody to call.
func (ls *Lanes) begin(r *Ride) *life.Lane {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if !ls.On() || ls.node.Book == nil {
		return nil
	}
	w := ls.node.Book.Of(r.key())
	if w.Wanted == 0 {
		return nil
	}
	number, ok := ls.number()
	if !ok {
		return nil
	}
	l := life.New(&ls.node, r.consumer(), w, number)
	ls.live[l] = true
	return l
}

// ended takes the number of a lane back. The caller locks.
func (ls *Lanes) ended(l *life.Lane) {
	delete(ls.live, l)
	if l.Book == ls.node.Book {
		ls.free = append(ls.free, l.Number)
	}
}

// number gives a lane its number. The caller locks.
func (ls *Lanes) number() (uint32, bool) {
	if n := len(ls.free); n > 0 {
		number := ls.free[n-1]
		ls.free = ls.free[:n-1]
		return number, true
	}
	if int(ls.next) >= len(ls.node.Book.Memory.Lanes) {
		return 0, false
	}
	ls.next++
	return ls.next - 1, true
}

// rest gives the places of removed routes back, when no program can be at them and no
// request in flight names them.
func (ls *Lanes) rest(b *learned.Book, resting []*learned.Name) {
	failed := ls.node.Barrier.Wait() != nil
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if b != ls.node.Book {
		return // nobody uses those places any more
	}
	used := make(map[uint32]bool)
	use := func(_ uint64, f lane.Flight) bool {
		used[f.Route] = true
		return true
	}
	for l := range ls.live {
		l.Book.Memory.InFlight(l.Number, use)
	}
	for number := range ls.left {
		b.Memory.InFlight(number, use)
	}
	b.Rested(resting, func(place uint32) bool { return failed || used[place] })
}
