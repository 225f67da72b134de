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
	"time"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/conflicts"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
)

// Options of an Agent. StateDir, Workloads and Logger must be given.
type Options struct {
	StateDir      string            // holds the sockets of both processes
	PinPath       string            // where the datapath is pinned; datapath.DefaultPinPath
	Cgroup        string            // where the programs are attached; the host's cgroup2 root
	Workloads     string            // directory of workload files
	NodeName      string            // for people and labels; the host's name
	NodeAddresses []netip.Addr      // of the node, beside those of its network namespace
	ProxyUID      int               // the user, and the group, that dubway-proxy runs as
	CheckInterval time.Duration     // between checks that enrolled pods still are; one minute
	CNIConfDir    string            // the node's CNI configurations, looked at for conflicts; none without it
	Authority     authority.Options // whom certificates are asked of; none without its Address
	Logger        *slog.Logger
}

const (
	retryInterval = 5 * time.Second  // attempts to enrol what is not
	nodeInterval  = 10 * time.Second // reading the node's addresses
	patience      = 30 * time.Second // for the proxy to come back after our restart
)

// Agent is a running agent.
type Agent struct {
	opts     Options
	log      *slog.Logger
	started  time.Time
	datapath *datapath.Datapath
	tables   *table.Tables
	enroller *enroll.Enroller
	dialer   *dialer
	server   *server
	counts   *counts
	// conflicts are looked for from the moment on when our programs are there.
	conflicts *conflicts.Watch

	mu       sync.Mutex
	problems []pods.Problem // of the workload files
}

// New checks the machine, loads or adopts the datapath and makes the state
// directory. It enrols nobody before Run.
func New(opts Options) (*Agent, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	var signer authority.Signer
	if opts.Authority.Address != "" {
		opts.Authority.Logger = opts.Logger
		client, err := authority.New(opts.Authority)
		if err != nil {
			return nil, err
		}
		signer = client
	}
	// Before anything is changed on this machine.
	if _, err := os.ReadDir(opts.Workloads); err != nil {
		return nil, fmt.Errorf("read workloads: %w", err)
	}
	if err := errors.Join(canEnter(), isBelow(opts.Cgroup)); err != nil {
		return nil, err
	}
	if err := makeState(opts.StateDir, opts.ProxyUID); err != nil {
		return nil, err
	}
	dialer := newDialer(nil, nil)
	// Denied addresses must be known before the first dial.
	if err := dialer.refreshNode(opts.NodeAddresses); err != nil && len(opts.NodeAddresses) == 0 {
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
	e, err := enroll.New(enroll.Options{
		Datapath: d, Tables: tables, Cgroup: opts.Cgroup, Interval: opts.CheckInterval,
		Retry: retryInterval, Patience: patience, IsNode: dialer.isNode, Log: opts.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	dialer.mark, dialer.workload = d, e.Workload
	a := &Agent{
		opts: opts, log: opts.Logger, started: time.Now(),
		datapath: d, tables: tables, enroller: e, counts: newCounts(), dialer: dialer,
	}
	a.server = &server{
		node: opts.NodeName, proxyUID: opts.ProxyUID, enroller: e, dialer: a.dialer,
		tables: tables, counts: a.counts, log: opts.Logger,
	}
	node := conflict.Node{Cgroup: opts.Cgroup, PinPath: opts.PinPath, ConfDir: opts.CNIConfDir}
	a.conflicts = conflicts.New(node, d, opts.Logger)
	a.server.desk = authority.NewDesk(signer, e.Runs, opts.Logger)
	return a, nil
}

// complete fills the defaults in.
func (o *Options) complete() (err error) {
	if o.PinPath == "" {
		o.PinPath = datapath.DefaultPinPath
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
	if err := a.dialer.refreshNode(a.opts.NodeAddresses); err != nil {
		return fmt.Errorf("read the node's addresses (set hostPID, or name them by --node-address): %w", err)
	}
	ready := make(chan struct{})
	var parts sync.WaitGroup
	run := func(part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				cancel(err)
			}
		})
	}
	run(func() error { return a.watch(ctx, ready) })
	run(func() error { return a.serveProxy(ctx, ready) })
	run(func() error { return admin.Serve(ctx, admin.AgentSocket(a.opts.StateDir), a.handler(), a.log) })
	run(func() error { a.enroller.Run(ctx); return nil })
	run(func() error { a.housekeep(ctx); return nil })
	run(func() error { a.conflicts.Run(ctx, a.opts.CheckInterval); return nil })
	a.log.Info("agent runs", "node", a.opts.NodeName, "cgroup", a.opts.Cgroup, "pinPath", a.opts.PinPath)
	<-ctx.Done()
	parts.Wait()
	a.enroller.Close()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return errors.Join(err, a.datapath.Close())
	}
	return a.datapath.Close()
}

// watch enrols what the source tells of, and closes ready after the first time.
func (a *Agent) watch(ctx context.Context, ready chan struct{}) error {
	var once sync.Once
	return pods.NewDirectory(a.opts.Workloads, a.log).Run(ctx, func(set pods.Set) {
		a.mu.Lock()
		a.problems = set.Problems
		a.mu.Unlock()
		a.enroller.Apply(set)
		once.Do(func() { close(ready) })
	})
}

// serveProxy waits until the pods are known: what a proxy gives back must find
// the pod that it belongs to.
func (a *Agent) serveProxy(ctx context.Context, ready chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-ready:
		return a.server.run(ctx, handoff.Socket(a.opts.StateDir))
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
			if err := a.dialer.refreshNode(a.opts.NodeAddresses); err != nil {
				a.log.Warn("read the node's addresses", "error", err)
			}
			a.dialer.quota.forget(func(uid string) bool { return a.enroller.Workload(uid) != nil })
		}
	}
}
