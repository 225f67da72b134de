// Package agent is the privileged half of the mesh: it loads the datapath, makes
// the pods of its node part of the mesh and makes sockets in their network
// namespaces for dubway-proxy, over the handoff socket.
//
// It parses no byte that a pod sent. What the proxy says it takes as coming from
// somebody who may have been taken over: see limits.go and dial.go.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/chain"
	"github.com/dubway/dubway/agent/cluster"
	"github.com/dubway/dubway/agent/conflicts"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/ground"
	"github.com/dubway/dubway/agent/kubelet"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/lanes/loaded"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/reach"
	"github.com/dubway/dubway/agent/server"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/agent/turn"
	"github.com/dubway/dubway/cni/install"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/served"
)

// Options of an Agent. StateDir, Logger and one of Workloads and Kubernetes must be given.
type Options struct {
	StateDir      string                      // holds the sockets of both processes
	PinPath       string                      // where the datapath is pinned; datapath.DefaultPinPath
	Cgroup        string                      // where the programs are attached; the host's cgroup2 root
	KubeletCgroup string                      // kubelet's own; found by its process, or kubelet.Off
	Workloads     string                      // directory of workload files
	Kubernetes    *kube.Options               // the API server that tells of pods, in place of Workloads; without Node and Logger
	Source        pods.Source                 // whom pods are known from, in place of both
	NodeDir       string                      // of the node, outlives pods: one agent takes over from another there; "" for none
	CNI           *install.Options            // where the CNI plugin is chained; nil: nowhere
	Leave         leaving.Plan                // how the agent leaves the node for good
	NodeName      string                      // for people and labels; the host's name
	NodeAddresses []netip.Addr                // of the node, beside those of its network namespace
	ProxyUID      int                         // the user, and the group, that dubway-proxy runs as
	CheckInterval time.Duration               // between checks that enrolled pods still are; one minute
	CNIConfDir    string                      // the node's CNI configurations, looked at for conflicts; none without it
	Lane          lanes.Choice                // whether same-node calls take lanes; lanes.Auto
	LaneTest      func(context.Context) error // whether they work on this kernel; selftest.Run
	Authority     authority.Options           // whom certificates are asked of; none without its Address
	Logger        *slog.Logger

	cluster *cluster.Cluster // of Kubernetes; the same for all turns
	note    *served.Note     // of whose proxy serves; the same for all turns, nil where no other agent is
}

const (
	retryInterval = 5 * time.Second  // attempts to enrol what is not
	nodeInterval  = 10 * time.Second // reading the node's addresses
	patience      = 30 * time.Second // for the proxy to come back, after our restart or its own
)

// Agent is a running agent.
type Agent struct {
	opts     Options
	log      *slog.Logger
	started  time.Time
	datapath *datapath.Datapath
	tables   *table.Tables
	enroller *enroll.Enroller
	turn     *turn.Turn
	served   *atomic.Bool // once: what it enrolled, a proxy serves
	dialer   *server.Dialer
	kubelet  *kubelet.Follower
	lanes    *lanes.Lanes
	loaded   *loaded.Datapath // datapath, with the programs of lanes
	server   *server.Server
	counts   *server.Counts
	member   *cluster.Member // nil where pods come from files
	chain    *chain.Chain    // nil where no CNI plugin is chained
	ready    chan struct{}   // closed when pods have been tried once
	// conflicts are looked for from the moment on when our programs are there.
	conflicts *conflicts.Watch

	mu       sync.Mutex
	problems []pods.Problem // of the source
}

// New checks the machine, loads or adopts the datapath and makes the state
// directory. It enrols nobody before Run.
func New(opts Options) (*Agent, error) {
	signer, err := opts.prepare()
	if err != nil {
		return nil, err
	}
	dialer := server.NewDialer()
	// Denied addresses must be known before the first dial.
	if err := dialer.RefreshNode(opts.NodeAddresses); err != nil && len(opts.NodeAddresses) == 0 {
		return nil, fmt.Errorf("read the node's addresses: %w; fix: set hostPID, or name them with --node-address", err)
	}
	d, err := datapath.Open(datapath.Options{PinPath: opts.PinPath, Cgroup: opts.Cgroup, Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	found, err := d.Steering()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	tables := table.New(d, found, opts.Logger)
	prober := &reach.Prober{Refused: tables.Refused}
	e, err := enroll.New(enroll.Options{
		Datapath: d, Tables: tables, Cgroup: opts.Cgroup, Interval: opts.CheckInterval, Retry: retryInterval,
		Patience: patience, Prober: prober, Grace: patience, IsNode: dialer.IsNode, Log: opts.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	dialer.Use(d, e.Known)
	a := &Agent{
		opts: opts, log: opts.Logger, started: time.Now(),
		datapath: d, tables: tables, enroller: e, counts: server.NewCounts(), dialer: dialer, turn: turn.New(), served: new(atomic.Bool),
		ready: make(chan struct{}),
	}
	a.useLanes()
	a.server = server.New(&server.Options{
		Lanes: a.lanes, Node: opts.NodeName, ProxyUID: opts.ProxyUID, Roster: e, Ways: e, Dialer: dialer, Ledger: tables,
		Desk: authority.NewDesk(signer, e.Runs, opts.Logger), Note: opts.note, Counts: a.counts, Log: opts.Logger,
	})
	prober.Connected = func() bool { _, _, ok := a.server.Connected(); return ok }
	a.kubelet = kubelet.New(kubelet.Options{
		Cgroup: opts.KubeletCgroup, Attached: opts.Cgroup, PinPath: opts.PinPath, Pods: e.Cgroups, Log: opts.Logger,
	})
	node := conflict.Node{Cgroup: opts.Cgroup, PinPath: opts.PinPath, ConfDir: opts.CNIConfDir}
	a.conflicts = conflicts.New(node, a.loaded, opts.Logger)
	if err := a.join(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return a, nil
}

// prepare fills the defaults in, and does all that is to be done before anything is
// changed but the agent's own directories.
func (o *Options) prepare() (authority.Signer, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	var signer authority.Signer
	if o.Authority.Address != "" {
		o.Authority.Logger = o.Logger
		client, err := authority.New(o.Authority)
		if err != nil {
			return nil, err
		}
		signer = client
	}
	if err := o.sources(); err != nil {
		return nil, err
	}
	if err := errors.Join(ground.CanEnter(), ground.IsBelow(o.Cgroup)); err != nil {
		return nil, err
	}
	return signer, ground.MakeState(o.StateDir, o.ProxyUID)
}

// complete fills the defaults in.
func (o *Options) complete() (err error) {
	if o.PinPath == "" {
		o.PinPath = datapath.DefaultPinPath
	}
	if o.Lane == "" {
		o.Lane = lanes.Auto
	}
	if o.CheckInterval <= 0 {
		o.CheckInterval = time.Minute
	}
	if o.NodeName == "" {
		if o.NodeName, err = os.Hostname(); err != nil {
			return fmt.Errorf("name node: %w", err)
		}
	}
	if o.Cgroup == "" {
		if o.Cgroup, err = datapath.FindCgroupRoot(); err != nil {
			return fmt.Errorf("%w; name a directory of it with --cgroup", err)
		}
	}
	return nil
}

// Run serves until ctx ends or a part fails. Afterwards the agent's sockets are
// closed; pins, steering and the listeners that the proxy holds stay.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Denied addresses must be known before the first dial.
	if err := a.dialer.RefreshNode(a.nodeAddresses()); err != nil {
		return fmt.Errorf("read the node's addresses (set hostPID, or name them by --node-address): %w", err)
	}
	var parts sync.WaitGroup
	run := func(part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				cancel(err)
			}
		})
	}
	run(func() error { return a.watch(ctx) })
	run(func() error { return a.serveProxy(ctx) })
	run(func() error { return admin.Serve(ctx, admin.AgentSocket(a.opts.StateDir), a.handler(), a.log) })
	// What only the active agent does runs by Run or Keep of its turn.
	run(func() error {
		return a.turn.Run(ctx, func(ctx context.Context) error { a.enroller.Run(ctx); return nil })
	})
	run(func() error {
		return a.turn.Run(ctx, func(ctx context.Context) error { a.kubelet.Run(ctx); return nil })
	})
	run(func() error {
		return a.turn.Run(ctx, func(ctx context.Context) error { a.lanes.Run(ctx, a.opts.CheckInterval); return nil })
	})
	run(func() error { a.housekeep(ctx); return nil })
	if a.member != nil {
		run(func() error {
			return a.turn.Keep(ctx, func(ctx context.Context) error { a.member.Run(ctx, a.ready); return nil })
		})
	}
	if a.chain != nil {
		run(func() error { return a.turn.Keep(ctx, a.chain.Run) })
	}
	run(func() error { a.conflicts.Run(ctx, a.opts.CheckInterval); return nil })
	a.log.Info("agent runs", "node", a.opts.NodeName, "cgroup", a.opts.Cgroup, "pinPath", a.opts.PinPath)
	<-ctx.Done()
	parts.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return errors.Join(err, a.close())
	}
	return a.close()
}

// close lets go of all sockets and maps.
func (a *Agent) close() error {
	a.enroller.Close()
	return errors.Join(a.lanes.Close(), a.datapath.Close())
}

// watch enrols what the source tells of, and closes a.ready after the first time.
func (a *Agent) watch(ctx context.Context) error {
	var once sync.Once
	return a.opts.Source.Run(ctx, func(set pods.Set) {
		a.mu.Lock()
		a.problems = set.Problems
		a.mu.Unlock()
		a.enroller.Apply(set)
		once.Do(func() { close(a.ready) })
	})
}

// serveProxy waits until the pods are known: what a proxy gives back must find
// the pod that it belongs to. And until it is decided whether there are lanes.
func (a *Agent) serveProxy(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.ready:
		a.lanes.Decide(ctx)
		return a.server.Run(ctx, handoff.Socket(a.opts.StateDir))
	}
}

// housekeep follows the node's addresses and forgets what is no more.
func (a *Agent) housekeep(ctx context.Context) {
	tick := time.NewTicker(nodeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := a.dialer.RefreshNode(a.nodeAddresses()); err != nil {
				a.log.Warn("read the node's addresses", "error", err)
			}
			a.dialer.Forget()
			a.lanes.Kept.Forget(func(uid string) bool { return a.enroller.Workload(uid) != nil })
		}
	}
}
