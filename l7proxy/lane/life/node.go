// Package life is the life of one lane: it connects to the providers, joins the consumer,
// follows what was learned of its names, reads what the programs leave to the proxy, and
// ends, so that no byte is lost, doubled or out of order. It neither says which connections
// have lanes nor which requests may take one.
package life

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/lane/kernel"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/position"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Tally counts what the programs do. It is a *tally.Table.
type Tally interface {
	learned.Series

	// Opened says that a lane begins, Closed that it has ended.
	Opened(number uint32, consumer netip.AddrPort)
	Closed(number uint32, why tally.Reason)
	// Count counts now, of one way, what the programs have counted.
	Count(call *rpc.Call, serialization uint8)
	// Wants tells whether each call is to be logged.
	Wants() bool
}

var _ Tally = (*tally.Table)(nil)

// Dialer connects to providers of this node in their own network namespaces.
type Dialer interface {
	// Lane connects for a lane of a workload to an endpoint. Client is what the provider's
	// application is to see as its consumer.
	Lane(ctx context.Context, workload string, endpoint, client netip.AddrPort) (*sock.Conn, error)
	// Near tells whether the short cut that it takes is open.
	Near(ctx context.Context, workload string, endpoint netip.AddrPort) bool
}

// Stats are counts, for metrics.
type Stats struct {
	Failed  atomic.Uint64 // lanes that could not be opened
	Unasked atomic.Uint64 // answers that nobody waited for
}

// Node is what the lanes of a node share. Whoever has them sets it before there are any, and
// later only what Mu guards.
type Node struct {
	Dialer   Dialer
	Tally    Tally
	Kernel   kernel.Kernel
	Barrier  kernel.Barrier // of Kernel
	Keeper   Keeper         // nil: a lane ends with the proxy
	MaxFrame int            // bytes of an answer, header included
	Logger   *slog.Logger
	Stats    Stats
	// Ended says that a lane is no more, and nobody uses its number. Mu is held.
	Ended func(l *Lane)

	// Desk has the Book of the memory in which lanes begin, and Mu, which guards all books, Round
	// and what is said to be guarded by it.
	learned.Desk

	Round int // how often an agent came that has none of the lanes
}

// Host answers the consumer.
type Host interface {
	exchange.Consumer
	// Asked says that one more request is pending, which Settled or Refuse ends.
	Asked()
}

// Consumer is a connection whose requests take a lane.
type Consumer struct {
	Host     Host
	Conn     *sock.Conn
	Protocol *codec.Protocol
	Source   *plan.Source
	Position *position.Position
}
