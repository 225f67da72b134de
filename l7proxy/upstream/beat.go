package upstream

import (
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/pending"
	"github.com/dubway/dubway/l7proxy/sock"
)

// The clock of every connection that is held: a Java provider closes one on
// which it heard nothing for 180 s, whatever flows elsewhere.
const (
	tick         = 10 * time.Second
	beatEvery    = 5 // ticks: one heartbeat in 50 s
	deadAfter    = 18
	stalledAfter = 3
)

// heartbeatID is the id of our heartbeats.
const heartbeatID = pending.Unused

// beat is a connection's part of the clock, and the clock's goroutine's.
type beat struct {
	since  int    // ticks since our last
	reads  uint64 // of the connection, at the last tick
	silent int    // ticks without one
	stall  sock.Stall
}

// tick sends a heartbeat when it is due and ends a connection that is dead or
// that takes no bytes any more.
func (c *Conn) tick() {
	c.mu.Lock()
	s, live, uploading := c.sock, c.state == open || c.state == retiring, c.uploading
	// Older than what its ends have shown of who they are. New requests then take another;
	// one that is a consumer connection's alone would take that with it, and stays.
	expired := c.state == open && !c.until.IsZero() && time.Now().After(c.until)
	c.mu.Unlock()
	if !live {
		return
	}
	b := &c.beat
	b.since++
	b.silent++
	if n := s.Reads(); n != b.reads {
		b.reads, b.silent = n, 0
	}
	if c.finished() || b.silent >= deadAfter && !uploading && c.protocol().Events != nil || b.stall.Look(s) >= stalledAfter {
		c.Close()
		return
	}
	if expired && c.follows() {
		c.Retire()
	}
	// A write in progress tells the provider as much; what is due comes after it.
	// Where nobody is left that connection ends soon, and its provider may not be one of
	// Dubbo at all: nobody has asked it anything.
	if events := c.protocol().Events; events != nil && b.since >= beatEvery && !s.Writing() && c.group.refs.Load() > 0 {
		b.since = 0
		// Not here: a full socket would stop the clock, which alone ends such a peer.
		go func() { _ = s.Send(events.AppendHeartbeat(nil, heartbeatID)) }()
	}
}

// event takes a heartbeat, its answer, or a READONLY. They are this hop's own
// and are never passed on.
func (c *Conn) event(h codec.Header, body []byte) {
	events := c.protocol().Events
	switch {
	case !h.Request():
	case events.ReadOnly(h, body):
		// The provider is going: new requests get another endpoint where there is
		// one. The connection goes on until the provider closes it: a Java provider
		// answers everything for ten seconds, but ends at once when no consumer is
		// connected any more, with what was just sent to it. The consumer is told
		// nothing: one that has a single address, ours, would call nobody as long as
		// its connection lives.
		c.excuse()
		c.group.herald.Draining()
	case h.TwoWay():
		c.answers.out = events.AppendReply(c.answers.out, h)
	}
}

// finished tells whether a retiring connection has answered everything.
func (c *Conn) finished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == closed || c.state == retiring && c.slots.Busy() == 0 && !c.uploading
}
