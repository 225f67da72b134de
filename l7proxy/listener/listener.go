// Package listener accepts connections on the listeners that the agent opened
// in the pods' network namespaces and finds out what each of them was meant to
// reach. What is not steered is closed and counted. It reads no byte.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/workload"
)

// The ports of the listeners in each pod.
const (
	OutboundPort = 15001
	InboundPort  = 15006
)

// Options are what a Set needs.
type Options struct {
	// Serve serves a connection until its end. Started says what can be drained.
	Serve func(in *downstream.Accepted, started func(downstream.Live))
	// Witness takes a connection that the proxy itself made.
	Witness func(c *sock.Conn, remote, local netip.AddrPort) bool
	// Quotas bound what one workload's connections take: each gets its own part.
	Quotas *quota.Node
	// Lacks says what a workload lacks until its calls go by what it sees. Nil: nothing.
	Lacks func(uid string) lack.Lack
	// Tight tells whether there is no memory for more connections. Nil: never.
	Tight  func() bool
	Logger *slog.Logger
}

// Stats are counters of all listeners, for metrics.
type Stats struct {
	Accepted  atomic.Uint64
	Active    atomic.Int64
	Direct    atomic.Uint64 // connections to 15001 or 15006 that nobody steered
	Asked     atomic.Uint64 // by the agent, whether the way works; not among Accepted
	Witnesses atomic.Uint64
	Limited   atomic.Uint64 // over their workload's quota
	Tight     atomic.Uint64 // while memory was tight
	Failed    atomic.Uint64 // accept errors
}

// Set is the listeners of all pods.
type Set struct {
	opts    Options
	stats   Stats
	serving sync.WaitGroup

	mu   sync.Mutex
	pods map[string]*pod
	live map[downstream.Live]string // the workload's UID
	shut bool
	// retired: what was accepted drains; until there are listeners again.
	retired bool

	rest rest // of Run
}

// pod is the listeners of one pod.
type pod struct {
	set       *Set
	workload  atomic.Pointer[workload.Workload]
	quota     *quota.Workload
	listeners []net.Listener
	active    atomic.Int64

	// The set's lock guards these.
	busy  int    // loops that accept, and connections
	ended func() // called when there are none; nil: the pod has not gone
}

// NewSet returns a Set without listeners.
func NewSet(opts Options) *Set {
	return &Set{rest: rest{give: debug.FreeOSMemory}, opts: opts, pods: make(map[string]*pod), live: make(map[downstream.Live]string)}
}

// Stats returns the counters.
func (s *Set) Stats() *Stats { return &s.stats }

// Run is the clock of live connections, until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	t := time.NewTicker(downstream.Period)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		s.mu.Lock()
		all := slices.Collect(maps.Keys(s.live))
		s.mu.Unlock()
		quiet := 0
		for _, l := range all {
			if l.Tick() {
				quiet++
			}
		}
		s.rest.collect(quiet)
	}
}

// Put starts accepting for a workload, or goes on with the listeners that are
// given now. It takes ownership of files, which are in the order of w.Listeners.
func (s *Set) Put(w *workload.Workload, files []*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	p := s.pods[w.UID]
	if p == nil {
		p = &pod{set: s, quota: s.opts.Quotas.Workload()}
		s.pods[w.UID] = p
	}
	p.workload.Store(w)
	p.ended = nil
	// The old descriptors are of the same sockets: closing them loses nothing.
	defer closeAll(p.listeners)
	p.listeners = nil
	s.retired = s.retired && len(files) == 0
	for i, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			return fmt.Errorf("take listener %d of %s: %w", i, w.UID, err)
		}
		if s.shut {
			_ = l.Close()
			continue
		}
		p.listeners = append(p.listeners, l)
		p.busy++
		// Counted too, or Wait could miss what it has accepted and not served yet.
		s.serving.Go(func() {
			s.accept(p, l, w.Listeners[i].Direction == handoff.Inbound)
			s.end(p)
		})
	}
	return nil
}

// Yield stops accepting; what was accepted goes on. Connections that wait are another
// process's to accept. Put with files accepts again.
func (s *Set) Yield() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
}

// Retire is Yield, and what was accepted may drain: nobody dials for it any more. It tells
// whether that is new.
func (s *Set) Retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return false
	}
	s.retired = true
	s.close()
	for l := range s.live {
		l.Drain()
	}
	return true
}

// close closes the listeners. The caller locks.
func (s *Set) close() {
	for _, p := range s.pods {
		closeAll(p.listeners)
		p.listeners = nil
	}
}

// Shut stops accepting: connections then wait in the backlogs, which the agent
// holds. What is served may drain.
func (s *Set) Shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	s.close()
	for l := range s.live {
		l.Drain()
	}
}

// Wait waits, after Shut, until no connection is served or limit has passed, and tells
// which.
func (s *Set) Wait(limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Drain lets the live connections of a workload end as soon as nothing is pending on
// them.
func (s *Set) Drain(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, whose := range s.live {
		if whose == uid {
			l.Drain()
		}
	}
}

// Active returns the number of live connections of a workload.
func (s *Set) Active(uid string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[uid]; p != nil {
		return p.active.Load()
	}
	return 0
}

func (s *Set) accept(p *pod, l net.Listener, inbound bool) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: those that wait are not lost.
			s.stats.Failed.Add(1)
			s.opts.Logger.Warn("accept failed", "workload", p.workload.Load().UID, "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		s.begin(p)
		s.serving.Go(func() { s.handle(p, c, inbound) })
	}
}

// handle serves one connection. Of its stack every byte counts, as of those below it: a
// stack that is used up to a quarter, with the runtime's own reserve, stays twice as large
// while the connection is idle.
func (s *Set) handle(p *pod, c net.Conn, inbound bool) {
	in := s.admit(p, c, inbound)
	if in == nil {
		s.end(p)
		return
	}
	s.served(p, in)
}

// served has a connection served until its end.
func (s *Set) served(p *pod, in *downstream.Accepted) {
	p.active.Add(1)
	s.stats.Active.Add(1)
	s.serve(in)
	s.leave(p, in)
}

// leave undoes what admit and handle counted.
func (s *Set) leave(p *pod, in *downstream.Accepted) {
	p.active.Add(-1)
	s.stats.Active.Add(-1)
	in.Quota.Disconnect()
	if in.Inbound {
		p.quota.Leave(in.Remote.Addr())
	}
	s.end(p)
}

// admit finds out what a connection is, and returns nil if it is not to be served.
func (s *Set) admit(p *pod, c net.Conn, inbound bool) *downstream.Accepted {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil
	}
	conn, err := sock.New(tcp)
	if err != nil {
		_ = c.Close()
		return nil
	}
	in := &downstream.Accepted{Conn: conn}
	in.Workload, in.Quota, in.Inbound, in.Remote = p.workload.Load(), p.quota, inbound, conn.Remote()
	if in.Original, err = original(conn, inbound); err == nil && !inbound && lack.IsAsked(in.Original) {
		s.answer(conn, in.Workload.UID)
		return nil
	}
	s.stats.Accepted.Add(1)
	if err != nil {
		s.stats.Direct.Add(1)
		_ = conn.Close()
		return nil
	}
	if inbound && s.opts.Witness(conn, in.Remote, in.Original) {
		s.stats.Witnesses.Add(1)
		return nil
	}
	if s.opts.Tight != nil && s.opts.Tight() {
		s.stats.Tight.Add(1)
		_ = conn.Reset()
		return nil
	}
	if inbound { // whoever calls a pod takes nothing from its other clients
		in.Quota = p.quota.Client(in.Remote.Addr())
	}
	if !in.Quota.Connect() {
		if inbound {
			p.quota.Leave(in.Remote.Addr())
		}
		s.stats.Limited.Add(1)
		_ = conn.Reset()
		return nil
	}
	conn.Limit(in.Quota)
	return in
}

func (s *Set) serve(in *downstream.Accepted) {
	var live downstream.Live
	s.opts.Serve(in, func(l downstream.Live) {
		s.mu.Lock()
		defer s.mu.Unlock()
		live = l
		s.live[l] = in.Workload.UID
		if s.shut || s.retired {
			l.Drain()
		}
	})
	if live != nil {
		s.mu.Lock()
		delete(s.live, live)
		s.mu.Unlock()
	}
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		_ = l.Close()
	}
}
