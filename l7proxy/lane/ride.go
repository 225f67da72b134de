package lane

import (
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/life"
	"github.com/dubway/dubway/l7proxy/lane/observed"
	"github.com/dubway/dubway/l7proxy/lane/position"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/router"
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
	life.Host
	// Flying is how many requests are pending.
	Flying() int64
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
	moved  uint64 // requests of the lane, of Moved
	seen   observed.Seen
	skip   int // of Catch

	position *position.Position        // nil: it is not known
	lane     atomic.Pointer[life.Lane] // the last one, which may have ended
}

// Init makes r the part of a host, whose requests come by conn.
func (r *Ride) Init(ls *Lanes, h Host, conn *sock.Conn, source *plan.Source) {
	r.lanes, r.host, r.conn, r.source = ls, h, conn, source
	if ls != nil {
		r.seen.Init(&ls.Observer, source, r)
	}
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
func (r *Ride) Came(p learned.Planner, h codec.Header, frame []byte) {
	r.seen.Came(p, r.protocol, h, frame)
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
	if !r.lanes.node.Learn(p, r.key(), &a, r.lanes.closed) {
		r.came = skipped // another name may be worth one
		return
	}
	if r.get() == nil && !now.Before(r.next) {
		r.begin(now)
	}
}

// key is whose requests the connection's are like.
func (r *Ride) key() learned.Key {
	return learned.Key{Workload: r.source.Workload.UID, Original: r.source.Original}
}

// drawn is what was drawn for a request.
func (ls *Lanes) drawn(key learned.Key, a *learned.Asked, d lane.Drawn) router.Lead {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if ls.node.Book == nil {
		return router.Lead{Span: d.Span()}
	}
	return ls.node.Book.Drawn(key, a, d)
}

// closed tells whether no request may take a lane now.
func (ls *Lanes) closed() bool { return !ls.On() || ls.tapped() }

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

// begin opens a lane, if the kernel knows the consumer's socket. Where it fails the next
// begins later and later.
func (r *Ride) begin(now time.Time) {
	last := r.lane.Load()
	if r.waits = min(2*r.waits, longestWait); r.waits == 0 || last != nil && last.Well() {
		r.waits = firstWait
	}
	r.next = now.Add(r.waits)
	if r.position == nil {
		state, err := r.lanes.node.Kernel.Ask(r.conn, lane.AskState, 0)
		if err != nil || state.Peer == 0 {
			return
		}
		r.position = position.New(r.conn, r.protocol.Frames, state.Copied)
	}
	l := r.lanes.begin(r)
	r.lane.Store(l)
	if l != nil {
		go l.Keep()
	}
}

// consumer is what a lane needs of the connection.
func (r *Ride) consumer() life.Consumer {
	return life.Consumer{Host: r.host, Conn: r.conn, Protocol: r.protocol, Source: r.source, Position: r.position}
}

// Got says that bytes were read from the connection.
func (r *Ride) Got() { r.position.Got() }

// Read says that the first bytes that are buffered, whole frames, are going to be discarded.
func (r *Ride) Read(used int) { r.position.Read(used) }

// get returns the lane; nil: there is none.
func (r *Ride) get() *life.Lane {
	l := r.lane.Load()
	if l == nil {
		return nil
	}
	select {
	case <-l.Done():
		return nil
	default:
		return l
	}
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
	n := l.Requested()
	moved := n != r.moved
	r.moved = n
	return moved
}

// Drawn is what the lane's programs drew for a request that they left to the proxy. It is asked
// once for each.
func (r *Ride) Drawn(h codec.Header, body []byte) router.Lead {
	l := r.lane.Load()
	if l == nil {
		return router.Lead{}
	}
	d := l.Drawn(h.ID)
	if _, led := d.Share(); !led {
		return router.Lead{Span: d.Span()}
	}
	a := learned.Asked{Header: h, Body: body}
	var state codec.State
	if a.Prefix, state = r.protocol.Requests.Prefix(h, body); state != codec.Complete {
		return router.Lead{Span: d.Span()}
	}
	return r.lanes.drawn(r.key(), &a, d)
}

// Leave ends the lane behind what is in flight. The connection goes on.
func (r *Ride) Leave() {
	if l := r.get(); l != nil {
		l.Leave(tally.Draining)
	}
}

// Finish waits for what is in flight of a consumer that sends no more, as long as it is
// there and limit is not over.
func (r *Ride) Finish(limit time.Duration) {
	l := r.get()
	if l == nil {
		return
	}
	l.Leave(tally.Consumer)
	t := time.NewTicker(every)
	defer t.Stop()
	for end := time.Now().Add(limit); r.conn.Err() == nil && time.Now().Before(end); {
		select {
		case <-l.Done():
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
	l.Lose()
	<-l.Done()
}
