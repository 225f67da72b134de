package downstream

import (
	"time"

	"github.com/dubway/dubway/l7proxy/greeting"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/relay"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

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
	if in.Left == nil && env.Modes.Of(in.Workload.UID).Mode() == mode.Off {
		in.Off = true
		opaque(env, in).Relay(rpc.ProtocolTCP, nil)
		return
	}
	if in.Left == nil && !in.Inbound && !declared(env, in) {
		opaque(env, in).Relay(rpc.ProtocolTCP, nil)
		return
	}
	s := newSession(env, in)
	s.ride.Adopt(in.Left, &s.plans)
	started(s)
	bound := s.bind()
	defer func() { s.unbind(bound) }()
	if s.ride.Catch() {
		s.serve()
		return
	}
	name, app, why := first(env, in)
	if why != rpc.WhyNone {
		s.hand()
		opaque(env, in).Refuse(name, why)
		return
	}
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
	l := env.View(in.Workload.UID)().Listener(in.Original)
	return l != nil && l.RouteName != ""
}

// first waits for the consumer's first bytes, or for those of the pod's own application:
// for those inside, if they are the mesh's TLS. Why says that the connection may not be.
func first(env *Env, in *Accepted) (name rpc.Protocol, app *sock.Conn, why rpc.Why) {
	g := greeting.Greeting{Known: env.Protocols, Conn: in.Conn, Stopping: &env.Stopping}
	if !in.Inbound {
		name, app = g.First()
		return name, app, rpc.WhyNone
	}
	g.Connect = func() (*sock.Conn, error) {
		app, _, err := opaque(env, in).Connect()
		return app, err
	}
	return g.Inside(&greeting.Seal{Env: &env.Env.Env, Source: &in.Source, Ends: env.Ends, Conn: in.Conn, Logger: env.Logger})
}
