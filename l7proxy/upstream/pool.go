package upstream

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/deadline"
	"github.com/dubway/dubway/l7proxy/lot"
	"github.com/dubway/dubway/l7proxy/postscript"
)

// unusedTicks is how long a group without consumers keeps its connections.
const unusedTicks = 6

// Limits bound what one connection may hold.
type Limits struct {
	MaxFrame int // bytes, header included
}

// Stats are counters of all connections, for metrics.
type Stats struct {
	Unasked      atomic.Uint64 // answers nobody waited for
	DialFailures atomic.Uint64
	// DelayedExports counts requests that went to another endpoint because the
	// first one's provider did not know the interface yet. Their owner counts.
	DelayedExports atomic.Uint64
	// Retries counts requests that were sent again by their route's policy, and
	// RetriesRefused those that the cluster's budget kept from it. Their owner counts.
	Retries, RetriesRefused atomic.Uint64
	Callbacks               Callbacks
	Postscripts             postscript.Stats
}

// Pool holds the groups.
type Pool struct {
	dialer  Dialer
	limits  Limits
	stats   Stats
	ctx     context.Context //nolint:containedctx // the life of all connections, ended by Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	serial  atomic.Uint64 // of connections

	deadlines deadline.Clock

	mu     sync.RWMutex
	groups map[Key]*Group
}

// NewPool returns an empty pool. Close ends it.
func NewPool(dialer Dialer, limits Limits) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{dialer: dialer, limits: limits, ctx: ctx, cancel: cancel, groups: make(map[Key]*Group)}
	p.running.Go(p.clock)
	return p
}

// Group returns the group of a key, referenced until Release. Client is what a
// provider's application is to see as its consumer.
func (p *Pool) Group(key Key, client netip.AddrPort) *Group {
	p.mu.RLock()
	g := p.groups[key]
	if g != nil {
		g.refs.Add(1)
	}
	p.mu.RUnlock()
	if g != nil {
		return g
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g = p.groups[key]; g == nil {
		most := maxBulk
		if key.Protocol.Serial {
			most = maxSerial
		}
		g = &Group{pool: p, key: key, client: client, bulks: lot.New[*Conn](most), conns: make(map[*Conn]bool)}
		p.groups[key] = g
	}
	g.refs.Add(1)
	return g
}

// Stats returns the counters.
func (p *Pool) Stats() *Stats { return &p.stats }

// Rotate rotates the groups for which match is true.
func (p *Pool) Rotate(match func(Key) bool) {
	for _, g := range p.all() {
		if match(g.key) {
			g.Rotate()
		}
	}
}

// Count returns the number of live connections.
func (p *Pool) Count() (n int) {
	for _, g := range p.all() {
		n += len(g.Conns())
	}
	return n
}

// Close ends every connection, answers what is pending, and waits.
func (p *Pool) Close() {
	p.mu.Lock() // against begin
	p.cancel()
	p.mu.Unlock()
	p.deadlines.Close()
	for _, g := range p.all() {
		for _, c := range g.Conns() {
			c.Close()
		}
	}
	p.running.Wait()
}

// begin runs f, and Close waits for it. Once the pool is closed f may still run, but
// uncounted: Close may have stopped waiting, and nothing connects any more.
func (p *Pool) begin(f func()) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.ctx.Err() == nil {
		p.running.Go(f)
	} else {
		go f()
	}
}

// clock drives heartbeats and drops what nobody uses.
func (p *Pool) clock() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
		for _, g := range p.all() {
			for _, c := range g.Conns() {
				c.tick()
			}
			p.reap(g)
		}
	}
}

// reap drops a group that has been without a consumer for a while.
func (p *Pool) reap(g *Group) {
	if g.refs.Load() > 0 {
		g.unused = 0
		return
	}
	if g.unused++; g.unused < unusedTicks {
		return
	}
	p.mu.Lock()
	gone := g.refs.Load() == 0
	if gone {
		delete(p.groups, g.key)
	}
	p.mu.Unlock()
	if gone {
		for _, c := range g.Conns() {
			c.Close() // the clock will not come by again
		}
	}
}

func (p *Pool) all() []*Group {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Values(p.groups))
}
