package lane

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/left"
	"github.com/dubway/dubway/l7proxy/lane/outlet"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// ErrNotLeft says that a lane is this proxy's own, or nobody's.
var ErrNotLeft = errors.New("nobody has left that lane")

// Why a lane that was left cannot be gone on with. What its consumer's connection carries
// nobody can tell then: it ends.
var (
	errInAnswer = errors.New("the proxy before this one died within an answer, or as it closed the lane")
	errInFrame  = errors.New("the proxy before this one died within a frame of the consumer's")
	errDeparted = errors.New("the consumer has gone")
)

// Left is a lane that a proxy before this one has left: its calls go on, and nobody reads
// what the programs leave to the proxy.
type Left struct {
	lane *Lane
	conn *sock.Conn
	skip int // bytes of a frame of which the proxy before this one had read a part
	base uint32
}

// Heir plans requests as the proxy before this one did. It is a *plan.Planner.
type Heir interface {
	Planner
	Edge(h codec.Header, body []byte) (*upstream.Edge, rpc.Why)
	// Forget drops what was remembered of requests.
	Forget()
}

// Inherit begins to take a lane that was left, before Settle: a Ride goes on with it by
// Adopt, or Drop gives it up. The connections, the consumer's first, are in the order of the
// message; on an error they stay the caller's.
func (ls *Lanes) Inherit(said *handoff.Lane, conns []*sock.Conn) (*Left, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.left[said.Number] || len(conns) != 1+len(said.Ends) {
		return nil, ErrNotLeft
	}
	at := &ls.book.Memory.Lanes[said.Number]
	state, err := ls.opts.Kernel.Ask(conns[0], lane.AskState, 0)
	if err != nil {
		return nil, err
	}
	skip, ok := lane.Behind(at.Course.Resume, at.Reading, state.Copied, ls.opts.MaxFrame)
	switch flags := atomic.LoadUint32(&at.Flags); {
	case flags&lane.Answers == 0 || flags&lane.Paused != 0:
		return nil, errInAnswer
	case state.Peer == 0:
		return nil, errDeparted
	case !ok:
		return nil, errInFrame
	}
	w := ls.book.Left(learned.Key{Workload: said.Workload, Original: said.Destination}, atomic.LoadUint32(&at.Class))
	l := &Lane{
		ls: ls, book: ls.book, way: w, number: said.Number, at: at, joined: true,
		wake: make(chan struct{}, 1), done: make(chan struct{}), looked: time.Now(), since: time.Now(),
	}
	for i, e := range said.Ends {
		if a := w.Ends[e.Number]; a.IsValid() && a != e.Address {
			_ = conns[1+i].Close() // it has another number by now
			continue
		}
		w.Ends[e.Number] = e.Address
		l.ends[e.Number] = &end{lane: l, number: e.Number, address: e.Address, conn: conns[1+i], done: make(chan struct{})}
	}
	delete(ls.left, said.Number)
	w.Lanes[l] = true
	ls.taking.Add(1)
	return &Left{lane: l, conn: conns[0], skip: skip, base: state.Copied}, nil
}

// Drop gives a lane up that was to be taken, and its connections.
func (ls *Lanes) Drop(left *Left) {
	defer ls.taking.Done()
	_ = left.conn.Reset()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, e := range left.lane.ends {
		if e != nil {
			e.hangUp()
		}
	}
	delete(left.lane.way.Lanes, left.lane)
	if left.lane.book == ls.book {
		ls.left[left.lane.number] = true
	}
}

// Adopt goes on with a lane that was left, before anything is read or written and before
// anybody else knows the host. Routes that lead where the heir's requests go stay as they are;
// others are removed, and learned anew. Catch comes next. Nil does nothing.
func (r *Ride) Adopt(from *Left, heir Heir) {
	if from == nil {
		return
	}
	l, ls := from.lane, from.lane.ls
	defer ls.taking.Done()
	l.ride = r
	r.base, r.ready, r.skip = from.base, true, from.skip
	ls.claim(l, heir)
	heir.Forget() // requests say more than the names
	ls.opts.Tally.Opened(l.number, r.source.Remote)
	r.conn.Divert(outlet.New(r.conn.TCP(), r.protocol.Frames, &gate{l}))
	r.mu.Lock()
	r.lane = l
	r.mu.Unlock()
	ls.mu.Lock()
	ls.live[l] = true
	atomic.StoreUint32(&l.at.Class, l.way.Class)
	ends := l.ends
	for k, e := range ends {
		if e == nil {
			atomic.StoreUint32(&l.at.Ends[k].Flags, 0)
			continue
		}
		e.active = l.book.Actives.Keep(e.address, l.at.Ends[k].Endpoint)
		atomic.StoreUint32(&l.at.Ends[k].Endpoint, e.active)
	}
	if !ls.On() {
		l.quit(tally.Off)
	}
	ls.mu.Unlock()
	for _, e := range ends {
		if e != nil {
			go e.adopt()
		}
	}
	go l.keepOn(ends)
}

// Catch reads past the frame of which the proxy before this one had read a part, and tells
// whether there was one: whether a lane was adopted. Where the frame's rest does not come the
// connection ends.
func (r *Ride) Catch() bool {
	if !r.Busy() {
		return false
	}
	if pass(r.conn, r.skip) != nil {
		_ = r.conn.Reset()
		return true
	}
	seq := r.base + r.conn.Taken() - uint32(len(r.conn.Bytes()))
	r.place.Store(seq)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lane != nil {
		r.lane.at.Course.Start(seq)
	}
	return true
}

// pass reads past n bytes.
func pass(c *sock.Conn, n int) error {
	for n > 0 {
		if err := c.Fill(); err != nil {
			return err
		}
		some := min(n, len(c.Bytes()))
		c.Discard(some)
		n -= some
	}
	return nil
}

// keepOn is keep of a lane that was adopted. What is in flight at ends that are gone is
// refused, and those to which the short cut is not open any more are closed.
func (l *Lane) keepOn(ends [lane.Ends]*end) {
	_ = l.ls.barrier.Wait()
	l.each(func(_ uint64, f lane.Flight) bool {
		return f.End >= lane.Ends || ends[f.End] == nil
	}, func(f *exchange.Flight) { l.decline(f, rpc.WhyUpstreamClosed) })
	go l.prove(ends)
	l.keep()
}

func (l *Lane) prove(ends [lane.Ends]*end) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	for _, e := range ends {
		if e != nil && !l.ls.opts.Dialer.Near(ctx, l.way.Key.Workload, e.address) {
			l.ls.Leave(l.way.Key.Workload, e.address)
		}
	}
}

// adopt is run of an end that was left.
func (e *end) adopt() {
	at, options := e.lane.at, &e.lane.ls.opts
	state, err := options.Kernel.Ask(e.conn, lane.AskState, 0)
	reading := lane.At(atomic.LoadUint32(&at.EndsReading[e.number]))
	skip, ok := lane.Behind(atomic.LoadUint64(&at.Ends[e.number].Course.Resume), reading, state.Copied, options.MaxFrame)
	e.base = state.Copied
	if err != nil || !ok || pass(e.conn, skip) != nil {
		e.hangUp() // or where its next answer begins nobody can tell
	} else {
		at.Ends[e.number].Course.Start(e.base + e.conn.Taken() - uint32(len(e.conn.Bytes())))
	}
	if !e.take() {
		e.hangUp()
	}
	e.run()
}

// claim finds whose the routes of a lane that was left are.
func (ls *Lanes) claim(l *Lane, heir Heir) {
	for place := range left.Routes(l.book.Memory, l.number) {
		ls.mu.Lock()
		known := l.book.Name(place) != nil
		ls.mu.Unlock()
		if known {
			continue
		}
		found := learned.Found{Place: place, Asked: learned.Asked{Now: time.Now()}}
		a := &found.Asked
		a.Header, a.Body = left.Request(&l.book.Memory.Routes[place])
		var state codec.State
		if a.Prefix, state = l.ride.protocol.Requests.Prefix(a.Header, a.Body); state != codec.Complete {
			continue // Settle removes it
		}
		found.Rest, _ = heir.Edge(a.Header, a.Body)
		found.Verdict = heir.Lane(a.Header, a.Body)
		ls.mu.Lock()
		l.book.Own(l.way, &found, ls.tapped())
		ls.mu.Unlock()
	}
}

// Settle ends what a proxy before this one has left and nobody has taken. It returns at
// once, and does so when those are done who are taking.
func (ls *Lanes) Settle() {
	go func() {
		ls.taking.Wait()
		ls.settle()
	}()
}

func (ls *Lanes) settle() {
	ls.mu.Lock()
	b, gone := ls.book, ls.left
	if b == nil {
		ls.mu.Unlock()
		return
	}
	for number := range gone {
		left.Clear(b.Memory, number)
	}
	b.Settle()
	ls.mu.Unlock()
	if len(gone) == 0 || ls.barrier.Wait() != nil {
		return // their numbers stay unused
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if b != ls.book {
		return
	}
	for number := range gone {
		left.Forget(b.Memory, number)
		ls.free = append(ls.free, number)
	}
	ls.left = nil
	b.Actives.Rest(b.Memory.Active)
}
