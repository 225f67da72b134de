// Package greeting waits for the first bytes of a connection, whoever sends them, and
// tells its protocol. It consumes none of them.
package greeting

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// patience is how long a connection to a pod's own port may be silent before
// its application is connected to: it may be the one that speaks first.
const patience = 100 * time.Millisecond

// Greeting is a consumer's connection that has said nothing yet.
type Greeting struct {
	Known    codec.Set
	Conn     *sock.Conn
	Stopping *atomic.Bool
	// Connect connects to the pod's own application, which may have to speak first. Nil:
	// what was dialled is not on this pod, and requests are declared for it.
	Connect func() (*sock.Conn, error)
}

// First waits for the consumer's first bytes and tells their protocol;
// ProtocolUnknown means that the connection ended without any. If the pod's own
// application may have to speak first, it is connected to meanwhile and returned
// unless the protocol is one that is read.
func (g *Greeting) First() (rpc.Protocol, *sock.Conn) {
	limit := time.Duration(0)
	if g.Connect != nil {
		limit = patience
	}
	protocol, err := g.sniff(limit, g.Connect == nil)
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case late && g.Connect != nil && !g.Stopping.Load():
		return g.either()
	case late: // the connection is to end, and its first request may be on its way
		protocol, _ = g.sniff(patience, g.Connect == nil)
	}
	return protocol, nil
}

// Inside is First for what is inside the mesh's TLS, if the first bytes are that. Why says
// that the connection may not be.
func (g *Greeting) Inside(s *Seal) (name rpc.Protocol, app *sock.Conn, why rpc.Why) {
	if name, app = g.First(); name == rpc.ProtocolUnknown {
		return name, app, rpc.WhyNone
	}
	broken, why := s.Break(name)
	if !broken && why == rpc.WhyNone {
		return name, app, rpc.WhyNone
	}
	if app != nil {
		_ = app.Close() // TLS was not for it
	}
	if !broken {
		return name, nil, why
	}
	name, app = g.First()
	return name, app, rpc.WhyNone
}

// either waits for whoever speaks first.
func (g *Greeting) either() (rpc.Protocol, *sock.Conn) {
	app, err := g.Connect()
	if err != nil {
		_ = g.Conn.Reset()
		return rpc.ProtocolUnknown, nil
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		var b [1]byte
		if _, err := app.Peek(b[:], 0, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			g.Conn.Interrupt()
		}
	}()
	protocol, err := g.sniff(0, false)
	app.Interrupt()
	<-answered
	app.Resume()
	g.Conn.Resume()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return rpc.ProtocolTCP, app
	}
	if protocol == rpc.ProtocolUnknown || g.Known.Of(protocol) != nil {
		_ = app.Close()
		return protocol, nil
	}
	return protocol, app
}

// sniff tells the protocol of the first bytes without consuming them. Limit is
// for the first byte (0: none); a beginning that stays undecided is opaque after
// patience. Half a magic of Dubbo is not: where requests are declared, a consumer that
// is slow says nothing else.
func (g *Greeting) sniff(limit time.Duration, declared bool) (rpc.Protocol, error) {
	var b [codec.SniffLen]byte
	for seen := 0; ; {
		n, err := g.Conn.Peek(b[:], seen, limit)
		switch {
		case seen > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			return rpc.ProtocolTCP, nil
		case err != nil || n == 0:
			return rpc.ProtocolUnknown, err
		}
		protocol, ok := g.Known.Sniff(b[:n])
		switch {
		case ok:
			return protocol, nil
		case n == seen: // the end, inside a beginning
			return rpc.ProtocolTCP, nil
		case declared && g.Known.Of(protocol) != nil:
			limit = 0
		default:
			limit = patience
		}
		seen = n
	}
}
