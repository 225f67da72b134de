package callback

import (
	"sync"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/pending"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// calls is the requests of providers that are pending at the consumer. They get
// ids of their own on its connection: two providers may use the same ones. The
// consumer's requests have another id space, as a header tells the two apart.
type calls struct {
	mu     sync.Mutex
	table  pending.Table[call]
	closed bool // the consumer answers no more
}

// call is one request of a provider.
type call struct {
	conn *upstream.Conn
	id   uint64 // the provider's
}

// Call takes a request of a provider on one of the line's connections. Part of
// upstream.Called.
func (l *Line) Call(c *upstream.Conn, h codec.Header) (uint64, bool) {
	l.calls.mu.Lock()
	defer l.calls.mu.Unlock()
	if l.calls.closed || !h.TwoWay() {
		return h.ID, !l.calls.closed
	}
	id, ok := l.calls.table.Take(call{conn: c, id: h.ID})
	if ok {
		l.host.Asked()
	}
	return id, ok
}

// Answered finds the request that the consumer answers: its connection and its
// id there. False: nobody asked.
func (l *Line) Answered(id uint64) (*upstream.Conn, uint64, bool) {
	l.calls.mu.Lock()
	found, ok := l.calls.table.Give(id)
	l.calls.mu.Unlock()
	if !ok {
		l.stats.Unasked.Add(1)
		return nil, 0, false
	}
	l.stats.Callbacks.Answered.Add(1)
	l.host.Settled(1)
	return found.conn, found.id, true
}

// HangUp answers what providers still ask in the consumer's stead: it does not
// any more, and it is not asked any more.
func (l *Line) HangUp() {
	l.calls.mu.Lock()
	l.calls.closed = true
	left := l.calls.table.Leave(func(*call) bool { return true })
	l.calls.mu.Unlock()
	for _, one := range left {
		one.conn.Answer(dubbo.AppendError(nil, codec.Header{ID: one.id}, dubbo.StatusChannelInactive,
			"dubway: the consumer's connection has ended"))
	}
	l.gone(len(left))
}

// lost forgets the calls of a connection that has ended; its provider knows.
func (l *Line) lost(c *upstream.Conn) {
	l.calls.mu.Lock()
	left := l.calls.table.Leave(func(one *call) bool { return one.conn == c })
	l.calls.mu.Unlock()
	l.gone(len(left))
}

func (l *Line) gone(n int) {
	l.stats.Callbacks.Gone.Add(uint64(n))
	l.host.Settled(n)
}
