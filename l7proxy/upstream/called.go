package upstream

import (
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/claim"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/sock"
)

// A provider calls its consumer back on the connection that the consumer asked
// by, and by nothing but the connection can it be told which consumer is meant.
// So a consumer connection that declares a callback gets a connection of its own
// (Dedicate), on which the provider's requests are passed on to it.
//
// A provider that calls on a connection which nobody declared anything on is
// understood if one consumer connection alone has ever used it: the connection
// becomes that one's. Otherwise nobody can tell who is meant, and the provider
// gets an error; but from then on the group shares no connection any more
// (CallsBack), so that whoever asks again can be called. What was registered on
// the shared connection cannot be mended: passing its calls to every consumer
// would show one's data to another.

// Callbacks counts the requests of providers by how they ended: the consumer's
// answer went back; it was passed on, and nothing comes back; no one consumer
// connection could be told, or it takes no more; one of the two connections ended
// before the answer.
type Callbacks struct {
	Answered, OneWay, Refused, Gone atomic.Uint64
}

// Called is a consumer's connection as what a provider calls.
type Called interface {
	// Call announces a request of the provider, which is delivered next, and
	// returns the id that it gets on the consumer's connection. False: the
	// consumer takes none.
	Call(c *Conn, h codec.Header) (id uint64, ok bool)
	// Adopt says that a connection which only this consumer's requests have used
	// is its alone from now on; e is one of their edges. The consumer must Quit
	// it. False: the consumer is gone.
	Adopt(c *Conn, e *exchange.Edge) bool
	// Part says that a connection which is this consumer's alone ends, or could
	// not be made. Requests that are pending on it are settled by themselves.
	Part(c *Conn, made bool)
}

// use is who has used a connection, and who has it alone.
type use = claim.Claim[Owner, *exchange.Edge]

// Dedicate returns a connection that is owner's alone: the one in use, if no
// other has used it, else a new one. The owner must Quit it.
func (g *Group) Dedicate(owner Owner) *Conn {
	g.refs.Add(1)
	if c := g.current.Load(); c != nil && c.claim(owner) {
		return c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dial(&Conn{use: claim.Of[Owner, *exchange.Edge](owner)})
}

// claim makes the connection owner's alone, if it has no other user.
func (c *Conn) claim(owner Owner) bool {
	if !c.claimable(owner, false) {
		return false
	}
	// From here on others are given another one: they must not be given one
	// that then takes nothing of theirs.
	c.group.replace(c, owner)
	if c.claimable(owner, true) {
		return true
	}
	c.Retire() // somebody was faster
	return false
}

// claimable tells whether owner may have the connection, and gives it if it shall.
func (c *Conn) claimable(owner Owner, give bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := c.state <= open && !c.retired && c.use.Free(owner)
	if free && give {
		c.use = claim.Of[Owner, *exchange.Edge](owner)
	}
	return free
}

// CallsBack tells whether the provider has called on a shared connection: then
// none should be shared any more.
func (g *Group) CallsBack() bool { return g.callsBack.Load() }

// Dedicated tells whether the connection is one consumer connection's alone.
func (c *Conn) Dedicated() bool { return c.owner() != nil }

// owner returns whose alone the connection is, or nil.
func (c *Conn) owner() Owner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.use.Alone()
}

// follows tells whether the connection ends when the way to its endpoint changes.
func (c *Conn) follows() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.use.Alone() == nil || c.sameNode
}

// part tells the consumer connection whose alone this one is that it ends.
func (c *Conn) part(made bool) {
	if o := c.owner(); o != nil {
		o.Part(c, made)
	}
}

// Quit ends a connection that is its caller's alone, behind what was sent, and
// gives back the reference to its group. Requests that are pending must have
// been answered or abandoned.
func (c *Conn) Quit() {
	c.group.Release()
	c.mu.Lock()
	s := c.sock
	c.mu.Unlock()
	if s == nil {
		c.Close()
		return
	}
	go c.end(s)
}

// Answer writes whole answer frames of the consumer, with the provider's ids. A
// provider that is gone is noticed by the reader.
func (c *Conn) Answer(frames ...[]byte) {
	if s := c.live(); s != nil {
		_ = s.Send(frames...)
	}
}

// StartAnswer starts one answer that is too large to be held, with its first part.
// Nil: the provider is gone.
func (c *Conn) StartAnswer(first []byte) *Upload {
	if c.live() == nil {
		return nil
	}
	c.mu.Lock()
	c.uploading = true
	c.mu.Unlock()
	return c.upload(first)
}

// called passes a request of the provider to its consumer, or refuses it.
func (c *Conn) called(h codec.Header, frame []byte) {
	if owner, id, ok := c.callee(h); ok {
		c.protocol().Frames.PutID(frame, id)
		c.answers.Pass(owner, frame)
	}
}

// callee finds the consumer of a provider's request and the request's id there.
// False: the provider has been answered.
func (c *Conn) callee(h codec.Header) (Owner, uint64, bool) {
	count := &c.group.pool.stats.Callbacks
	why := "dubway: several consumers share this connection"
	if owner := c.only(); owner != nil {
		if id, ok := owner.Call(c, h); ok {
			if !h.TwoWay() {
				count.OneWay.Add(1)
			}
			return owner, id, true
		}
		why = "dubway: the consumer takes no more calls"
	}
	count.Refused.Add(1)
	if h.TwoWay() {
		c.answers.out = dubbo.AppendError(c.answers.out, h, dubbo.StatusBadRequest, why)
	}
	return nil, 0, false
}

// only returns the consumer connection whose alone this one is, or becomes now.
func (c *Conn) only() Owner {
	c.mu.Lock()
	alone := c.use.Alone()
	only, edge := c.use.Only()
	c.mu.Unlock()
	if alone != nil {
		return alone
	}
	c.group.callsBack.Store(true)
	if only == nil || !c.claim(only) {
		return nil
	}
	c.group.refs.Add(1)
	if only.Adopt(c, edge) {
		return only
	}
	// The consumer is gone, and nobody else has used it: it ends behind our answer.
	c.group.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.use, c.state, c.retired = claim.Shared[Owner, *exchange.Edge](), retiring, true
	return nil
}

// live returns the connection's socket while it can be written to.
func (c *Conn) live() *sock.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == open || c.state == retiring {
		return c.sock
	}
	return nil
}
