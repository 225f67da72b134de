package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/dubway/dubway/agent/chain"
	"github.com/dubway/dubway/agent/cluster"
	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/agent/leaving"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/admin"
)

// errChain refuses to make pods wait for an agent that could not be asked, or could not
// know them.
var errChain = errors.New("the CNI plugin asks for pods of the API server, at a socket that outlives agents: " +
	"it needs --kubernetes or --kubeconfig, and --node-dir; or say --cni=off")

// sources finds who tells of pods, before anything is changed on this machine.
func (o *Options) sources() error {
	if o.CNI != nil && (o.Kubernetes == nil || o.NodeDir == "") {
		return errChain
	}
	if o.Source != nil {
		return nil
	}
	if o.Kubernetes == nil {
		if _, err := os.ReadDir(o.Workloads); err != nil {
			return fmt.Errorf("read workloads: %w", err)
		}
		o.Source = pods.NewDirectory(o.Workloads, o.Logger)
		return nil
	}
	own := *o.Kubernetes
	own.Node, own.Logger = o.NodeName, o.Logger
	c, err := cluster.New(cluster.Options{Kubernetes: own, Cgroup: o.Cgroup, StateDir: o.StateDir, Log: o.Logger})
	if err != nil {
		return err
	}
	o.cluster, o.Source = c, c.Source()
	return nil
}

// join makes this turn's part of the cluster, and of the node's CNI chain.
func (a *Agent) join() (err error) {
	if a.opts.cluster == nil {
		return nil
	}
	a.member = a.opts.cluster.Join(a.enroller, a.server.Desk.Holds, a.conflicts.Found)
	a.chain, err = a.opts.chain(a.member.Sandboxes())
	return err
}

// chain returns nil where no plugin is chained.
func (o *Options) chain(sandboxes cniserver.Pods) (*chain.Chain, error) {
	if o.CNI == nil {
		return nil, nil
	}
	return chain.New(chain.Options{NodeDir: o.NodeDir, Pods: sandboxes, Install: *o.CNI, Log: o.Logger})
}

// steps are what is undone before pods are withdrawn: new ones start without us, and
// neighbours stop to encrypt.
func (a *Agent) steps() []leaving.Step {
	steps := unchain(a.chain)
	if a.member != nil {
		steps = append(steps, leaving.Step{Name: "neighbours send plaintext to the node's pods", Do: a.member.Unmark})
	}
	return steps
}

// nodeAddresses are those that the flags and the API server tell of.
func (a *Agent) nodeAddresses() []netip.Addr {
	if a.opts.cluster == nil {
		return a.opts.NodeAddresses
	}
	return slices.Concat(a.opts.NodeAddresses, a.opts.cluster.NodeAddresses())
}

// sourceStatus fills in what is known of the source, and says what its problems are of.
func (a *Agent) sourceStatus(s *admin.AgentStatus) (named string) {
	if a.member == nil {
		named, s.Source = "workload file ", admin.Source{Kind: admin.SourceFiles, From: a.opts.Workloads, Synced: true}
		return named
	}
	s.Source, s.Problems = a.opts.cluster.Status()
	s.Problems = append(s.Problems, a.member.Problems()...)
	return ""
}
