package upstream

import (
	"errors"
	"time"

	"github.com/dubway/dubway/l7proxy/exchange"
)

// bulkPatience is how long Upload waits for a connection to become free, before
// the caller looks whether its consumer, and its way, are still there.
const bulkPatience = time.Second

// maxBulk bounds the connections of a group that carry large requests, and maxSerial
// those of a protocol whose connections carry one request at a time.
const (
	maxBulk   = 16
	maxSerial = 1 << 10
)

// errAborted: the consumer left in the middle of its request.
var errAborted = errors.New("the consumer's request ended in the middle")

// ErrBusy says that all connections for large requests to one endpoint are in
// use. It will do to try again: what is in flight ends.
var ErrBusy = errors.New("all connections for large requests are in use")

// errEnded: there is no connection that takes the request.
var errEnded = errors.New("the connection could not be made, has ended or is full")

// Upload is one frame that is too large to be held, on a connection that is its
// consumer connection's alone meanwhile: a consumer that dies in the middle
// breaks nobody else's calls.
type Upload struct {
	conn    *Conn
	request exchange.Request // zero for an answer
	broken  bool             // nothing more is written
}

// Upload starts a request with the first part of its frame, which has at least
// the header. It waits for a connection, a second at most for one that others
// use; an error, ErrBusy or another, means that nothing was sent and nothing is
// pending.
func (g *Group) Upload(owner Owner, r exchange.Request) (*Upload, error) {
	c, ok := g.bulks.Take(g.pool.ctx, bulkPatience, g.another)
	switch {
	case ok:
		return c.Upload(owner, r)
	case g.pool.ctx.Err() != nil:
		return nil, errEnded
	}
	return nil, ErrBusy
}

// another makes one more connection that carries one request at a time.
func (g *Group) another() *Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dial(&Conn{bulk: true})
}

// free parks a connection whose request wants no answer and has been sent.
func (c *Conn) free() {
	c.mu.Lock()
	c.answered = true
	c.mu.Unlock()
	c.parkIdle()
}

// Upload is Group.Upload on a connection that is owner's alone.
func (c *Conn) Upload(owner Owner, r exchange.Request) (*Upload, error) {
	c.mu.Lock()
	for c.state == connecting {
		c.ready.Wait()
	}
	if c.state != open || !c.use.Use(owner, r.Edge) {
		c.mu.Unlock()
		return nil, errEnded
	}
	if !r.OneWay {
		f := exchange.FlightOf(owner, &r, time.Now())
		f.Due = r.Until
		id, ok := c.slots.Take(f)
		if !ok {
			c.mu.Unlock()
			return nil, errEnded
		}
		r.Edge.Endpoint.Begin()
		c.serve = serial{slot: id, id: r.ID}
		r.PutID(id)
	}
	c.uploading = true
	clock := !r.OneWay && !r.Until.IsZero() && c.timing()
	c.mu.Unlock()
	if clock {
		c.group.pool.deadlines.Add(c)
	}
	u := c.upload(r.Frame)
	u.request = r
	u.request.Frame = nil // the reader's
	return u, nil
}

// upload begins a frame that is written in pieces: heartbeats and their answers
// wait. The connection is marked as uploading.
func (c *Conn) upload(first []byte) *Upload {
	u := &Upload{conn: c}
	if u.broken = c.sock.Acquire() != nil; u.broken {
		c.Close()
	}
	u.Write(first)
	return u
}

// Write sends a further part. If the provider is gone the part is dropped: the
// request has been, or will be, settled through its owner.
func (u *Upload) Write(b []byte) {
	if u.broken {
		return
	}
	if err := u.conn.sock.Write(b); err != nil {
		u.broken = true
		_ = u.conn.sock.Done(err)
		u.conn.Close()
	}
}

// End says that the frame is complete.
func (u *Upload) End() {
	if u.broken {
		return
	}
	_ = u.conn.sock.Done(nil)
	c := u.conn
	c.mu.Lock()
	c.uploading = false
	c.answered = c.answered || u.request.OneWay
	c.mu.Unlock()
	if u.request.OneWay {
		u.request.Sent(c.sameNode)
	}
	if c.finished() {
		c.Close()
		return
	}
	c.parkIdle()
}

// Abort says that the rest of the frame will not come.
func (u *Upload) Abort() {
	u.conn.excuse()
	if !u.broken {
		_ = u.conn.sock.Done(errAborted)
	}
	u.conn.Close()
}

// parkIdle parks a bulk connection whose request has been answered. It has one
// at most, so an answer means that the request is done.
func (c *Conn) parkIdle() {
	if !c.bulk {
		return
	}
	c.mu.Lock()
	answered := c.answered && !c.uploading
	c.answered = c.answered && c.uploading
	retired := c.retired
	c.mu.Unlock()
	if answered && !retired {
		c.group.bulks.Park(c)
	}
}
