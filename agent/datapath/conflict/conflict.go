// Package conflict looks on this node for what gets in the mesh's way although every
// feature is there: programs of others at the hooks, owners of the node's CNI folder,
// modes of kube-proxy. It changes nothing; what a machine lacks or denies is package host's.
package conflict

import (
	"slices"

	"github.com/dubway/dubway/agent/datapath/host"
)

// Node says where to look. What cannot be looked at is said in the check that wants it.
type Node struct {
	Cgroup  string   // that the programs are attached to
	PinPath string   // where they are pinned
	ConfDir string   // of CNI configurations, as this process sees it; "" looks at none
	Ours    []uint32 // ids of the mesh's programs; empty if nobody knows them

	proc string // /proc; tests have their own
}

// Find returns what was looked at. Each check that is not OK says what to do; none of
// them keeps the agent from running. The names stay the same: events are made of them.
func Find(n Node) []host.Check {
	if n.proc == "" {
		n.proc = "/proc"
	}
	return slices.Concat(
		[]host.Check{n.attached(), n.sockmaps(), n.pins()}, n.configurations(),
		[]host.Check{n.kubeProxy(), n.bpffs(), n.multipath()},
	)
}

// fine is a check of which nothing is wrong.
func fine(name, found string) host.Check { return host.Check{Name: name, OK: true, Detail: found} }

// unknown is a check that could not be made.
func unknown(name string, err error, fix string) host.Check {
	return host.Check{Name: name, Detail: "cannot tell: " + err.Error(), Fix: fix}
}
