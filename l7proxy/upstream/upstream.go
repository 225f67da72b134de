// Package upstream holds the connections to providers. All connections of one
// consumer workload share one connection per endpoint: requests get ids of that
// connection, written in place, and answers get the consumer's back. A provider
// may call its consumer on the connection that the consumer asked by; such a
// connection is one consumer connection's alone (called.go). It frames answers
// and knows when a provider is gone; it chooses no endpoint.
package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Key names a group of connections that may be shared. Connections are never
// shared across workloads.
type Key struct {
	Protocol *codec.Protocol
	Workload string         // UID of the pod on whose behalf is dialled
	Endpoint netip.AddrPort // the provider
	Inbound  bool           // Workload is the provider itself
	Client   netip.Addr     // inbound: the consumer; one group for each
	TLS      mutual.TLS     // how the connections are encrypted
}

// Way is a connection and how it was made.
type Way struct {
	TCP *net.TCPConn
	// SameNode says that the provider's application was dialled in its own
	// network namespace: both sides' telemetry is this proxy's.
	SameNode bool
	// Secured is TCP with TLS on it; nil: plaintext. Then the rest says whom it was agreed
	// with, as whom, and until when both are who they are.
	Secured        *sock.Conn
	Principal, Own string
	Until          time.Time
}

// Dialer connects to endpoints. Client is the address that a provider's
// application is to see if it is dialled in its own namespace.
type Dialer interface {
	Dial(ctx context.Context, key Key, client netip.AddrPort) (Way, error)
}

// Edge is what the requests of one kind to one endpoint have in common, and the
// connections that lead there.
type Edge struct {
	exchange.Edge

	Group *Group
}

// Owner is the consumer's connection that a request came from.
type Owner interface {
	exchange.Consumer
	Called
}
