package agent

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/dubway/dubway/agent/cluster"
	"github.com/dubway/dubway/agent/cniserver"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/internal/admin"
)

// sources finds who tells of pods, before anything is changed on this machine. The
// Cluster is nil where it is files.
func (o *Options) sources() (*cluster.Cluster, error) {
	if o.Kubernetes == nil {
		if _, err := os.ReadDir(o.Workloads); err != nil {
			return nil, fmt.Errorf("read workloads: %w", err)
		}
		return nil, nil
	}
	own := *o.Kubernetes
	own.Node, own.Logger = o.NodeName, o.Logger
	return cluster.New(cluster.Options{Kubernetes: own, Cgroup: o.Cgroup, StateDir: o.StateDir, Log: o.Logger})
}

// source tells of pods.
func (a *Agent) source() pods.Source {
	if a.cluster == nil {
		return pods.NewDirectory(a.opts.Workloads, a.log)
	}
	return a.cluster.Source()
}

// Sandboxes answers the CNI plugin; nil where pods come from files.
func (a *Agent) Sandboxes() cniserver.Pods {
	if a.cluster == nil {
		return nil
	}
	return a.cluster.Sandboxes()
}

// nodeAddresses are those that the flags and the API server tell of.
func (a *Agent) nodeAddresses() []netip.Addr {
	if a.cluster == nil {
		return a.opts.NodeAddresses
	}
	return slices.Concat(a.opts.NodeAddresses, a.cluster.NodeAddresses())
}

// sourceStatus fills in what is known of the source, and says what its problems are of.
func (a *Agent) sourceStatus(s *admin.AgentStatus) (named string) {
	if a.cluster == nil {
		named, s.Source = "workload file ", admin.Source{Kind: admin.SourceFiles, From: a.opts.Workloads, Synced: true}
	} else {
		s.Source, s.Problems = a.cluster.Status()
	}
	select {
	case <-a.ready:
	default:
		s.NotReady = "pods are not known yet"
		if s.Source.Waiting != "" {
			s.NotReady += ": " + s.Source.Waiting
		}
	}
	return named
}
