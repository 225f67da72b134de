package life

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/position"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Left makes the lane that a proxy before this one has left, whose calls go on. The connections
// to its ends are the lane's from here on. Node.Mu is held. Adopt comes next, or Drop.
func Left(n *Node, w *learned.Way, said *handoff.Lane, conns []*sock.Conn) *Lane {
	l := New(n, Consumer{}, w, said.Number)
	l.joined, l.since = true, l.looked
	for i, e := range said.Ends {
		if a := w.Ends[e.Number]; a.IsValid() && a != e.Address {
			_ = conns[i].Close() // it has another number by now
			continue
		}
		w.Ends[e.Number] = e.Address
		l.ends[e.Number] = &end{lane: l, number: e.Number, address: e.Address, conn: conns[i], done: make(chan struct{})}
	}
	return l
}

// Drop gives a lane up that was left, and its connections to ends. Node.Mu is held.
func (l *Lane) Drop() {
	for _, e := range l.ends {
		if e != nil {
			e.hangUp()
		}
	}
	delete(l.Way.Lanes, l)
}

// Adopt goes on with a lane that was left, for a consumer from which nothing is read and to
// which nothing is written yet. KeepOn comes next.
func (l *Lane) Adopt(c Consumer) {
	l.consumer = c
	l.node.Tally.Opened(l.Number, c.Source.Remote)
	l.divert()
	c.Position.GoOn(l.reads())
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	atomic.StoreUint32(&l.at.Class, l.Way.Class)
	for k, e := range l.ends {
		if e == nil {
			atomic.StoreUint32(&l.at.Ends[k].Flags, 0)
		}
	}
}

// KeepOn is Keep of a lane that was adopted. What is in flight at ends that are gone is
// refused, and those to which the short cut is not open any more are closed.
func (l *Lane) KeepOn() {
	l.node.Mu.Lock()
	ends := l.ends
	l.node.Mu.Unlock()
	for _, e := range ends {
		if e != nil {
			go e.adopt()
		}
	}
	_ = l.node.Barrier.Wait()
	l.each(func(_ uint64, f lane.Flight) bool {
		return f.End >= lane.Ends || ends[f.End] == nil
	}, func(f *exchange.Flight) { l.decline(f, rpc.WhyUpstreamClosed) })
	go l.prove(ends)
	l.Keep()
}

// prove closes ends to which the short cut is not open any more.
func (l *Lane) prove(ends [lane.Ends]*end) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	for _, e := range ends {
		if e != nil && !l.node.Dialer.Near(ctx, l.Way.Key.Workload, e.address) {
			l.node.Mu.Lock()
			l.Book.Refuse(l.Way, e.address, time.Time{})
			l.Shut(e.address)
			l.node.Mu.Unlock()
		}
	}
}

// adopt is run of an end that was left.
func (e *end) adopt() {
	at, node := e.lane.at, e.lane.node
	state, err := node.Kernel.Ask(e.conn, lane.AskState, 0)
	reading := lane.At(atomic.LoadUint32(&at.EndsReading[e.number]))
	skip, ok := lane.Behind(atomic.LoadUint64(&at.Ends[e.number].Course.Resume), reading, state.Copied, node.MaxFrame)
	e.position = position.New(e.conn, e.lane.consumer.Protocol.Frames, state.Copied)
	e.position.GoOn(e.reads())
	if ok = ok && err == nil; ok {
		_, err = e.conn.Pump(sock.Nowhere{}, skip)
	}
	if ok = ok && err == nil; ok {
		e.position.Here()
		ok = e.take()
	}
	if !ok {
		e.hangUp() // or where its next answer begins nobody can tell
	}
	e.run()
}
