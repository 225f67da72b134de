package upstream

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/pending"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/waiting"
)

// state is the life of a Conn, in order.
type state uint8

const (
	connecting state = iota
	open
	retiring // takes no new requests, closes when the last one is answered
	closed
)

// Conn is one connection to a provider.
type Conn struct {
	group *Group
	bulk  bool // carries one request at a time; it is in a lot

	mu        sync.Mutex
	ready     sync.Cond // left connecting
	state     state
	retired   bool          // before it was open
	excused   bool          // its end is not held against the endpoint
	answered  bool          // bulk: since it was parked
	uploading bool          // bulk: the request is not complete
	since     time.Time     // open
	until     time.Time     // its ends are who they are; zero: for ever
	number    atomic.Uint64 // from 1, once it is open
	sock      *sock.Conn
	sameNode  bool
	slots     pending.Table[exchange.Flight]
	serve     serial // the one in flight, where ids stay their consumers'
	kept      int    // bytes of the requests that are kept
	timed     int    // requests that have a deadline
	swept     bool   // the clock knows of them
	early     waiting.Line
	use       use

	beat    beat
	answers answers // of the reader
}

// Send assigns ids to the requests and writes them with as few writes as
// possible. From then on each of them is answered exactly once through its
// owner, unless it is one-way. False means that the connection takes no more
// requests and none was taken.
func (c *Conn) Send(owner Owner, requests []exchange.Request, spans [][]byte) bool {
	c.mu.Lock()
	for c.state == connecting && c.early.Full() {
		c.ready.Wait()
	}
	if !c.use.Use(owner, requests[0].Edge) {
		c.mu.Unlock()
		return false
	}
	switch c.state {
	case connecting:
		clock := c.keep(owner, requests)
		c.mu.Unlock()
		if clock {
			c.group.pool.deadlines.Add(c)
		}
		return true
	case retiring, closed:
		c.mu.Unlock()
		return false
	case open:
	}
	now := time.Now()
	full, clock := c.assign(owner, requests, now)
	sameNode := c.sameNode
	c.mu.Unlock()
	if clock {
		c.group.pool.deadlines.Add(c)
	}

	if full < len(requests) {
		spans = exchange.Overflow(owner, requests, full, sameNode)
	}
	if len(spans) > 0 && c.sock.Send(spans...) != nil {
		// The reader sees the end of the connection too and settles what is in
		// the slots; one-way requests end here, like on a broken direct one.
		c.Close()
		return true
	}
	c.sentOneWay(requests[:full], sameNode)
	return true
}

// assign gives ids to requests until the slots are full, and returns how many
// got one, and whether the clock must be told of a deadline. The caller locks.
func (c *Conn) assign(owner exchange.Consumer, requests []exchange.Request, now time.Time) (n int, clock bool) {
	for i := range requests {
		r := &requests[i]
		if r.OneWay {
			continue
		}
		f := exchange.FlightOf(owner, r, now)
		f.Kept = c.keepCopy(r)
		if !f.Due.IsZero() {
			clock = c.timing() || clock
		}
		id, ok := c.slots.Take(f)
		if !ok {
			c.uncount(&f)
			return i, clock
		}
		if !r.Begun {
			r.Edge.Endpoint.Begin()
		}
		c.serve = serial{slot: id, id: r.ID}
		r.PutID(id)
	}
	return len(requests), clock
}

// sentOneWay records one-way requests: nothing comes back, so they end here.
func (c *Conn) sentOneWay(requests []exchange.Request, sameNode bool) {
	for i := range requests {
		if requests[i].OneWay {
			requests[i].Sent(sameNode)
			c.free()
		}
	}
}

// keep copies requests until there is a connection, and returns whether the clock
// must be told of a deadline. The caller locks.
func (c *Conn) keep(owner Owner, requests []exchange.Request) (clock bool) {
	for range c.early.Keep(owner, requests) {
		clock = c.timing() || clock
	}
	return clock
}

// takeEarly returns what waits for the connection, and forgets it. The caller locks.
func (c *Conn) takeEarly() []waiting.Request {
	early, timed := c.early.Take()
	c.timed -= timed
	return early
}

// run connects, serves and ends the connection.
func (c *Conn) run(ctx context.Context, client netip.AddrPort) {
	way, err := c.group.pool.dialer.Dial(ctx, c.group.key, client)
	var s *sock.Conn
	if err == nil {
		s, err = sock.Open(way.TCP, way.Secured)
	}
	c.group.dialled(err)
	if err != nil {
		c.failed(err)
		return
	}
	c.opened(s, way)
	c.read()
	c.Close()
	c.settle()
	c.part(true)
}

// opened sends what waited and lets others send.
func (c *Conn) opened(s *sock.Conn, way Way) {
	c.mu.Lock()
	c.sock, c.sameNode, c.since, c.until = s, way.SameNode, time.Now(), way.Until
	c.number.Store(c.group.pool.serial.Add(1))
	if c.state == closed {
		c.mu.Unlock()
		_ = s.Close()
		return
	}
	now := time.Now()
	early, clock := c.takeEarly(), false
	spans := make([][]byte, 0, len(early))
	requests := make([]exchange.Request, len(early))
	for i := range early {
		requests[i] = early[i].Request
		_, tell := c.assign(early[i].Owner, requests[i:i+1], now)
		clock = clock || tell
		spans = append(spans, early[i].Frame)
	}
	// Whoever comes later queues behind what waited.
	_ = s.Acquire()
	c.state = open
	if c.retired {
		c.state = retiring
	}
	c.ready.Broadcast()
	c.mu.Unlock()
	if clock {
		c.group.pool.deadlines.Add(c)
	}
	// Not here: a provider that answers while it reads must be read meanwhile.
	go func() {
		var err error
		for _, b := range spans {
			if err == nil {
				err = s.Write(b)
			}
		}
		_ = s.Done(err)
		c.sentOneWay(requests, way.SameNode)
		c.endIdle()
	}()
}

// failed routes what waited anew.
func (c *Conn) failed(err error) {
	c.group.forget(c)
	// Before anybody is told: what waited is routed without this connection.
	c.part(false)
	c.mu.Lock()
	c.state = closed
	early := c.takeEarly()
	c.ready.Broadcast()
	c.mu.Unlock()
	for _, r := range early {
		r.End()
		r.Attempt++
		r.Unmade = rpc.WhyOf(err)
		// Each by itself: an owner may be busy, and the others must not wait.
		c.group.pool.begin(func() { r.Owner.Again(r.Request) })
	}
}

// Retire lets the connection end when its last request is answered. The consumer
// connection whose alone it is ends with it.
func (c *Conn) Retire() {
	c.group.replace(c, nil)
	c.mu.Lock()
	if c.state == open {
		c.state = retiring
	}
	c.retired = true
	c.mu.Unlock()
	c.part(true)
	c.endIdle()
}

// endIdle ends a retiring connection without requests in flight. What was
// queued, like one-way requests, is written first.
func (c *Conn) endIdle() {
	c.mu.Lock()
	s := c.sock
	c.mu.Unlock()
	if s != nil && c.finished() {
		go c.end(s)
	}
}

// end closes the connection behind what was sent.
func (c *Conn) end(s *sock.Conn) {
	s.Drained()
	c.Close()
}

// Close ends the connection; its reader then settles what is pending.
func (c *Conn) Close() {
	c.group.forget(c)
	c.mu.Lock()
	s := c.sock
	c.state = closed
	c.ready.Broadcast()
	c.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// settle answers every request whose answer can no longer come.
func (c *Conn) settle() {
	c.mu.Lock()
	left := c.leave(func(*exchange.Flight) bool { return true })
	early := c.takeEarly() // closed while it was connecting
	loss := herald.Loss{Excused: c.retired || c.excused || c.group.pool.ctx.Err() != nil}
	c.mu.Unlock()
	for i := range early {
		early[i].Refuse(rpc.WhyUpstreamClosed)
	}
	now := time.Now()
	for i := range left {
		loss.End(left[i].Edge.Endpoint)
		c.lost(&left[i], rpc.WhyUpstreamClosed, now)
	}
}

// Abandon forgets the requests of an owner that has gone.
func (c *Conn) Abandon(owner Owner) {
	c.mu.Lock()
	left := c.leave(func(f *exchange.Flight) bool { return f.Owner == owner })
	c.mu.Unlock()
	for i := range left {
		left[i].Edge.Endpoint.End(rpc.OutcomeNone)
		left[i].Gone(c.sameNode)
	}
	owner.Settled(len(left))
	if c.bulk && len(left) > 0 {
		c.Close() // nobody waits for its answer, which would have parked it
	}
}

// give returns the request that an answer belongs to.
func (c *Conn) give(h codec.Header) (exchange.Flight, bool) {
	c.mu.Lock()
	s, ok := c.slots.Give(c.slot(h.ID))
	c.answered = c.answered || ok
	c.uncount(&s)
	c.mu.Unlock()
	if ok {
		s.Edge.Endpoint.End(c.protocol().Answers.Outcome(h.Status))
	}
	return s, ok
}

// slot is where the request is that an answer with an id belongs to. The caller locks.
func (c *Conn) slot(id uint64) uint64 {
	switch {
	case !c.protocol().Serial:
		return id
	case id == c.serve.id:
		return c.serve.slot
	}
	return pending.Unused
}

// serial is the request in flight on a connection that carries one at a time.
type serial struct{ slot, id uint64 }

func (c *Conn) protocol() *codec.Protocol { return c.group.key.Protocol }

// leave takes requests out of the slots. The caller locks.
func (c *Conn) leave(mine func(*exchange.Flight) bool) []exchange.Flight {
	left := c.slots.Leave(mine)
	for i := range left {
		c.uncount(&left[i])
	}
	return left
}

// lived tells whether the connection was made, and for how long.
func (c *Conn) lived() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.since), c.sock != nil
}

// excuse says that the connection's end will not be the provider's doing.
func (c *Conn) excuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.excused = true
}
