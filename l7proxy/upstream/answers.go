package upstream

import (
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/delivery"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// answer is a request and what a record needs of its answer's frame.
type answer struct {
	flight    exchange.Flight
	status    byte
	result    rpc.Result
	bytes     int
	exception string // may alias the read buffer
}

// answers is the reader's working memory, so that reading allocates nothing.
type answers struct {
	delivery.Round[answer]

	read     time.Time
	sameNode bool
	rec      rpc.Record
	out      []byte // heartbeat replies and the like
}

// deliver writes what was collected, one write per consumer, and records it.
func (a *answers) deliver(read time.Time, sameNode bool) {
	a.read, a.sameNode = read, sameNode
	a.Deliver(a)
}

// Delivered records an answer. Part of delivery.Observer.
func (a *answers) Delivered(got *answer, written time.Time, failed bool) {
	f := &got.flight
	call := f.Edge.Call(a.sameNode)
	a.rec = rpc.Record{
		Call: call, Result: got.result, Status: got.status, Serialization: f.Serialization, Exception: got.exception,
		ID: f.ID, Start: f.Start,
		Duration: written.Sub(f.Start), Overhead: f.Spent + written.Sub(a.read),
		RequestBytes: f.Bytes, ResponseBytes: got.bytes, Downstream: f.Edge.Downstream, Capture: f.Capture,
		Delayed: f.Delayed,
	}
	if failed {
		a.rec.Result, a.rec.Why = rpc.ResultGone, rpc.WhyDownstreamGone
	}
	call.Observer.Observe(&a.rec)
	a.rec.Exception, a.rec.Capture = "", nil // they hold what is large
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
		if c.bulk {
			c.parkIdle()
		}
	}
}

// take collects the whole frames of what is buffered. It returns their length
// and the length of the frame of which only a part is there; false if the
// connection cannot go on.
func (c *Conn) take(now time.Time) (used, need int, ok bool) {
	b := c.sock.Bytes()
	for len(b)-used >= dubbo.HeaderLen {
		frame := b[used:]
		h, err := dubbo.ParseHeader(frame)
		if err != nil {
			return used, 0, false
		}
		total := dubbo.HeaderLen + h.Body
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
		c.one(h, frame[:total])
		used += total
	}
	return used, 0, true
}

// one takes one whole frame.
func (c *Conn) one(h dubbo.Header, frame []byte) {
	switch {
	case h.Event():
		c.event(h, frame[dubbo.HeaderLen:])
	case h.Request():
		c.called(h, frame)
	default:
		f, ok := c.give(h)
		if !ok {
			c.group.pool.stats.Unasked.Add(1)
			return
		}
		if h.Status == dubbo.StatusChannelInactive {
			f.Edge.Endpoint.Failed() // the proxy there cannot connect to its application
		}
		if c.another(&f, h, frame) {
			return
		}
		f.Drop()
		dubbo.PutID(frame, f.ID)
		if f.Capture != nil {
			f.Capture.Answer(frame, len(frame))
		}
		got := answer{flight: f, status: h.Status, result: dubbo.AnswerKind(h, frame[dubbo.HeaderLen:]), bytes: len(frame)}
		if got.result == rpc.ResultException {
			got.exception = dubbo.ExceptionClass(h.Serialization(), frame[dubbo.HeaderLen:])
		}
		c.answers.Add(f.Owner, frame, got)
	}
}
