// Package export knows what a consumer's connection has learned of an interface
// at a provider: a provider that listens may not export it yet ("delayed export").
// It recognizes no answer and repeats no request.
package export

import (
	"sync/atomic"
	"time"
)

// deafFor is how long a provider that did not know an interface is not asked for it
// by the same connection, if another can be.
const deafFor = time.Second

// Export is what a consumer's connection knows of one interface at one endpoint:
// the connection to the provider on which it has answered OK. A provider that comes
// up again has a new connection. The zero value knows nothing. Safe for concurrent
// use.
type Export struct {
	conn atomic.Uint64 // 0: none yet
	deaf atomic.Int64  // until then, Unix nanoseconds; 0: not
}

// Answers tells whether the interface has been answered on a connection, which is
// named by its number, from 1.
func (x *Export) Answers(conn uint64) bool { return x.conn.Load() == conn }

// Answered says that it has.
func (x *Export) Answered(conn uint64) {
	x.conn.Store(conn)
	x.deaf.Store(0)
}

// Unknown says that the provider did not know the interface: what it has answered
// before says nothing any more.
func (x *Export) Unknown() {
	x.conn.Store(0)
	x.deaf.Store(time.Now().Add(deafFor).UnixNano())
}

// Deaf tells whether the provider has said a moment ago that it does not know the
// interface. It reads the clock only if it has.
func (x *Export) Deaf() bool {
	until := x.deaf.Load()
	return until != 0 && time.Now().UnixNano() < until
}
