package life

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/tally"
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
	// short cut, has no memory or stops, and that of one which calls its consumers.
	shortcut  = 5 * time.Second
	misbehave = 10 * time.Minute
)

var (
	errUnread = errors.New("the consumer has not read what was written to it")
	errNobody = errors.New("no provider can be reached by the short cut")
)

// Lane is one lane: what it is made of, and the goroutine that keeps it.
type Lane struct {
	Number uint32
	Way    *learned.Way  // guarded by Node.Mu
	Book   *learned.Book // that of Way, the same

	node     *Node
	consumer Consumer
	at       *lane.Lane
	wake     chan struct{}         // a token: something has changed
	done     chan struct{}         // closed when it has ended
	well     bool                  // it has lived as it should; readable behind done
	drawn    map[uint64]lane.Drawn // by id, when it ended; likewise

	// Of Keep.
	joined bool // answers go by it
	told   told // what the agent keeps
	still  bool // it is leaving, and no program sees it open

	// Node.Mu guards the rest.
	ends    [lane.Ends]*end
	since   time.Time // open
	leaving bool
	why     tally.Reason
	gone    bool // the consumer's connection
	counted uint64
	looked  time.Time // of counted
	expires bool      // what is late is being refused
}

// New makes a lane of a number for requests that go a way. Node.Mu is held. Keep comes next.
func New(n *Node, c Consumer, w *learned.Way, number uint32) *Lane {
	l := &Lane{
		Number: number, Way: w, Book: n.Book, node: n, consumer: c, at: &n.Book.Memory.Lanes[number],
		wake: make(chan struct{}, 1), done: make(chan struct{}), looked: time.Now(),
	}
	w.Lanes[l] = true
	return l
}

// Nudge makes Keep look. It never waits.
func (l *Lane) Nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Quit makes the lane end behind what is in flight. Node.Mu is held.
func (l *Lane) Quit(why tally.Reason) {
	if !l.leaving {
		l.leaving, l.why = true, why
	}
	l.clear(lane.Requests)
	l.Nudge()
}

// Has is part of learned.Lane. Node.Mu is held.
func (l *Lane) Has(k int) bool { return l.ends[k] != nil }

func (l *Lane) set(flags uint32)   { atomic.OrUint32(&l.at.Flags, flags) }
func (l *Lane) clear(flags uint32) { atomic.AndUint32(&l.at.Flags, ^flags) }

// Keep is the life of the lane, from its beginning until it has ended.
func (l *Lane) Keep() {
	var err error
	if !l.joined {
		err = l.open()
	}
	for err == nil && !l.over() {
		l.follow()
		l.tell()
		l.pause()
	}
	if l.joined {
		err = l.close()
	}
	l.end(err)
}

// Leave is Quit of who does not hold Node.Mu.
func (l *Lane) Leave(why tally.Reason) {
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	l.Quit(why)
}

// Lose ends the lane of a consumer whose connection is closed: nobody waits for what is in
// flight.
func (l *Lane) Lose() {
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	l.gone = true
	l.Quit(tally.Consumer)
}

// Done is closed when the lane has ended, and everything that was in flight is recorded.
func (l *Lane) Done() <-chan struct{} { return l.done }

// Well tells of a lane that has ended whether it has lived as it should.
func (l *Lane) Well() bool { return l.well }

// Requested is how many requests have taken the lane.
func (l *Lane) Requested() uint64 { return atomic.LoadUint64(&l.at.Requested) }

// is reads what Node.Mu guards.
func (l *Lane) is(so *bool) bool {
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
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
	l.node.Mu.Lock()
	leaving, gone := l.leaving, l.gone
	l.node.Mu.Unlock()
	if !leaving || gone {
		return gone
	}
	if !l.still {
		l.clear(lane.Requests)
		l.still = l.node.Barrier.Wait() == nil
	}
	return l.still && !l.flying(nil)
}

// Tick is the clock's look. Node.Mu is held.
func (l *Lane) Tick(now time.Time, logged bool) {
	if l.since.IsZero() {
		return
	}
	if logged {
		l.set(lane.Logged)
	} else {
		l.clear(lane.Logged)
	}
	if limit := l.Way.Timed; limit > 0 && !l.expires {
		last := time.Duration(l.node.Kernel.Now() - atomic.LoadUint64(&l.at.Last))
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
			l.Quit(tally.Idle)
		}
		l.counted, l.looked = n, now
	}
}
