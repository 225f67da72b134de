package life

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/delivery"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/lane/position"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// end is a lane's connection to a provider. The proxy writes nothing to it, whose only
// writer is the consumer; it reads what the programs leave to it.
type end struct {
	lane    *Lane
	number  uint8
	address netip.AddrPort
	conn    *sock.Conn
	done    chan struct{} // closed when everything that was in flight has ended

	// Node.Mu guards these.
	shut    bool // no requests go there any more
	excused bool // the provider said that it is about to stop

	// Of the reader.
	position *position.Position
	round    delivery.Round[exchange.Answer]
	read     time.Time
	rec      rpc.Record
	answered uint64 // of the lane, at the last count
}

// bind makes an end a part of its lane, and reads from it.
func (l *Lane) bind(e *end) {
	err := l.attach(e)
	if err != nil {
		_ = e.conn.Close()
		l.refuse(e.address, err)
	}
}

func (l *Lane) attach(e *end) error {
	state, err := l.node.Kernel.Ask(e.conn, lane.AskState, 0)
	for range 20 { // the provider's side may be a moment behind, or has not accepted yet
		if err != nil || state.Room() == nil {
			break
		}
		time.Sleep(look)
		state, err = l.node.Kernel.Ask(e.conn, lane.AskState, 0)
	}
	if err = errors.Join(err, state.Room()); err != nil {
		return err
	}
	l.at.Ends[e.number].Course.Forget() // of the one before
	if state, err = l.node.Kernel.Ask(e.conn, lane.AskBind, lane.Place(l.Number, e.number)); err != nil {
		return err
	}
	e.position = position.New(e.conn, l.consumer.Protocol.Frames, state.Copied)
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	if l.Way.Ends[e.number] != e.address {
		// The number became another provider's while this one was dialled, whom names
		// mean by it from now on. No program has seen this end open.
		_ = e.conn.Close()
		l.Nudge()
		return nil
	}
	e.position.Tell(e.reads())
	atomic.StoreUint32(&l.at.Ends[e.number].Flags, lane.EndOpen)
	l.ends[e.number] = e
	go e.run()
	return nil
}

// reads is where it is said how far the end has been read.
func (e *end) reads() position.Told {
	at := e.lane.at
	return position.Told{Course: &at.Ends[e.number].Course, Reading: func(end uint32) {
		atomic.StoreUint32(&at.EndsReading[e.number], end)
	}}
}

// stop lets no more requests go there; the connection ends when none is in flight. Node.Mu
// is held.
func (e *end) stop() {
	if e.shut {
		return
	}
	e.shut = true
	atomic.StoreUint32(&e.lane.at.Ends[e.number].Flags, 0)
	go e.retire()
}

// retire ends a connection behind what is in flight. One whose provider has said that it
// stops is the provider's to end: it may stop at once when nobody is connected.
func (e *end) retire() {
	l := e.lane
	if l.node.Barrier.Wait() == nil {
		t := time.NewTicker(flightsLook)
		defer t.Stop()
		for l.flying(e) || e.lane.is(&e.excused) {
			select {
			case <-e.done:
				return
			case <-t.C:
			}
		}
	}
	e.hangUp()
}

// hangUp ends the connection, of which the agent may have a duplicate.
func (e *end) hangUp() {
	_ = e.conn.CloseWrite()
	_ = e.conn.Close()
}

// run reads until the connection ends, and ends what was in flight there.
func (e *end) run() {
	defer close(e.done)
	for going := true; going; {
		going = e.conn.Fill() == nil && e.take()
	}
	l := e.lane
	l.node.Mu.Lock()
	e.shut = true
	atomic.StoreUint32(&l.at.Ends[e.number].Flags, 0)
	l.node.Mu.Unlock()
	_ = l.node.Barrier.Wait() // a request may be on its way there
	e.hangUp()
	l.sweep(e, l.endWhy())
	e.conn.Release()
	l.node.Mu.Lock()
	l.ends[e.number] = nil
	l.node.Mu.Unlock()
	l.Nudge()
}

// take takes what is buffered. False: the connection cannot go on.
func (e *end) take() bool {
	e.read = time.Now()
	e.position.Got()
	used, need, ok := e.frames()
	e.round.Deliver(e)
	e.position.Read(used)
	e.conn.Discard(used)
	if need > 0 {
		e.conn.Need(need)
	}
	return ok
}

// frames collects the whole frames of what is buffered: their length, and that of one of
// which only a part is there.
func (e *end) frames() (used, need int, ok bool) {
	p, b := e.lane.consumer.Protocol, e.conn.Bytes()
	for len(b) > used {
		frame := b[used:]
		h, err := p.Frames.ParseHeader(frame)
		if errors.Is(err, codec.ErrShort) {
			break
		} else if err != nil {
			return used, 0, false
		}
		total := h.Len()
		switch {
		case total > len(frame) && total > sock.Largest && !h.Event() && !h.Request():
			e.round.Deliver(e)
			e.conn.Discard(used)
			if !e.stream(h) {
				return 0, 0, false
			}
			used, b = 0, e.conn.Bytes()
			continue
		case total > len(frame):
			return used, total, total <= e.lane.node.MaxFrame
		}
		e.one(h, frame[:total])
		used += total
	}
	return used, 0, true
}

// one takes a whole frame.
func (e *end) one(h codec.Header, frame []byte) {
	switch {
	case h.Event():
		// Nothing is written here: a provider's heartbeat is answered by requests.
		if h.Request() && e.lane.consumer.Protocol.Events.ReadOnly(h, frame[h.Head:]) {
			e.drain()
		}
		return
	case h.Request():
		e.called()
		return
	}
	f, ok := e.lane.land(h.ID, uint32(e.number))
	if !ok {
		e.lane.node.Stats.Unasked.Add(1)
		return
	}
	e.told(f.Edge.Endpoint, f.Edge.Protocol.Answers.Outcome(h.Status))
	got := f.Answered(h, frame)
	e.round.Add(e.lane.consumer.Host, frame, got)
}

// told tells an endpoint how a request ended.
func (e *end) told(endpoint herald.Endpoint, o rpc.Outcome) {
	if o != rpc.OutcomeOK {
		e.count()
	}
	endpoint.Begin()
	endpoint.End(o)
}

// count has its endpoint told of what took the lane both ways, which ended well: failures that
// have such between them are not in a row.
func (e *end) count() {
	l := e.lane
	answered := atomic.LoadUint64(&l.at.Answered)
	if answered == e.answered {
		return
	}
	e.answered = answered
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	for n := range l.Way.Names() {
		if edge := n.Edges[e.number]; edge != nil && n.Placed {
			l.node.Tally.Count(edge.SameNode, n.Serialization)
		}
	}
}

// Delivered records an answer. Part of delivery.Observer.
func (e *end) Delivered(got *exchange.Answer, written time.Time, failed bool) {
	f := &got.Flight
	e.rec = got.Record(true)
	e.rec.Duration, e.rec.Overhead = written.Sub(f.Start), written.Sub(e.read)
	e.rec.Downstream = e.lane.consumer.Source.Remote
	if failed {
		e.rec.Result, e.rec.Why = rpc.ResultGone, rpc.WhyDownstreamGone
	}
	e.rec.Call.Observer.Observe(&e.rec)
	e.rec.Exception = ""
}

// stream passes an answer on that is too large to be held.
func (e *end) stream(h codec.Header) bool {
	p := e.lane.consumer.Protocol
	for len(e.conn.Bytes()) < h.Head+min(h.Body, p.AnswerLen) {
		if e.conn.Fill() != nil {
			return false
		}
	}
	f, known := e.lane.land(h.ID, uint32(e.number))
	if !known {
		e.lane.node.Stats.Unasked.Add(1)
		_, err := e.conn.Pump(sock.Nowhere{}, h.Len())
		return err == nil
	}
	e.told(f.Edge.Endpoint, p.Answers.Outcome(h.Status))
	head := f.Answered(h, e.conn.Bytes())
	head.Exception = strings.Clone(head.Exception)
	lost, err := e.conn.Pump(e.lane.consumer.Host.Stream(), h.Len())
	e.Delivered(&head, time.Now(), lost)
	e.lane.consumer.Host.Settled(1)
	return err == nil
}

// drain takes a READONLY: the provider is about to stop.
func (e *end) drain() {
	l := e.lane
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	e.excused = true
	for n := range l.Way.Names() {
		if n.Edges[e.number] != nil {
			n.Edges[e.number].Endpoint.Draining()
		}
	}
	l.Book.Refuse(l.Way, e.address, time.Now().Add(shortcut))
	e.stop()
}

// called is what comes of a provider that calls its consumer: nothing can be answered
// here, and requests to it go by the proxy from now on.
func (e *end) called() {
	l := e.lane
	l.node.Mu.Lock()
	defer l.node.Mu.Unlock()
	l.Book.Refuse(l.Way, e.address, time.Now().Add(misbehave))
	e.stop()
}
