package downstream

import (
	"errors"
	"os"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/relay"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// patience is how long a connection to a pod's own port may be silent before
// its application is connected to: it may be the one that speaks first.
const patience = 100 * time.Millisecond

// Period is the clock of connections.
const Period = 10 * time.Second

// stalledAfter is how many ticks a consumer may take nothing before it is ended:
// its answers hold up those of its neighbours on the same upstream connection.
const stalledAfter = 3

// quietAfter is how many ticks without a frame make a connection idle.
const quietAfter = 2

// Live is a connection that is being served.
type Live interface {
	// Drain lets the connection end as soon as nothing is pending on it.
	Drain()
	// Tick is called every Period, by one goroutine. It returns true once when the
	// connection has become idle.
	Tick() (quiet bool)
	// Unload gives up the request of which a part is held, if the workload is shed.
	Unload()
}

// Serve serves one accepted connection until its end. Started is told what can
// be drained, as soon as it is known.
func Serve(env *Env, in *Accepted, started func(Live)) {
	if env.Modes.Of(in.Workload.UID).Mode() == mode.Off {
		in.Off = true
		opaque(env, in).Relay(rpc.ProtocolTCP, nil)
		return
	}
	if !in.Inbound && !declared(env, in) {
		opaque(env, in).Relay(rpc.ProtocolTCP, nil)
		return
	}
	s := newSession(env, in)
	started(s)
	bound := s.bind()
	defer func() { s.unbind(bound) }()
	name, app := first(env, in)
	protocol := env.Protocols.Of(name)
	if protocol != s.protocol {
		// It has its own connections, which die by themselves.
		s.unbind(bound)
		bound = nil
	}
	switch {
	case protocol != nil:
		s.speak(protocol)
		s.serve()
	case name == rpc.ProtocolUnknown:
		_ = in.Conn.Close()
	default:
		s.hand()
		opaque(env, in).Relay(name, app)
	}
}

// opaque is a connection as what is passed on unseen.
func opaque(env *Env, in *Accepted) *relay.Opaque {
	return &relay.Opaque{Source: &in.Source, Env: &env.Env, Conn: in.Conn, Off: in.Off}
}

// declared tells whether the dialled address has a chain for requests.
func declared(env *Env, in *Accepted) bool {
	l := env.Snapshot().Listener(in.Original)
	return l != nil && l.RouteName != ""
}

// first waits for the consumer's first bytes and tells their protocol;
// ProtocolUnknown means that the connection ended without any. If the pod's own
// application may have to speak first, it is connected to meanwhile and returned
// unless the protocol is one that is read.
func first(env *Env, in *Accepted) (rpc.Protocol, *sock.Conn) {
	limit := time.Duration(0)
	if in.Inbound {
		limit = patience
	}
	protocol, err := sniff(env.Protocols, in.Conn, limit, !in.Inbound)
	if in.Inbound && errors.Is(err, os.ErrDeadlineExceeded) && !env.Stopping.Load() {
		return either(env, in)
	}
	return protocol, nil
}

// either waits for whoever speaks first.
func either(env *Env, in *Accepted) (rpc.Protocol, *sock.Conn) {
	app, _, err := opaque(env, in).Connect()
	if err != nil {
		_ = in.Conn.Reset()
		return rpc.ProtocolUnknown, nil
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		var b [1]byte
		if _, err := app.Peek(b[:], 0, 0); !errors.Is(err, os.ErrDeadlineExceeded) {
			in.Conn.Interrupt()
		}
	}()
	protocol, err := sniff(env.Protocols, in.Conn, 0, false)
	app.Interrupt()
	<-answered
	app.Resume()
	in.Conn.Resume()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return rpc.ProtocolTCP, app
	}
	if protocol == rpc.ProtocolUnknown || env.Protocols.Of(protocol) != nil {
		_ = app.Close()
		return protocol, nil
	}
	return protocol, app
}

// sniff tells the protocol of the first bytes without consuming them. Limit is
// for the first byte (0: none); a beginning that stays undecided is opaque after
// patience. Half a magic of Dubbo is not: where requests are declared, a consumer that
// is slow says nothing else.
func sniff(known codec.Set, c *sock.Conn, limit time.Duration, declared bool) (rpc.Protocol, error) {
	var b [codec.SniffLen]byte
	for seen := 0; ; {
		n, err := c.Peek(b[:], seen, limit)
		switch {
		case seen > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			return rpc.ProtocolTCP, nil
		case err != nil || n == 0:
			return rpc.ProtocolUnknown, err
		}
		protocol, ok := known.Sniff(b[:n])
		switch {
		case ok:
			return protocol, nil
		case n == seen: // the end, inside a beginning
			return rpc.ProtocolTCP, nil
		case declared && known.Of(protocol) != nil:
			limit = 0
		default:
			limit = patience
		}
		seen = n
	}
}
