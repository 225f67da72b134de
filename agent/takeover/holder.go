package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
)

// helloTimeout is how long the other side may take to say who it is.
const helloTimeout = 5 * time.Second

// Incumbent is the active agent. The calls come one after another.
type Incumbent interface {
	// Workloads returns what is enrolled, and a channel that is closed when that changes.
	Workloads() ([]*enroll.Workload, <-chan struct{})
	// Steered tells whether a pod has destinations: a table of its own, or the one of all.
	Steered(uid string) bool
	// Yield ends the agent's turn. When it returns, it writes nothing, the socket is
	// gone and the lock is free. After an error the turn goes on.
	Yield(to Successor) error
	// Served says that the successor's proxy serves.
	Served()
	// Bereft says that the successor to whom the turn was yielded is gone.
	Bereft()
}

// Successor is the agent that takes over.
type Successor struct {
	Release string
	PID     int // 0 if it is in another pid namespace
	ABI     int // of the maps that it pins
}

// Holder serves the socket of the active agent.
type Holder struct {
	incumbent Incumbent
	abi       int
	log       *slog.Logger
	acceptor  *handoff.Acceptor
	conns     sync.WaitGroup

	mu   sync.Mutex
	heir *handoff.Conn // who is being told; one at a time
}

// Hold makes the socket of a node's directory, for an agent whose maps are of an ABI.
// The caller has the lock. Close ends it.
func Hold(dir string, abi int, i Incumbent, log *slog.Logger) (*Holder, error) {
	acceptor, err := handoff.Listen(Socket(dir), os.Getuid())
	if err != nil {
		return nil, err
	}
	return &Holder{incumbent: i, abi: abi, log: log, acceptor: acceptor}, nil
}

// Run serves those that come until Shut, and who yielded until it is gone or ctx ends.
func (h *Holder) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, h.Shut)
	defer stop()
	defer h.conns.Wait()
	for {
		c, err := h.acceptor.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // out of descriptors, most likely: it passes
			h.log.Error("accept agent", "error", err)
			time.Sleep(100 * time.Millisecond)
		default:
			h.conns.Go(func() { h.serve(ctx, conn{c}) })
		}
	}
}

// Shut takes nobody more and removes the socket. Connections go on.
func (h *Holder) Shut() { _ = h.acceptor.Close() }

// serve talks to one successor until it is gone.
func (h *Holder) serve(ctx context.Context, c conn) {
	log := h.log.With("agentPid", c.PeerPID())
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }()
	if uid := c.PeerUID(); uid != os.Getuid() {
		log.Warn("agent refused", "error", fmt.Errorf("it runs as user %d, not %d", uid, os.Getuid()))
		return
	}
	to, err := h.greet(c)
	if err != nil {
		log.Warn("agent refused", "error", err)
		_ = c.send(&message{Kind: kindRefused, Reason: err.Error()})
		return
	}
	defer h.leave(c)
	log = log.With("release", to.Release)
	log.Info("another agent prepares to take over")
	yielded, err := h.talk(c, to)
	if yielded && ctx.Err() == nil {
		log.Warn("the agent that took over is gone", "error", err)
		h.incumbent.Bereft()
		return
	}
	log.Info("the other agent is gone before it took over", "error", err)
}

// greet exchanges who is who, and lets one successor in at a time.
func (h *Holder) greet(c conn) (to Successor, err error) {
	watchdog := time.AfterFunc(helloTimeout, func() { _ = c.Close() })
	defer watchdog.Stop()
	m, fds, err := c.receive()
	if err != nil {
		return to, err
	}
	closeFDs(fds)
	if m.Kind != kindHello {
		return to, fmt.Errorf("it says %s before hello", m.Kind)
	}
	if m.Hello.Version != Version {
		return to, fmt.Errorf("release %s takes over by version %d, release %s by %d; "+
			"fix: delete the older agent's pod of this node", m.Hello.Release, m.Hello.Version, version.Version, Version)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heir != nil {
		return to, fmt.Errorf("another agent, process %d, is taking over already", h.heir.PeerPID())
	}
	h.heir = c.Conn
	return Successor{Release: m.Hello.Release, PID: c.PeerPID(), ABI: m.Hello.ABI}, nil
}

func (h *Holder) leave(c conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heir == c.Conn {
		h.heir = nil
	}
}

// talk tells what is enrolled, and does what the successor asks.
func (h *Holder) talk(c conn, to Successor) (yielded bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	ours := &hello{Version: Version, Release: version.Version, ABI: h.abi}
	if err := c.send(&message{Kind: kindHello, Hello: ours}); err != nil {
		return false, err
	}
	telling.Go(func() {
		if err := h.tellAll(ctx, c); err != nil {
			h.log.Warn("tell agent", "error", err)
			_ = c.Close()
		}
	})
	for {
		m, fds, err := c.receive()
		if err != nil {
			return yielded, err
		}
		closeFDs(fds)
		switch {
		case m.Kind == kindYield && !yielded:
			cancel() // the roster is the successor's from now on
			telling.Wait()
			if err := h.incumbent.Yield(to); err != nil {
				return false, err
			}
			yielded = true
			if err := c.send(&message{Kind: kindYielded}); err != nil {
				return true, err
			}
		case m.Kind == kindServing && yielded:
			h.incumbent.Served()
		}
	}
}

// told is what a successor knows of a pod.
type told struct {
	workload *enroll.Workload
	steered  bool
}

// tellAll keeps the successor's view equal to what is enrolled. Who has been steered since
// it was told is told again: the successor waits for those.
func (h *Holder) tellAll(ctx context.Context, c conn) error {
	all := make(map[string]told)
	for first := true; ; first = false {
		workloads, changed := h.incumbent.Workloads()
		now := make(map[string]*enroll.Workload, len(workloads))
		for _, w := range workloads {
			now[w.Pod.UID] = w
		}
		for uid := range all {
			if now[uid] == nil {
				delete(all, uid)
				if err := c.send(&message{Kind: kindGone, UID: uid}); err != nil {
					return err
				}
			}
		}
		for uid, w := range now {
			is := told{w, h.incumbent.Steered(uid)}
			if all[uid] == is {
				continue
			}
			if err := h.tell(c, is); err != nil {
				return err
			}
			all[uid] = is
		}
		if first {
			if err := c.send(&message{Kind: kindTold}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// tell sends a pod with duplicates of its listeners. One that was closed meanwhile has
// left: the next change says so.
func (h *Holder) tell(c conn, is told) error {
	w := is.workload
	m := &workload{UID: w.Pod.UID, Cookie: w.Cookie, Steered: is.steered}
	fds := make([]int, 0, len(w.Listeners))
	defer func() { closeFDs(fds) }()
	for _, l := range w.Listeners {
		fd, err := l.Socket.Duplicate()
		if err != nil {
			return nil // it has left
		}
		fds = append(fds, fd)
		m.Listeners = append(m.Listeners, l.Listener)
	}
	return c.send(&message{Kind: kindWorkload, Workload: m}, fds...)
}
