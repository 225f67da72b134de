package upstream

import (
	"strings"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/sock"
)

// stream passes one frame on that is too large to be held. The consumer's
// connection is this frame's until its last byte; if the provider dies inside
// it, the consumer's connection ends too, as it would without a proxy.
func (c *Conn) stream(h codec.Header, read time.Time) bool {
	if h.Request() {
		return c.protocol().Events != nil && c.streamCall(h)
	}
	p := c.protocol()
	// The first bytes of the body tell a value from an exception, and which.
	for len(c.sock.Bytes()) < h.Head+min(h.Body, p.AnswerLen) {
		if c.sock.Fill() != nil {
			return false
		}
	}
	f, known := c.give(h)
	var to sock.Streamer = sock.Nowhere{}
	if known {
		to = f.Owner.Stream()
	} else {
		c.group.pool.stats.Unasked.Add(1)
	}
	total := h.Len()
	var head exchange.Answer
	if known {
		p.Frames.PutID(c.sock.Bytes(), f.ID)
		head = f.Answered(h, c.sock.Bytes())
		head.Exception = strings.Clone(head.Exception) // the record is made when these bytes have gone
		postscript.Passed(f.Answers, h, &c.group.pool.stats.Postscripts)
		if f.Capture != nil {
			f.Capture.Answer(c.sock.Bytes(), total)
		}
	}
	lost, err := c.sock.Pump(to, total)
	if known {
		c.answers.read, c.answers.sameNode = read, c.sameNode
		c.answers.Delivered(&head, time.Now(), lost)
		f.Owner.Settled(1)
	}
	return err == nil
}

// streamCall passes on a large request of the provider.
func (c *Conn) streamCall(h codec.Header) bool {
	var to sock.Streamer = sock.Nowhere{}
	if owner, id, ok := c.callee(h); ok {
		c.protocol().Frames.PutID(c.sock.Bytes(), id)
		to = owner.Stream()
	}
	_, err := c.sock.Pump(to, h.Len())
	return err == nil
}
