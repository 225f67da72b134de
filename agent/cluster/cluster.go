// Package cluster is what an agent has in Kubernetes in place of a directory of files: the
// API server's word on pods, joined with the node's own (package roster), the CNI plugin's
// questions (sandbox), and reports (report). It puts them together and runs them; what
// each does is its own business.
package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/pods/kube"
	"github.com/dubway/dubway/agent/pods/roster"
	"github.com/dubway/dubway/agent/report"
	"github.com/dubway/dubway/agent/sandbox"
	"github.com/dubway/dubway/internal/admin"
)

// Options of a Cluster.
type Options struct {
	Kubernetes kube.Options // with Node and Logger
	Cgroup     string       // where the programs are attached
	StateDir   string       // where the agent keeps what it was told
	Log        *slog.Logger
}

// Cluster is the agent's part in one, for all of its turns. Its methods may be called
// concurrently.
type Cluster struct {
	opts   Options
	api    *kube.API
	roster *roster.Roster

	mu        sync.Mutex
	addresses []netip.Addr // of the node, by the API server
}

// addressInterval is between two questions for the node's addresses.
const addressInterval = 30 * time.Second

// New makes the client of the API server. It asks nothing yet.
func New(opts Options) (*Cluster, error) {
	if !slices.Contains(host.Capabilities(), "CAP_SYS_PTRACE") {
		return nil, errors.New("look at the namespaces of pods' processes: CAP_SYS_PTRACE is missing; " +
			"fix: add SYS_PTRACE to the agent's capabilities")
	}
	api, err := kube.New(opts.Kubernetes)
	if err != nil {
		return nil, err
	}
	return &Cluster{opts: opts, api: api, roster: roster.New(roster.Options{
		API: api, Cgroup: opts.Cgroup, Kept: filepath.Join(opts.StateDir, "agent", "pods.json"), Log: opts.Log,
	})}, nil
}

// Source tells of the node's pods.
func (c *Cluster) Source() pods.Source { return c.roster }

// Member is a Cluster's part in one turn of the agent. Its methods may be called
// concurrently.
type Member struct {
	cluster  *Cluster
	reporter *report.Reporter
	keeper   *sandbox.Keeper
}

// Join begins a turn. It is told who enrols, what tells whether the proxy has a certificate
// of an account, and what gets in the mesh's way on the node.
func (c *Cluster) Join(e *enroll.Enroller, holds func(namespace, account string) bool, found func() []admin.Conflict) *Member {
	return &Member{
		cluster: c,
		reporter: report.New(report.Options{
			API: c.api, Enrolment: e, Holds: holds, Found: found, Own: c.opts.Kubernetes.Own, Log: c.opts.Log,
		}),
		keeper: &sandbox.Keeper{API: c.api, Roster: c.roster, Enroller: e},
	}
}

// Sandboxes answers the CNI plugin.
func (m *Member) Sandboxes() cniserver.Pods { return m.keeper }

// Unmark takes the label away by which neighbours encrypt to the node's pods, and returns
// when they have had time to hear of it. It is for who is about to withdraw all of them.
func (m *Member) Unmark(ctx context.Context) error { return m.reporter.Leave(ctx) }

// Problems are what could not be reported.
func (m *Member) Problems() []string { return m.reporter.Problems() }

// Run reports, once pods have been tried (ready), and follows the node's addresses, until
// ctx ends. It is called once.
func (m *Member) Run(ctx context.Context, ready <-chan struct{}) {
	var parts sync.WaitGroup
	parts.Go(func() {
		select {
		case <-ctx.Done():
		case <-ready:
			m.reporter.Run(ctx)
		}
	})
	parts.Go(func() {
		tick := time.NewTicker(addressInterval)
		defer tick.Stop()
		for ctx.Err() == nil {
			m.cluster.askAddresses(ctx)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	parts.Wait()
}

// askAddresses keeps what was known where the API server does not answer: the status says
// that it is away.
func (c *Cluster) askAddresses(ctx context.Context) {
	all, err := c.api.NodeAddresses(ctx)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addresses = all
}

// NodeAddresses are those that the API server told of.
func (c *Cluster) NodeAddresses() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.addresses)
}

// Status tells how things are with the API server, and what an operator should do.
func (c *Cluster) Status() (s admin.Source, problems []string) {
	s = admin.Source{Kind: admin.SourceKubernetes, From: c.api.Server(), Synced: true}
	if err := c.api.Synced(); err != nil {
		s.Synced, s.Waiting = false, err.Error()
	}
	if p := c.api.Problem(); p != "" {
		problems = append(problems, p)
	}
	return s, problems
}
