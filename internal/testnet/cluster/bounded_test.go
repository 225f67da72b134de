//go:build e2e

package cluster_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// bounded fails the test unless each agent knows its node by name and by cgroup, and its programs
// are attached to that node alone: not to the other one, the machine or the control plane.
func (w *world) bounded() {
	w.Helper()
	for _, n := range w.Nodes {
		var status struct{ Agent admin.AgentStatus }
		w.must(json.Unmarshal([]byte(w.kubectl("exec", "-n="+system, w.agent(n.Name).Name, "-c=agent", "--", "dubwayctl", "status", "-o=json")), &status))
		if status.Agent.Node != n.Name || status.Agent.Cgroup != "/host/cgroup" {
			w.Errorf("the agent on %s says it is on %q, with the cgroup %q", n.Name, status.Agent.Node, status.Agent.Cgroup)
		}
	}
	root, err := machine.Cgroup2()
	w.must(err)
	all := attached(w.T, root)
	for _, n := range w.Nodes {
		own := attached(w.T, w.cgroup(n))
		if len(own) == 0 {
			w.Errorf("nothing is attached to %s", n.Name)
		}
		for _, id := range own {
			if slices.Contains(all, id) {
				w.Errorf("program %d is attached to %s, and elsewhere", id, n.Name)
			}
		}
		all = append(all, own...)
	}
	if others := attached(w.T, filepath.Join(root, "kt-cp")); len(others) > 0 {
		w.Errorf("programs %v are attached to the control plane's computer", others)
	}
}

// cgroup is that of a whole node.
func (w *world) cgroup(n *cluster.Node) string {
	w.Helper()
	root, err := machine.Cgroup2()
	w.must(err)
	return filepath.Join(root, "kt-"+n.Name)
}

// attached returns the programs that see connects of IPv4 of exactly this cgroup.
func attached(t *testing.T, cgroup string) []ebpf.ProgramID {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: ebpf.AttachCGroupInet4Connect})
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for _, program := range found.Programs {
		ids = append(ids, program.ID)
	}
	return ids
}
