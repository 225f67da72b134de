package upstream

import (
	"errors"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/delivery"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// answers is the reader's working memory, so that reading allocates nothing.
type answers struct {
	delivery.Round[exchange.Answer]

	read     time.Time
	sameNode bool
	rec      rpc.Record
	out      []byte // heartbeat replies and the like
	edits    postscript.Writer
}

// deliver writes what was collected, one write per consumer, and records it.
func (a *answers) deliver(read time.Time, sameNode bool) {
	a.read, a.sameNode = read, sameNode
	a.Deliver(a)
	a.edits.Clear()
}

// Delivered records an answer. Part of delivery.Observer.
func (a *answers) Delivered(got *exchange.Answer, written time.Time, failed bool) {
	f := &got.Flight
	a.rec = got.Record(a.sameNode)
	a.rec.Duration, a.rec.Overhead = written.Sub(f.Start), f.Spent+written.Sub(a.read)
	if failed {
		a.rec.Result, a.rec.Why = rpc.ResultGone, rpc.WhyDownstreamGone
	}
	a.rec.Call.Observer.Observe(&a.rec)
	a.rec.Exception, a.rec.Capture, a.rec.Span = "", nil, nil // they hold what is large
}

// read takes answers until the connection ends.
func (c *Conn) read() {
	for {
		if err := c.sock.Fill(); err != nil {
			return
		}
		now := time.Now()
		used, need, ok := c.take(now)
		c.answers.deliver(now, c.sameNode)
		c.sock.Discard(used)
		if need > 0 {
			c.sock.Need(need)
		}
		if len(c.answers.out) > 0 {
			_ = c.sock.Send(c.answers.out)
			c.answers.out = c.answers.out[:0]
		}
		if !ok || c.finished() {
			return
		}
		c.parkIdle()
	}
}

// take collects the whole frames of what is buffered. It returns their length
// and the length of the frame of which only a part is there; false if the
// connection cannot go on.
func (c *Conn) take(now time.Time) (used, need int, ok bool) {
	b := c.sock.Bytes()
	for len(b) > used {
		frame := b[used:]
		h, err := c.protocol().Frames.ParseHeader(frame)
		if errors.Is(err, codec.ErrShort) {
			break
		} else if err != nil {
			return used, 0, false
		}
		total := h.Len()
		if total > len(frame) {
			if total > sock.Largest && !h.Event() {
				c.answers.deliver(now, c.sameNode)
				c.sock.Discard(used)
				if !c.stream(h, now) {
					return 0, 0, false
				}
				used, b = 0, c.sock.Bytes()
				continue
			}
			if total > c.group.pool.limits.MaxFrame {
				return used, 0, false
			}
			return used, total, true
		}
		if !c.one(h, frame[:total]) {
			return used, 0, false
		}
		used += total
	}
	return used, 0, true
}

// one takes one whole frame. False: its provider may not send it.
func (c *Conn) one(h codec.Header, frame []byte) bool {
	p := c.protocol()
	if p.Events == nil && (h.Event() || h.Request()) {
		return false
	}
	switch {
	case h.Event():
		c.event(h, frame[h.Head:])
		return true
	case h.Request():
		c.called(h, frame)
		return true
	}
	f, ok := c.give(h)
	if !ok {
		c.group.pool.stats.Unasked.Add(1)
		return true
	}
	c.parkIdle() // before its consumer, which may ask at once, has the answer
	if p.Answers.Unreached(h) {
		f.Edge.Endpoint.Failed() // the proxy there cannot connect to its application
	}
	if c.another(&f, h, frame) {
		return true
	}
	f.Drop()
	p.Frames.PutID(frame, f.ID)
	got := f.Answered(h, frame)
	frame = c.answers.edits.Edited(c.protocol(), f.Answers, frame, &c.group.pool.stats.Postscripts)
	if got.Bytes = len(frame); f.Capture != nil {
		f.Capture.Answer(frame, len(frame))
	}
	c.answers.Add(f.Owner, frame, got)
	return true
}
