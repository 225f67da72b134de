package lane

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/outlet"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// The times of a lane.
const (
	dialLimit   = 5 * time.Second
	unreadLimit = 500 * time.Millisecond // for the consumer to read what was written by TCP
	quietLimit  = 5 * time.Second        // for what is on its way to a consumer to arrive
	look        = 5 * time.Millisecond   // between two looks at the kernel
	flightsLook = 20 * time.Millisecond  // between two looks at what is in flight
	// So many requests for each provider, in so long, keep a lane. Nothing else is written to
	// providers, and one of dubbo-go ends a connection on which it has heard nothing for 60 s.
	idleAfter = 15 * time.Second
	idleRate  = 8
	// How long a provider's names are left to the proxy that could not be reached by the
	// short cut or stops, and that of one which calls its consumers.
	shortcut  = 5 * time.Second
	misbehave = 10 * time.Minute
)

var (
	errUnread = errors.New("the consumer has not read what was written to it")
	errNobody = errors.New("no provider can be reached by the short cut")
	errNoPeer = errors.New("the kernel does not know the application's socket")
)

// Lane is one lane: what it is made of, and the goroutine that keeps it.
type Lane struct {
	ls     *Lanes
	book   *learned.Book
	ride   *Ride
	way    *learned.Way
	number uint32
	at     *lane.Lane
	wake   chan struct{} // a token: something has changed
	done   chan struct{} // closed when it has ended
	joined bool          // answers go by it; of keep
	still  bool          // it is leaving, and no program sees it open; of keep

	// Lanes.mu guards the rest.
	ends    [lane.Ends]*end
	since   time.Time // open
	leaving bool
	why     tally.Reason
	gone    bool // the consumer's connection
	counted uint64
	looked  time.Time // of counted
	expires bool      // what is late is being refused
}

// begin makes a lane for a ride; nil: there is no number left, or nobody to call.
func (ls *Lanes) begin(r *Ride) *Lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.On() || ls.book == nil {
		return nil
	}
	w := ls.book.Of(r.key())
	if w.Wanted == 0 {
		return nil
	}
	number, ok := ls.number()
	if !ok {
		return nil
	}
	l := &Lane{
		ls: ls, book: ls.book, ride: r, way: w, number: number, at: &ls.book.Memory.Lanes[number],
		wake: make(chan struct{}, 1), done: make(chan struct{}), looked: time.Now(),
	}
	l.at.Course.Forget() // of the lane before
	ls.live[l], w.Lanes[l] = true, true
	return l
}

// Nudge makes keep look. It never waits.
func (l *Lane) Nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// quit makes the lane end behind what is in flight. Lanes.mu is held.
func (l *Lane) quit(why tally.Reason) {
	if !l.leaving {
		l.leaving, l.why = true, why
	}
	l.clear(lane.Requests)
	l.Nudge()
}

// Has is part of learned.Lane.
func (l *Lane) Has(k int) bool { return l.ends[k] != nil }

func (l *Lane) set(flags uint32)   { atomic.OrUint32(&l.at.Flags, flags) }
func (l *Lane) clear(flags uint32) { atomic.AndUint32(&l.at.Flags, ^flags) }

// keep is the life of a lane.
func (l *Lane) keep() {
	err := l.open()
	for err == nil && !l.over() {
		l.follow()
		l.pause()
	}
	if l.joined {
		err = l.close()
	}
	l.end(err)
}

// open connects to the providers, and joins the consumer.
func (l *Lane) open() error {
	ends := l.dial(l.missing())
	if len(ends) == 0 {
		return errNobody
	}
	if err := l.join(); err != nil {
		for _, e := range ends {
			_ = e.conn.Close()
		}
		return err
	}
	for _, e := range ends {
		l.bind(e)
	}
	return nil
}

// join makes the consumer read from the lane: everything that was written to it by TCP has
// been read, and from here on nothing is.
func (l *Lane) join() error {
	c, kernel := l.ride.conn, l.ls.opts.Kernel
	for end := time.Now().Add(unreadLimit); time.Now().Before(end); time.Sleep(look) {
		if err := c.Acquire(); err != nil {
			return err
		}
		state, err := kernel.Ask(c, lane.AskState, 0)
		if err == nil && state.Unread == 0 {
			if state, err = kernel.Ask(c, lane.AskBind, lane.Place(l.number, lane.Consumer)); err == nil {
				l.enter(state)
			}
			return errors.Join(err, c.Done(nil))
		}
		if err = errors.Join(err, c.Done(nil)); err != nil {
			return err
		}
	}
	return errUnread
}

// enter begins a lane whose consumer is bound. The write side of its connection is held.
func (l *Lane) enter(lane.State) {
	l.joined = true
	atomic.StoreUint32(&l.at.Class, l.way.Class)
	l.ls.opts.Tally.Opened(l.number, l.ride.source.Remote)
	l.ls.mu.Lock()
	l.since = time.Now()
	l.tick(l.since, l.ls.opts.Tally.Wants()) // the clock would be late for the first calls
	l.ls.mu.Unlock()
	l.set(lane.Answers)
	l.ride.conn.Divert(outlet.New(l.ride.conn.TCP(), l.ride.protocol.Frames, &gate{l}))
	l.ride.mu.Lock()
	defer l.ride.mu.Unlock()
	l.at.Course.Follow(l.ride.place.Load(), nil) // the reader goes on from there
}

// missing are the ends that names lead to and that are not there.
func (l *Lane) missing() []uint8 {
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	var all []uint8
	for k := range uint8(lane.Ends) {
		if l.way.Wanted&(1<<k) != 0 && l.ends[k] == nil {
			all = append(all, k)
		}
	}
	return all
}

// follow makes the lane what its names need: requests take it while it has every provider
// that a name leads to, lest those that it has get more than their share.
func (l *Lane) follow() {
	if missing := l.missing(); len(missing) > 0 && !l.is(&l.leaving) {
		l.clear(lane.Requests)
		for _, e := range l.dial(missing) {
			l.bind(e)
		}
	}
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	complete := l.way.Wanted != 0 && !l.leaving
	for k, e := range l.ends {
		if wanted := l.way.Wanted&(1<<k) != 0; wanted && (e == nil || e.shut) {
			complete = false
		}
	}
	if complete {
		l.set(lane.Requests)
	} else {
		l.clear(lane.Requests)
	}
}

// is reads what Lanes.mu guards.
func (l *Lane) is(so *bool) bool {
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	return *so
}

// pause waits until there may be something to do.
func (l *Lane) pause() {
	wait := time.Second
	if l.is(&l.leaving) {
		wait = flightsLook
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.wake:
	case <-t.C:
	}
}

// over tells whether a lane that is to end has nothing in flight.
func (l *Lane) over() bool {
	l.ls.mu.Lock()
	leaving, gone := l.leaving, l.gone
	l.ls.mu.Unlock()
	if !leaving || gone {
		return gone
	}
	if !l.still {
		l.clear(lane.Requests)
		l.still = l.ls.barrier.Wait() == nil
	}
	return l.still && !l.flying(nil)
}

// close ends a lane that was joined. What is in flight has been answered, unless the
// consumer has gone.
func (l *Lane) close() error {
	l.clear(lane.Requests)
	for k := range l.at.Ends {
		atomic.StoreUint32(&l.at.Ends[k].Flags, 0)
	}
	err := l.part()
	if err == nil {
		_, err = l.ls.opts.Kernel.Ask(l.ride.conn, lane.AskFree, lane.Place(l.number, 0))
	}
	atomic.StoreUint32(&l.at.Flags, 0)
	if l.is(&l.gone) {
		err = nil // nobody is left to ask
	} else if err != nil {
		_ = l.ride.conn.Reset() // in what order its bytes arrive nobody can say
	}
	return errors.Join(err, l.ls.barrier.Wait())
}

// part makes the consumer read from TCP again: what is on its way by the lane has arrived,
// and is read before anything that is written from here on.
func (l *Lane) part() error {
	c := l.ride.conn
	if err := c.Acquire(); err != nil {
		return err
	}
	err := (&gate{l}).Pause()
	if err == nil {
		c.Divert(nil)
		l.clear(lane.Answers | lane.Paused)
	}
	return errors.Join(err, c.Done(err))
}

// end gives back what the lane had. Err is why it did not live as it should.
func (l *Lane) end(err error) {
	l.sweep(nil, l.endWhy())
	l.ls.mu.Lock()
	var ends []*end
	for _, e := range l.ends {
		if e != nil {
			ends = append(ends, e)
		}
	}
	why, r := l.why, l.ride
	l.ls.mu.Unlock()
	for _, e := range ends {
		_ = e.conn.Close()
		<-e.done
	}
	r.mu.Lock()
	r.lane, r.well = nil, err == nil
	r.mu.Unlock()
	if err != nil {
		why = tally.Failed
		l.ls.stats.Failed.Add(1)
		l.ls.opts.Logger.Debug("no lane", "workload", l.way.Key.Workload, "destination", l.way.Key.Original, "error", err)
	}
	if l.joined {
		l.ls.opts.Tally.Closed(l.number, why)
	}
	l.ls.mu.Lock()
	delete(l.ls.live, l)
	delete(l.way.Lanes, l)
	if l.book == l.ls.book {
		l.ls.free = append(l.ls.free, l.number)
	}
	l.ls.mu.Unlock()
	close(l.done)
}

// endWhy is why what is left in flight at the end gets no answer.
func (l *Lane) endWhy() rpc.Why {
	if l.is(&l.gone) {
		return rpc.WhyDownstreamGone
	}
	return rpc.WhyUpstreamClosed
}

// tick is the clock's look. Lanes.mu is held.
func (l *Lane) tick(now time.Time, logged bool) {
	if l.since.IsZero() {
		return
	}
	if logged {
		l.set(lane.Logged)
	} else {
		l.clear(lane.Logged)
	}
	if limit := l.way.Timed; limit > 0 && !l.expires {
		last := time.Duration(l.ls.opts.Kernel.Now() - atomic.LoadUint64(&l.at.Last))
		if l.expires = last < limit+time.Second; l.expires { // or all of them are over
			go l.expire()
		}
	}
	if now.Sub(l.looked) >= idleAfter {
		n, ends := atomic.LoadUint64(&l.at.Requested), uint64(0)
		for _, e := range l.ends {
			if e != nil {
				ends++
			}
		}
		if n-l.counted < idleRate*max(ends, 1) {
			l.quit(tally.Idle)
		}
		l.counted, l.looked = n, now
	}
}

// dial connects to ends of a lane. Those that cannot be reached are left to the proxy for
// a while, with all names that lead there.
func (l *Lane) dial(numbers []uint8) []*end {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	var all []*end
	for _, k := range numbers {
		l.ls.mu.Lock()
		address := l.way.Ends[k]
		l.ls.mu.Unlock()
		c, err := l.ls.opts.Dialer.Lane(ctx, l.way.Key.Workload, address, l.ride.source.Remote)
		if err != nil {
			l.refuse(address, err)
			continue
		}
		all = append(all, &end{lane: l, number: k, address: address, conn: c, done: make(chan struct{})})
	}
	return all
}

func (l *Lane) refuse(address netip.AddrPort, err error) {
	l.ls.opts.Logger.Debug("no short cut for a lane", "workload", l.way.Key.Workload, "endpoint", address, "error", err)
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	l.book.Refuse(l.way, address, time.Now().Add(shortcut))
}
