// Package mirror sends copies of requests to shadow services. A copy is one-way where
// its protocol can say so, nobody waits for anything of it, and it is dropped rather than waited for: what a
// shadow does never slows or fails the call that it is a copy of.
package mirror

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// maxWaiting bounds the copies for one cluster that wait for its connections.
const maxWaiting = 64

// Mirror sends. Its zero value is ready. Safe for concurrent use.
type Mirror struct {
	// Sent and Dropped count copies.
	Sent, Dropped atomic.Uint64

	waiting sync.Map // cluster name: *atomic.Int64
}

// Send sends a copy of a request frame along an edge, and does not wait. It copies
// the frame.
func (m *Mirror) Send(e *upstream.Edge, frame []byte) {
	n, ok := m.waiting.Load(e.Remote.Cluster)
	if !ok {
		n, _ = m.waiting.LoadOrStore(e.Remote.Cluster, new(atomic.Int64))
	}
	waiting, ok := n.(*atomic.Int64)
	if !ok {
		return
	}
	if waiting.Add(1) > maxWaiting {
		waiting.Add(-1)
		m.Dropped.Add(1)
		return
	}
	copied := bytes.Clone(frame)
	h, err := e.Protocol.Frames.ParseHeader(copied)
	if err != nil {
		waiting.Add(-1)
		return
	}
	r := exchange.Request{
		Frame: copied, ID: h.ID, Edge: &e.Edge, Start: time.Now(), Serialization: h.Serialization(),
		OneWay: e.Protocol.Requests.MakeOneWay(copied) || !h.TwoWay(),
	}
	go func() {
		defer waiting.Add(-1)
		if c := e.Group.Conn(); c != nil && c.Send((*shadow)(m), []exchange.Request{r}, [][]byte{copied}) {
			m.Sent.Add(1)
		} else {
			m.Dropped.Add(1)
		}
	}()
}

// shadow is the consumer of copies, which wants nothing.
type shadow Mirror

var _ upstream.Owner = (*shadow)(nil)

// Deliver is part of upstream.Owner.
func (*shadow) Deliver(...[]byte) error { return nil }

// Stream is part of upstream.Owner.
func (*shadow) Stream() sock.Streamer { return sock.Nowhere{} }

// Settled is part of upstream.Owner.
func (*shadow) Settled(int) {}

// Again gives up a copy for which no connection could be made: it was counted as sent.
// Part of upstream.Owner.
func (s *shadow) Again(exchange.Request) { s.lost() }

// Refuse is part of upstream.Owner.
func (s *shadow) Refuse(exchange.Refusal) { s.lost() }

func (s *shadow) lost() {
	s.Sent.Add(^uint64(0))
	s.Dropped.Add(1)
}

// Call refuses a provider that calls back: nobody is there. Part of upstream.Called.
func (*shadow) Call(*upstream.Conn, codec.Header) (uint64, bool) { return 0, false }

// Adopt is part of upstream.Called.
func (*shadow) Adopt(*upstream.Conn, *exchange.Edge) bool { return false }

// Part is part of upstream.Called.
func (*shadow) Part(*upstream.Conn, bool) {}
