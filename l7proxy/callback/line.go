// Package callback is one consumer connection as what providers call: the
// upstream connections that are its alone, and the calls that it has not
// answered yet. It reads and writes no frame of the consumer's.
//
// A call is counted (upstream.Callbacks), but makes no rpc.Record: a Record says
// who asked whom for which service, and here the interface is the consumer's
// own, with the sides exchanged, in series that people sum.
package callback

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Host is the consumer's connection. Its methods must not wait.
type Host interface {
	// Asked says that the consumer has one more answer to give, Settled that n
	// of them have come or will not.
	Asked()
	Settled(n int)
	// Interrupt makes the connection's reader look at Parted.
	Interrupt()
	// Connect takes a descriptor of what the consumer's workload may have, or
	// returns false; Disconnect gives it back.
	Connect() bool
	Disconnect()
}

// Line is what providers have of a consumer's connection: upstream connections
// that are its alone, one for each cluster in which a provider may call back. All
// requests whose route leads to such a cluster take that connection, whatever the
// weights: what subscribed there must be cancelled there. A route that leads
// elsewhere is obeyed.
//
// The consumer's connection ends with the first of them, when everything that is
// pending has been answered: its application must know that it is not called any
// more, and a lost connection is how it knows without a proxy. Until then, which
// is when the provider closes, nothing moves: a provider that says that it will
// stop (READONLY) still serves its connections, and the consumer is told nothing,
// because one whose only address we are would call nobody any more.
//
// Init comes first. Safe for concurrent use.
type Line struct {
	host  Host
	stats *upstream.Stats
	calls calls

	any    atomic.Bool  // there is a pair: the steady path asks no more
	parted atomic.Int64 // when one ended, in Unix nanoseconds; 0: none did

	mu     sync.Mutex // never held while something is written
	pairs  []Pair
	closed bool
}

// Pair is a connection of a Line and where it leads.
type Pair struct {
	Conn     *upstream.Conn
	Cluster  string            // "" in front of a pod's own application
	Endpoint *cluster.Endpoint // nil there

	counted bool // it was made for the line, not adopted
}

var _ upstream.Called = (*Line)(nil)

// Init makes it the line of a connection.
func (l *Line) Init(h Host, stats *upstream.Stats) { l.host, l.stats = h, stats }

// Any tells whether there is a connection that is the line's alone.
func (l *Line) Any() bool { return l.any.Load() }

// Leads returns the pair that a route leads to.
func (l *Line) Leads(a *snapshot.Action) (Pair, bool) {
	if !l.any.Load() {
		return Pair{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range a.Clusters {
		if at := l.at(a.Clusters[i].Cluster); at >= 0 && a.Clusters[i].Weight > 0 {
			return l.pairs[at], true
		}
	}
	return Pair{}, false
}

// Conn returns the connection of the pair that an edge belongs to, a new one of
// owner's if there is none and there must be; else the one that all share. Nil: there
// must be one, and the workload may have no more.
func (l *Line) Conn(owner upstream.Owner, e *upstream.Edge, must bool) *upstream.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.at(e.Remote.Cluster); at >= 0 {
		return l.pairs[at].Conn
	}
	if !must || l.closed {
		return e.Group.Conn()
	}
	if !l.host.Connect() {
		return nil
	}
	c := e.Group.Dedicate(owner)
	l.add(c, &e.Edge, true)
	return c
}

// at finds the pair of a cluster. The caller locks.
func (l *Line) at(cluster string) int {
	for i := range l.pairs {
		if l.pairs[i].Cluster == cluster {
			return i
		}
	}
	return -1
}

func (l *Line) add(c *upstream.Conn, e *exchange.Edge, counted bool) {
	at := e.Endpoint
	if g, ok := at.(*breaker.Guarded); ok {
		at = g.Endpoint
	}
	endpoint, _ := at.(*cluster.Endpoint)
	l.pairs = append(l.pairs, Pair{Conn: c, Cluster: e.Remote.Cluster, Endpoint: endpoint, counted: counted})
	l.any.Store(true)
}

// Adopt takes a connection that has become the line's alone. Part of
// upstream.Called.
func (l *Line) Adopt(c *upstream.Conn, e *exchange.Edge) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.add(c, e, false)
	return true
}

// Part ends the line because a connection of its own ends. One that could not be
// made is given up. Part of upstream.Called.
func (l *Line) Part(c *upstream.Conn, made bool) {
	l.lost(c)
	if made {
		l.parted.CompareAndSwap(0, time.Now().UnixNano())
		l.host.Interrupt()
		return
	}
	if l.remove(c) {
		c.Quit()
	}
}

// remove takes a connection out; false if it is none of the line's.
func (l *Line) remove(c *upstream.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.pairs {
		if l.pairs[i].Conn == c {
			l.uncount(l.pairs[i])
			l.pairs = append(l.pairs[:i], l.pairs[i+1:]...)
			l.any.Store(len(l.pairs) > 0)
			return true
		}
	}
	return false
}

// Parted tells whether a connection of the line has ended: the consumer's is to
// end too.
func (l *Line) Parted() bool { return l.parted.Load() != 0 }

// PartedFor tells how long ago that was; 0 if it was not.
func (l *Line) PartedFor() time.Duration {
	if at := l.parted.Load(); at != 0 {
		return max(time.Since(time.Unix(0, at)), 1)
	}
	return 0
}

// Close ends the line's connections.
func (l *Line) Close() {
	l.mu.Lock()
	l.closed = true
	pairs := l.pairs
	l.pairs = nil
	l.mu.Unlock()
	for _, one := range pairs {
		one.Conn.Quit()
		l.uncount(one)
	}
}

// uncount gives back the descriptor of a pair that goes.
func (l *Line) uncount(p Pair) {
	if p.counted {
		l.host.Disconnect()
	}
}
