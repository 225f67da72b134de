// Package downstream serves the connections of consumers: it walks the frames of
// one whose protocol is read through route, cluster and upstream, and relays others.
// It accepts nothing and holds no connection to a provider.
package downstream

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane"
	"github.com/dubway/dubway/l7proxy/mirror"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/relay"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/tap"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// Env is what all connections share.
type Env struct {
	relay.Env

	Protocols codec.Set
	Tap       *tap.Hub // nil: nobody can look
	Mirror    *mirror.Mirror
	Asker     Asker // nil: services of global rate limits do not answer
	MaxFrame  int   // bytes, header included
	Ends      *mtls.Ends
	Lanes     *lane.Lanes // nil: there are none
	Stopping  atomic.Bool

	patient time.Duration // instead of lastLook, for tests
}

// lastLook is how long a connection that is to end waits for one more request.
func (e *Env) lastLook() time.Duration { return max(e.patient, lastLook) }

// Accepted is a connection as a listener accepted it. It is passed by reference,
// because every byte on the stack of an idle connection counts.
type Accepted struct {
	plan.Source

	Conn *sock.Conn
	Off  bool // passed on as it is, to what was dialled
	// Left is its lane, of a proxy before this one that served it: what that one had read of
	// it and not answered nobody answers. Nil: it is new.
	Left *lane.Left
}

// lastLook is Env.lastLook, but for tests.
const lastLook = 50 * time.Millisecond

// lingering is how long a consumer that has closed its side may wait for the
// answers that are pending.
const lingering = 60 * time.Second

// partedAfter is how long a consumer whose provider has gone may go on sending
// before its connection ends in spite of that.
const partedAfter = time.Second

// Session is one consumer connection whose requests are read. It is its own reader;
// answers are written by the readers of upstream connections.
type Session struct {
	env      *Env
	in       *Accepted
	protocol *codec.Protocol // Dubbo's until its first bytes tell

	pending atomic.Int64
	gone    atomic.Bool
	dead    atomic.Bool   // the dialled provider; ends when nothing is pending
	serving atomic.Bool   // frames are read
	unload  atomic.Bool   // Unload has interrupted the reader
	idle    chan struct{} // a token each time pending reaches 0

	// Of the reader, and of Again under again.
	again   sync.Mutex
	plans   plan.Planner
	batches []batch
	holds   map[*hold]bool
	used    int  // batches in use
	began   int  // requests that quota does not count yet
	crowded bool // the workload has as many in flight as it may; looked at once for each read
	tapped  bool // somebody asks for bodies; looked at once for each read
	fresh   bool // a request came in this round
	out     []byte

	busy          bool       // a request came since the last Tick; under again
	mode          sync.Mutex // of relayed
	relayed       bool
	line          callback.Line
	ride          lane.Ride
	quiet, silent int        // ticks without a request, and such in which nothing moved; of Tick
	stall         sock.Stall // of Tick
	written       uint64     // of Tick
	expired       atomic.Bool
}

func newSession(env *Env, in *Accepted) *Session {
	s := &Session{env: env, in: in, idle: make(chan struct{}, 1)}
	s.ride.Init(env.Lanes, s, in.Conn, &in.Source)
	s.speak(env.Protocols.Of(rpc.ProtocolDubbo))
	s.plans.Init(&env.Env.Env, &in.Source, s, &s.line)
	s.line.Init(s, env.Pool.Stats())
	return s
}

// speak makes p the connection's protocol.
func (s *Session) speak(p *codec.Protocol) {
	s.protocol = p
	s.plans.Speak(p)
	s.ride.Speak(p)
}

// serve reads requests until the connection ends. The connection is closed when
// it returns and every request has been answered or given up.
func (s *Session) serve() {
	s.serving.Store(true)
	err := s.loop()
	s.line.HangUp() // the consumer answers no more
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
		s.linger()
		if s.line.Parted() || s.plans.Off() || s.expired.Load() {
			s.bye()
		}
	case errors.Is(err, errFraming) && (s.Pending() || s.ride.Busy()):
		s.linger() // what came before is answered
		s.bye()
	}
	_ = s.in.Conn.Close()
	s.ride.End()
	s.again.Lock() // what Again has begun is over, and it begins nothing more
	s.gone.Store(true)
	s.dropHolds()
	s.count()
	s.plans.Forget()
	s.again.Unlock()
	s.plans.Close()
	s.line.Close()
	s.in.Conn.Release()
}

// bind connects to a dialled provider before anything is sent, so that a dead
// one looks dead.
func (s *Session) bind() *upstream.Group {
	if !s.plans.Binds() {
		return nil
	}
	g := s.env.Pool.Group(s.in.Bound(s.env.View(s.in.Workload.UID)(), s.protocol), s.in.Remote)
	g.Bind(s)
	return g
}

// unbind undoes bind.
func (s *Session) unbind(g *upstream.Group) {
	if g != nil {
		g.Unbind(s)
		g.Release()
	}
}

// Dead closes the connection of a consumer that dialled a provider which cannot
// be reached, as the provider's kernel would: at once, or a little after what is
// pending has been answered. Part of upstream.Bound. One that has a connection of
// its own ends with that.
func (s *Session) Dead() {
	if s.line.Any() || s.plans.Served() {
		return
	}
	s.dead.Store(true)
	switch {
	case s.pending.Load() != 0:
	case len(s.idle) > 0: // there have been answers, maybe just now: as in Refuse
		s.in.Conn.Within(s.env.lastLook())
	default:
		_ = s.in.Conn.Reset()
	}
}

// Drain lets the connection end when no request is pending. A relayed one ends
// by itself.
func (s *Session) Drain() {
	s.mode.Lock()
	defer s.mode.Unlock()
	if !s.relayed {
		s.in.Conn.Interrupt()
		if s.Pending() {
			go s.hurry() // not here: the reader may be busy
		}
	}
}

// hand makes the connection a relay's: deadlines are no longer ours to set.
func (s *Session) hand() {
	s.mode.Lock()
	defer s.mode.Unlock()
	s.relayed = true
	s.in.Conn.Resume()
}

// Tick ends a consumer that does not read what it asked for. It returns true once when
// the connection has become idle.
func (s *Session) Tick() bool {
	if s.stall.Look(s.in.Conn) >= stalledAfter {
		_ = s.in.Conn.Reset()
	}
	if !s.again.TryLock() {
		return false // in use: not idle, and nobody else's clock waits
	}
	defer s.again.Unlock()
	s.quiet++
	s.silent++
	if n := s.in.Conn.Writes(); n != s.written {
		s.written, s.silent = n, 0
	}
	if s.ride.Moved() || s.busy {
		s.busy, s.quiet, s.silent = false, 0, 0
	}
	if s.silent > 0 && s.pending.Load() == 0 {
		s.expire()
	}
	if s.quiet != quietAfter {
		return false
	}
	// An idle connection remembers nothing: there are tens of thousands.
	s.plans.Forget()
	s.batches, s.out = nil, nil
	return true
}

func (s *Session) loop() error {
	looked := false // the proxy stops, and nothing was pending when nothing came
	for {
		if s.env.Stopping.Load() || s.line.Parted() || s.plans.Off() {
			// Requests still come while others are pending: they are answered too.
			s.ride.Leave()
			s.in.Conn.Within(s.env.lastLook())
		}
		if s.overdue() {
			return os.ErrDeadlineExceeded
		}
		if err := s.fill(); err != nil {
			stopping, occupied := s.env.Stopping.Load(), s.Pending() || s.justParted() || s.ride.Busy()
			if !errors.Is(err, os.ErrDeadlineExceeded) || !occupied && (looked || !stopping) {
				return err
			}
			looked = !occupied // a last look, from now on: the consumer may just have been answered
			if !stopping {
				s.in.Conn.Resume() // of a dead provider's, with a request that came since
			}
			continue
		}
		looked = false
		for more := true; more; {
			var err error
			if more, err = s.round(); err != nil {
				return err
			}
			for s.occupied() {
				// Nothing is read meanwhile, and so no end is met.
				s.waitIdle(time.Second)
				if _, err := s.in.Conn.Ended(); err != nil && s.occupied() {
					return err
				}
			}
		}
	}
}

// round takes what is buffered. More says that it left whole requests there, maybe.
func (s *Session) round() (more bool, err error) {
	s.again.Lock()
	s.busy, s.tapped = true, s.env.Tap.Bodies()
	s.fresh = false
	now := time.Now()
	used, need, err := s.consume(now)
	s.flush()
	work := s.plans.Work()
	doomed := s.doomed()
	s.again.Unlock()
	s.ride.Read(used)
	s.in.Conn.Discard(used)
	if err != nil {
		return false, err
	}
	if doomed {
		return false, io.EOF
	}
	if need > 0 {
		s.in.Conn.Need(need)
	}
	if work > 0 {
		s.yield(s.in.Quota.Decoded(work, now))
	}
	return s.fresh && s.protocol.Serial, nil
}

// doomed tells whether the connection is to end now, because what was dialled is
// dead. While something is pending it ends behind that. The caller locks.
func (s *Session) doomed() bool {
	if !s.plans.Doomed() {
		return false
	}
	s.dead.Store(true) // before pending is looked at: Settled does it the other way round
	return s.pending.Load() == 0
}

// linger waits for pending answers of a consumer that sends no more.
func (s *Session) linger() {
	end := time.Now().Add(lingering)
	s.ride.Finish(lingering)
	for s.pending.Load() > 0 && time.Now().Before(end) && s.in.Conn.Err() == nil {
		s.waitIdle(time.Second)
	}
	s.in.Conn.Drained() // Tick ends it if the consumer takes nothing
}

// justParted tells whether a request may be on its way that the consumer sent
// before it could know.
func (s *Session) justParted() bool {
	since := s.line.PartedFor()
	return since > 0 && since < s.env.lastLook()
}

// overdue tells whether a consumer whose provider has gone has gone on sending
// for too long. What is pending elsewhere has as long as behind a half-close.
func (s *Session) overdue() bool {
	since := s.line.PartedFor()
	return since > partedAfter && s.pending.Load() == 0 || since > lingering
}

// bye ends the connection of a consumer that has not ended it, so that it reads
// everything: a close with unread requests would be a reset, which overtakes the
// answers.
func (s *Session) bye() {
	_ = s.in.Conn.CloseWrite()
	for end := time.Now().Add(partedAfter); time.Now().Before(end); {
		s.in.Conn.Within(partedAfter)
		if s.in.Conn.Fill() != nil {
			return
		}
		s.in.Conn.Discard(len(s.in.Conn.Bytes()))
	}
}

func (s *Session) waitIdle(limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-s.idle:
	case <-t.C:
	}
}
