package lane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// When a connection is worth a lane: so many requests in a second, or in flight. And how
// long a connection waits after a lane that could not be opened, at first and at most.
const (
	worthRate   = 16
	worthFlying = 8
	firstWait   = time.Second
	longestWait = 30 * time.Second
	skipped     = -12 // in place of 0, when a name was left to the proxy: who asks locks out others
)

// Host is the connection whose requests may take a lane.
type Host interface {
	exchange.Consumer
	// Asked says that one more request is pending, which Settled or Refuse ends.
	Asked()
	// Flying is how many requests are pending.
	Flying() int64
}

// Planner says whether requests like the one that it planned last may take a lane.
type Planner interface {
	Lane(h codec.Header, body []byte) verdict.Verdict
}

// Ride is a consumer connection's part in lanes. Its methods are the reading goroutine's,
// but for Moved.
type Ride struct {
	lanes    *Lanes // nil: it can have none
	host     Host
	conn     *sock.Conn
	protocol *codec.Protocol
	source   *plan.Source

	window time.Time // since when requests are counted
	came   int
	next   time.Time // when another lane may be tried
	waits  time.Duration
	ready  bool          // base is known
	base   uint32        // sequence number of the connection's first byte
	place  atomic.Uint32 // sequence number of the next frame
	moved  uint64        // requests of the lane, of Moved

	mu    sync.Mutex
	lane  *Lane                 // nil: none
	well  bool                  // the last one ended as it should
	drawn map[uint64]lane.Drawn // of the last one, by id
}

// Init makes r the part of a host, whose requests come by conn.
func (r *Ride) Init(ls *Lanes, h Host, conn *sock.Conn, source *plan.Source) {
	r.lanes, r.host, r.conn, r.source = ls, h, conn, source
}

// Speak says what the connection speaks. Only requests of Dubbo take a lane, and where
// they leave their consumer.
func (r *Ride) Speak(p *codec.Protocol) {
	if r.protocol = p; p == nil || p.Name != rpc.ProtocolDubbo || r.source.Inbound {
		r.lanes = nil
	}
}

// Came looks at a request that came by the proxy, behind its plan: others like it may take
// a lane, and the connection may be worth one.
func (r *Ride) Came(p Planner, h codec.Header, frame []byte) {
	if !r.lanes.On() || !h.TwoWay() {
		return
	}
	now := time.Now()
	if r.get() == nil && !r.worth(now) {
		return
	}
	a := learned.Asked{Header: h, Body: frame[h.Head:], Now: now}
	var state codec.State
	if a.Prefix, state = r.protocol.Requests.Prefix(h, a.Body); state != codec.Complete || a.Prefix.Generic {
		return
	}
	if !r.lanes.learn(p, r.key(), &a) {
		r.came = skipped // another name may be worth one
		return
	}
	if r.get() == nil && !now.Before(r.next) {
		r.begin()
		r.next = now.Add(r.wait())
	}
}

// key is whose requests the connection's are like.
func (r *Ride) key() learned.Key {
	return learned.Key{Workload: r.source.Workload.UID, Original: r.source.Original}
}

// learn finds what becomes of requests like one that came by the proxy. It tells whether
// they may take a lane.
func (ls *Lanes) learn(p Planner, key learned.Key, a *learned.Asked) bool {
	ls.mu.Lock()
	b := ls.book
	if b == nil {
		ls.mu.Unlock()
		return false
	}
	placed, known := b.Known(key, a)
	ls.mu.Unlock()
	if known {
		return placed
	}
	v := p.Lane(a.Header, a.Body)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.On() && b == ls.book && b.Learn(key, a, &v, ls.tapped())
}

// target is that of what was drawn for a request.
func (ls *Lanes) target(key learned.Key, a *learned.Asked, d lane.Drawn) int {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.book == nil {
		return 0
	}
	return ls.book.Target(key, a, d)
}

// wait is how long to wait after a try that fails.
func (r *Ride) wait() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waits = min(2*r.waits, longestWait); r.well || r.waits == 0 {
		r.waits = firstWait
	}
	r.well = false
	return r.waits
}

// worth tells whether a connection without a lane should have one.
func (r *Ride) worth(now time.Time) bool {
	if now.Sub(r.window) > time.Second {
		r.window, r.came = now, 0
	}
	r.came++
	return r.came >= worthRate || r.came > 0 && r.host.Flying() >= worthFlying
}

// Worth counts a request, and tells whether the connection is worth a lane.
func (r *Ride) Worth() bool { return r.worth(time.Now()) }

// begin opens a lane, if the kernel knows the consumer's socket.
func (r *Ride) begin() {
	if !r.ready {
		state, err := r.lanes.opts.Kernel.Ask(r.conn, lane.AskState, 0)
		if err != nil || state.Peer == 0 {
			return
		}
		r.base, r.ready = state.Copied-r.conn.Taken(), true
	}
	l := r.lanes.begin(r)
	r.mu.Lock()
	r.lane = l
	r.mu.Unlock()
	if l != nil {
		go l.keep()
	}
}

// Read says that the first bytes that are buffered, whole frames, are going to be discarded.
func (r *Ride) Read(used int) {
	if !r.ready {
		return
	}
	seq := r.base + r.conn.Taken() - uint32(len(r.conn.Bytes()))
	r.place.Store(seq + uint32(used))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lane != nil {
		r.lane.at.Course.Follow(seq, r.conn.Bytes()[:used])
	}
}

func (r *Ride) get() *Lane {
	if !r.ready {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lane
}

// Busy tells whether there is a lane.
func (r *Ride) Busy() bool { return r.get() != nil }

// Moved tells whether requests have taken the lane since it was called last. It is one
// goroutine's, under the lock of those that plan.
func (r *Ride) Moved() bool {
	l := r.get()
	if l == nil {
		return false
	}
	n := atomic.LoadUint64(&l.at.Requested)
	moved := n != r.moved
	r.moved = n
	return moved
}

// Drawn is what the lane's programs drew for a request that they left to the proxy: whether it
// is to have a span, and the target of its route, from 1 on, to which it is to go; 0: none was
// drawn. It is asked once for each.
func (r *Ride) Drawn(h codec.Header, body []byte) (span bool, target int) {
	if !r.ready {
		return false, 0
	}
	r.mu.Lock()
	d := r.drawn[h.ID]
	if r.lane != nil {
		d = r.lane.book.Memory.Drawn(r.lane.number, h.ID)
	}
	r.mu.Unlock()
	if _, led := d.Share(); led {
		a := learned.Asked{Header: h, Body: body}
		a.Prefix, _ = r.protocol.Requests.Prefix(h, body)
		target = r.lanes.target(r.key(), &a, d)
	}
	return d.Span(), target
}

// Leave ends the lane behind what is in flight. The connection goes on.
func (r *Ride) Leave() {
	if l := r.get(); l != nil {
		r.leave(l, tally.Draining)
	}
}

func (r *Ride) leave(l *Lane, why tally.Reason) {
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	l.quit(why)
}

// Finish waits for what is in flight of a consumer that sends no more, as long as it is
// there and limit is not over.
func (r *Ride) Finish(limit time.Duration) {
	l := r.get()
	if l == nil {
		return
	}
	r.leave(l, tally.Consumer)
	t := time.NewTicker(every)
	defer t.Stop()
	for end := time.Now().Add(limit); r.conn.Err() == nil && time.Now().Before(end); {
		select {
		case <-l.done:
			return
		case <-t.C:
		}
	}
}

// End ends the lane of a connection that is closed, and returns when everything that was
// in flight has been recorded.
func (r *Ride) End() {
	l := r.get()
	if l == nil {
		return
	}
	l.ls.mu.Lock()
	l.gone = true
	l.quit(tally.Consumer)
	l.ls.mu.Unlock()
	<-l.done
}
