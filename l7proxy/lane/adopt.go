package lane

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/left"
	"github.com/dubway/dubway/l7proxy/lane/life"
	"github.com/dubway/dubway/l7proxy/lane/position"
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
	lane   *life.Lane
	conn   *sock.Conn
	skip   int    // bytes of a frame of which the proxy before this one had read a part
	copied uint32 // sequence number of the byte that is read first
}

// Heir plans requests as the proxy before this one did. It is a *plan.Planner.
type Heir interface {
	learned.Planner
	Edge(h codec.Header, body []byte) (*upstream.Edge, rpc.Why)
	// Forget drops what was remembered of requests.
	Forget()
}

// Inherit begins to take a lane that was left, before Settle: a Ride goes on with it by
// Adopt, or Drop gives it up. The connections, the consumer's first, are in the order of the
// message; on an error they stay the caller's.
func (ls *Lanes) Inherit(said *handoff.Lane, conns []*sock.Conn) (*Left, error) {
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if !ls.left[said.Number] || len(conns) != 1+len(said.Ends) {
		return nil, ErrNotLeft
	}
	at := &ls.node.Book.Memory.Lanes[said.Number]
	state, err := ls.node.Kernel.Ask(conns[0], lane.AskState, 0)
	if err != nil {
		return nil, err
	}
	skip, ok := lane.Behind(at.Course.Resume, at.Reading, state.Copied, ls.node.MaxFrame)
	switch flags := atomic.LoadUint32(&at.Flags); {
	case flags&lane.Answers == 0 || flags&lane.Paused != 0:
		return nil, errInAnswer
	case state.Peer == 0:
		return nil, errDeparted
	case !ok:
		return nil, errInFrame
	}
	w := ls.node.Book.Left(learned.Key{Workload: said.Workload, Original: said.Destination}, atomic.LoadUint32(&at.Class))
	l := life.Left(&ls.node, w, said, conns[1:])
	delete(ls.left, said.Number)
	ls.taking.Add(1)
	return &Left{lane: l, conn: conns[0], skip: skip, copied: state.Copied}, nil
}

// Drop gives a lane up that was to be taken, and its connections.
func (ls *Lanes) Drop(left *Left) {
	defer ls.taking.Done()
	_ = left.conn.Reset()
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	left.lane.Drop()
	if left.lane.Book == ls.node.Book {
		ls.left[left.lane.Number] = true
	}
}

// Adopt goes on with a lane that was left, before anything is read or written and before
// anybody else knows the host. Routes that lead where the heir's requests go stay as they are;
// others are removed, and learned anew. Catch comes next. Nil does nothing.
func (r *Ride) Adopt(from *Left, heir Heir) {
	if from == nil {
		return
	}
	l, ls := from.lane, r.lanes
	defer ls.taking.Done()
	r.skip = from.skip
	r.position = position.New(r.conn, r.protocol.Frames, from.copied)
	ls.claim(l, r.protocol, heir)
	heir.Forget() // requests say more than the names
	l.Adopt(r.consumer())
	r.lane.Store(l)
	ls.node.Mu.Lock()
	ls.live[l] = true
	if !ls.On() || l.Book != ls.node.Book {
		l.Quit(tally.Off)
	}
	ls.node.Mu.Unlock()
	go l.KeepOn()
}

// Catch reads past the frame of which the proxy before this one had read a part, and tells
// whether there was one: whether a lane was adopted. Where the frame's rest does not come the
// connection ends.
func (r *Ride) Catch() bool {
	if r.position == nil {
		return false
	}
	if _, err := r.conn.Pump(sock.Nowhere{}, r.skip); err != nil {
		_ = r.conn.Reset()
		return true
	}
	r.position.Here()
	return true
}

// claim finds whose the routes of a lane that was left are.
func (ls *Lanes) claim(l *life.Lane, p *codec.Protocol, heir Heir) {
	for place := range left.Routes(l.Book.Memory, l.Number) {
		ls.node.Mu.Lock()
		known := l.Book.Name(place) != nil
		ls.node.Mu.Unlock()
		if known {
			continue
		}
		found := learned.Found{Place: place, Asked: learned.Asked{Now: time.Now()}}
		a := &found.Asked
		a.Header, a.Body = left.Request(&l.Book.Memory.Routes[place])
		var state codec.State
		if a.Prefix, state = p.Requests.Prefix(a.Header, a.Body); state != codec.Complete {
			continue // Settle removes it
		}
		found.Rest, _ = heir.Edge(a.Header, a.Body)
		found.Verdict = heir.Lane(a.Header, a.Body)
		ls.node.Mu.Lock()
		l.Book.Own(l.Way, &found, ls.tapped())
		ls.node.Mu.Unlock()
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
	ls.node.Mu.Lock()
	b, gone := ls.node.Book, ls.left
	if b == nil {
		ls.node.Mu.Unlock()
		return
	}
	for number := range gone {
		left.Clear(b.Memory, number)
	}
	b.Settle()
	ls.node.Mu.Unlock()
	if len(gone) == 0 || ls.node.Barrier.Wait() != nil {
		return // their numbers stay unused
	}
	ls.node.Mu.Lock()
	defer ls.node.Mu.Unlock()
	if b != ls.node.Book {
		return
	}
	for number := range gone {
		left.Forget(b.Memory, number, b.Gone)
		ls.free = append(ls.free, number)
	}
	ls.left = nil
	b.Settled()
}
