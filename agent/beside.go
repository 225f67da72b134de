package agent

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/agent/server"
	"github.com/dubway/dubway/agent/takeover"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/version"
)

// yieldLimit is how long the active agent may take to yield.
const yieldLimit = 30 * time.Second

// beside is what an agent that is not the active one serves: its proxy, which gets
// ready, and the operator.
type beside struct {
	seat    *seat
	role    admin.Role
	waiting *takeover.Waiting
	server  *server.Server
	counts  *server.Counts
	failed  chan error
	parts   sync.WaitGroup
}

func newBeside(s *seat, role admin.Role, w *takeover.Waiting) *beside {
	b := &beside{seat: s, role: role, waiting: w, counts: server.NewCounts(), failed: make(chan error, 2)}
	b.server = server.New(&server.Options{
		Node: s.opts.NodeName, ProxyUID: s.opts.ProxyUID, Roster: w, Ledger: w, Dialer: server.NewDialer(),
		Desk: authority.NewDesk(s.signer, w.Runs, s.log), Note: s.opts.note, Counts: b.counts, Log: s.log,
	})
	return b
}

// start serves until ctx ends. The caller waits for parts then.
func (b *beside) start(ctx context.Context) {
	run := func(part func() error) {
		b.parts.Go(func() {
			if err := part(); err != nil {
				b.failed <- err
			}
		})
	}
	run(func() error { return b.server.Run(ctx, handoff.Socket(b.seat.opts.StateDir)) })
	run(func() error {
		return admin.Serve(ctx, admin.AgentSocket(b.seat.opts.StateDir), b.handler(), b.seat.log)
	})
	b.parts.Go(func() { b.waiting.Follow(ctx) })
}

// lacks says what the agent waits for; "" for nothing.
func (b *beside) lacks() string {
	if b.role == admin.RoleLeft {
		return ""
	}
	if _, _, ok := b.server.Connected(); !ok {
		return "no proxy is connected"
	}
	return b.waiting.Lacks()
}

// handler answers on the admin socket, of an agent that has no datapath.
func (b *beside) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(append(b.counts.Collectors(), b.server.Desk.Counts())...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.PathStatus, func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, b.status()) })
	mux.HandleFunc("GET "+admin.PathWorkloads, func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, admin.WorkloadList{APIVersion: admin.APIVersion, Items: []admin.WorkloadStatus{}})
	})
	mux.HandleFunc("GET "+admin.PathUnknown, func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, admin.UnknownList{APIVersion: admin.APIVersion, Items: []admin.UnknownDestination{}})
	})
	mux.HandleFunc("GET "+admin.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		lacks := b.lacks()
		if b.role == admin.RoleStandby && lacks == "" {
			lacks = "it takes over at this moment"
		}
		sayReady(w, b.role, lacks)
	})
	mux.Handle("GET "+admin.PathMetrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func (b *beside) status() admin.AgentStatus {
	s := admin.AgentStatus{
		APIVersion: admin.APIVersion, Role: b.role, Cgroup: b.seat.opts.Cgroup, PinPath: b.seat.opts.PinPath,
		Programs: []admin.Program{}, Maps: []admin.Map{}, Tables: []admin.Table{},
		Process: admin.Process{
			Release: version.Version, PID: os.Getpid(), UID: os.Getuid(), Node: b.seat.opts.NodeName, Capabilities: host.Capabilities(),
		},
	}
	s.ProxyPID, _, s.ProxyConnected = b.server.Connected()
	if lacks := b.lacks(); lacks != "" {
		s.Problems = append(s.Problems, "the agent does not take over yet: "+lacks)
	}
	return s
}

// standby gets ready beside the active agent and asks it to yield. It returns the
// listeners that were handed over; nil if it did not come to that, and the caller looks
// again who is active.
func (s *seat) standby(ctx context.Context) (handed takeover.Offers, err error) {
	s.disown()
	ctx, cancel := s.order.Until(ctx, false)
	defer cancel()
	heir, err := takeover.Meet(ctx, s.opts.NodeDir, datapath.ABI)
	if err != nil {
		// It has just begun, or is ending; or it refuses, and says why.
		s.log.Warn("the active agent of this node cannot be asked to yield yet", "error", err)
		leaving.Pause(ctx, time.Second)
		return nil, nil
	}
	s.log.Info("getting ready to take over", "from", heir.Release(), "otherMaps", heir.ABI() != datapath.ABI)
	b := newBeside(s, admin.RoleStandby, takeover.NewWaiting(heir, s.feed))
	b.server.Yield() // its listeners are still the other proxy's
	b.start(ctx)
	err = b.succeed(ctx, heir)
	cancel()
	b.parts.Wait()
	if err != nil {
		heir.Close()
		if errors.Is(err, errNotNow) {
			return nil, nil
		}
		return nil, err
	}
	s.heir = heir
	return heir.Take(), nil
}

// errNotNow says that another look at who is active is due.
var errNotNow = errors.New("not now")

// succeed waits until our proxy is ready, and asks the active agent to yield.
func (b *beside) succeed(ctx context.Context, heir *takeover.Heir) error {
	tick := time.NewTicker(turnEvery / 2)
	defer tick.Stop()
	said := ""
	for {
		lacks := b.lacks()
		if lacks == "" {
			break
		}
		if lacks != said {
			said = lacks
			b.seat.log.Info("not ready to take over", "reason", lacks)
		}
		select {
		case <-ctx.Done():
			return errNotNow
		case <-heir.Gone():
			return errNotNow
		case err := <-b.failed:
			return err
		case <-tick.C:
		}
	}
	limit, cancel := context.WithTimeout(ctx, yieldLimit)
	defer cancel()
	if err := heir.Yield(limit); err != nil {
		b.seat.log.Warn("not taken over", "error", err)
		return errNotNow
	}
	return nil
}

// left is the place of an agent that starts, or has no turn, while the mesh leaves the
// node. With the lock it removes what others left behind.
func (s *seat) left(ctx context.Context, lock *takeover.Lock) error {
	outer := ctx
	ctx, cancel := s.order.Until(ctx, true)
	defer cancel()
	b := newBeside(s, admin.RoleLeft, takeover.NewWaiting(nil, s.feed))
	b.start(ctx)
	l := s.opts.Leave
	c, err := s.opts.chain(nil) // it does not run
	if err != nil {
		return err
	}
	l.Steps = slices.Concat(unchain(c), l.Steps)
	withdraw := func() error { return datapath.Uninstall(s.opts.PinPath) }
	if lock == nil {
		l.Steps, withdraw = nil, func() error { return nil }
	}
	err = l.Leave(ctx, withdraw, s.log)
	if err == nil {
		select {
		case err = <-b.failed:
		case <-ctx.Done():
		}
	} else if ctx.Err() != nil {
		err = nil
	}
	cancel()
	b.parts.Wait()
	if lock != nil {
		err = errors.Join(err, lock.Release())
	}
	s.opts.Leave.Unreport(outer, s.order, s.log)
	return err
}
