package upstream

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/export"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/lot"
)

// minLife is how long a connection must have been open to be made anew at once.
const minLife = time.Second

// Endpoint is told how its connections and requests fare.
type Endpoint = herald.Endpoint

// Bound is a consumer connection whose application dialled this very endpoint.
type Bound = herald.Bound

// Group is the connections of one Key.
type Group struct {
	pool   *Pool
	key    Key
	client netip.AddrPort
	refs   atomic.Int64

	current atomic.Pointer[Conn] // takes requests; nil: none yet
	// callsBack is set when the provider called on a connection that is shared.
	callsBack atomic.Bool
	bulks     *lot.Lot[*Conn] // those that carry one large request at a time

	herald herald.Herald

	mu     sync.Mutex
	conns  map[*Conn]bool
	unused int // ticks without a reference; the clock's
}

// Conn returns the connection that takes requests now, dialling one if there is
// none. It does not wait. Of a protocol whose connections carry one request at a time
// it is one that is free, for one request; nil if there are as many as there may be.
func (g *Group) Conn() *Conn {
	if g.key.Protocol.Serial {
		c, _ := g.bulks.Try(g.another)
		return c
	}
	if c := g.current.Load(); c != nil {
		return c
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.current.Load(); c != nil {
		return c
	}
	c := g.dial(&Conn{})
	g.current.Store(c)
	return c
}

// Answers tells whether an interface has been answered on the connection that takes
// requests now: its provider, as it runs now, exports it.
func (g *Group) Answers(x *export.Export) bool {
	c := g.current.Load()
	return c != nil && x.Answers(c.number.Load())
}

// Group returns the group that the connection is of.
func (c *Conn) Group() *Group { return c.group }

// Watch adds an endpoint that wants to know how this group fares, until Unwatch.
func (g *Group) Watch(e Endpoint) { g.herald.Watch(e) }

// Unwatch undoes one Watch.
func (g *Group) Unwatch(e Endpoint) { g.herald.Unwatch(e) }

// Bind keeps the group connected as long as b lives, and tells b when it cannot
// be: a dead provider must look dead to whoever dialled it.
func (g *Group) Bind(b Bound) {
	g.herald.Bind(b)
	g.Conn()
}

// Unbind ends Bind.
func (g *Group) Unbind(b Bound) { g.herald.Unbind(b) }

// Release gives back what Pool.Group gave.
func (g *Group) Release() { g.refs.Add(-1) }

// Rotate makes new requests take a new connection: the way to the endpoint has
// changed. A connection that is one consumer connection's alone would take that
// with it: it stays, unless it took the short cut, which may be forbidden now.
func (g *Group) Rotate() {
	for _, c := range g.Conns() {
		if c.follows() {
			c.Retire()
		}
	}
}

// dial makes a connection in the background. The caller locks.
func (g *Group) dial(c *Conn) *Conn {
	c.group, c.ready.L = g, &c.mu
	g.conns[c] = true
	g.pool.begin(func() { c.run(g.pool.ctx, g.client) })
	return c
}

// dialled tells everyone concerned how a dial ended.
func (g *Group) dialled(err error) {
	if err != nil {
		g.pool.stats.DialFailures.Add(1)
	}
	g.herald.Dialled(err)
}

// forget takes c out. If somebody's dialled address lost its connection, a new
// one shows at once whether the provider is still there.
func (g *Group) forget(c *Conn) {
	g.bulks.Remove(c)
	g.mu.Lock()
	// Under the lock: it may end before Conn has made it the current one.
	current := g.current.CompareAndSwap(c, nil)
	known := g.conns[c]
	delete(g.conns, c)
	lived, opened := c.lived()
	g.mu.Unlock()
	switch {
	case !known || !current || !opened || g.pool.ctx.Err() != nil || !g.herald.Wanted(nil):
	case lived < minLife:
		// It takes connections only to end them: so it looks to whoever dialled it.
		g.herald.Dead()
	default:
		g.Conn()
	}
}

// replace lets new requests take another connection; keeper, if any, goes on
// with c. C stays known until it is closed: the clock and Close must find it.
func (g *Group) replace(c *Conn, keeper Owner) {
	g.bulks.Remove(c)
	g.mu.Lock()
	current := g.current.CompareAndSwap(c, nil)
	known := g.conns[c]
	g.mu.Unlock()
	if current && known && g.pool.ctx.Err() == nil && g.herald.Wanted(keeper) {
		g.Conn()
	}
}

// Conns returns the live connections.
func (g *Group) Conns() []*Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.conns))
}
