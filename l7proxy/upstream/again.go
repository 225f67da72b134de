package upstream

import (
	"bytes"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/waiting"
)

// The bounds of what is kept for another try: of one request, and of all that are in
// flight on one connection. Beyond them a try's end is the request's, whatever it is.
const (
	maxKept    = 64 << 10
	maxAllKept = 1 << 20
)

// keepCopy returns a copy of a request that may be needed again, or nil. The caller
// locks.
func (c *Conn) keepCopy(r *exchange.Request) *exchange.Request {
	if !r.Repeatable(c.number.Load()) || len(r.Frame) > maxKept || c.kept+len(r.Frame) > maxAllKept {
		return nil
	}
	c.kept += len(r.Frame)
	return r.Copy()
}

// uncount takes a request that is no longer in flight out of what is counted. The
// caller locks.
func (c *Conn) uncount(f *exchange.Flight) {
	if f.Kept != nil {
		c.kept -= len(f.Kept.Frame)
	}
	if !f.Due.IsZero() {
		c.timed--
	}
	f.Token.End()
}

// another looks whether an answer asks for another try, and gives the request back to
// its owner if it was kept. It returns true if the answer must not be delivered.
func (c *Conn) another(f *exchange.Flight, h codec.Header, frame []byte) bool {
	unknown := f.Unknown(h, frame, c.number.Load(), c.bulk)
	if f.Kept == nil || !unknown && !f.Retriable(h, frame) {
		return false
	}
	// It is what the consumer gets if there can be no other try.
	kept := c.answers.edits.Edited(c.protocol(), f.Answers, frame, &c.group.pool.stats.Postscripts)
	last := &exchange.Last{Answer: bytes.Clone(kept), Call: f.Edge.Call(c.sameNode), Unknown: unknown}
	c.protocol().Frames.PutID(last.Answer, f.ID)
	c.again(f, last)
	return true
}

// lost ends a request whose answer will not come: by another try, or by a refusal.
func (c *Conn) lost(f *exchange.Flight, why rpc.Why, now time.Time) {
	if c.group.pool.ctx.Err() != nil || !f.RetriableLoss(why, now) {
		f.Owner.Refuse(f.Refusal(c.sameNode, why))
		return
	}
	c.again(f, &exchange.Last{Why: why, Call: f.Edge.Call(c.sameNode)})
}

// again gives a request that was kept back to its owner. Not here: the owner may be
// busy, and the answers behind this one must not wait.
func (c *Conn) again(f *exchange.Flight, last *exchange.Last) {
	owner, pool := f.Owner, c.group.pool
	r, wait := f.Again(last)
	pool.begin(func() {
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-pool.ctx.Done():
			}
		}
		owner.Again(r)
	})
}

// timing says that something on the connection has a deadline, and returns true if
// the clock must be told. The caller locks.
func (c *Conn) timing() bool {
	c.timed++
	if c.swept {
		return false
	}
	c.swept = true
	return true
}

// Sweep ends what has taken too long. Part of deadline.Sweeper.
func (c *Conn) Sweep(now time.Time) bool {
	c.mu.Lock()
	late := c.leave(func(f *exchange.Flight) bool { return !f.Due.IsZero() && !f.Due.After(now) })
	early := c.early.Late(now) // for the connection to be made
	if c.timed -= len(early); len(early) > 0 {
		c.ready.Broadcast()
	}
	c.swept = c.timed > 0
	left := c.swept
	if len(late)+len(early) > 0 {
		// Not here, because a consumer may keep us waiting. Run has not ended: it would
		// have settled what we found.
		c.group.pool.begin(func() { c.overdue(early, late, now) })
	}
	c.mu.Unlock()
	return left
}

func (c *Conn) overdue(early []waiting.Request, late []exchange.Flight, now time.Time) {
	for i := range early {
		early[i].Refuse(rpc.WhyTimeout)
	}
	for i := range late {
		late[i].Edge.Endpoint.End(rpc.OutcomeTimeout)
		c.lost(&late[i], rpc.WhyTimeout, now)
	}
	if c.bulk && len(late) > 0 {
		c.Close() // nobody waits for its answer, which would have parked it
	}
}
