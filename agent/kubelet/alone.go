package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dubway/dubway/agent/datapath/host"
)

// podsPrefix begins the name of the cgroup that kubelet makes for all pods: kubepods, or
// kubepods.slice below systemd.
const podsPrefix = "kubepods"

// depth is how far below kubelet's cgroup pods are looked for. Kubelet makes theirs
// below the root, or below its --cgroup-root.
const depth = 3

// fix is how what is wrong with a cgroup is put right.
const fix = "probes of enrolled ports are taken as anybody's connections; fix: run kubelet in a cgroup of its own, " +
	"such as a systemd unit has"

// alone refuses a cgroup in which more than kubelet runs: whatever is in it or below it
// passes for kubelet.
func alone(cgroup string, pods []string) error {
	if err := host.CheckCgroup(cgroup); err != nil {
		return err
	}
	if host.IsRoot(cgroup) {
		return errors.New("it is the root, in which every process of the node would pass for kubelet: " + fix)
	}
	for _, pod := range pods {
		if host.Below(pod, cgroup) {
			return fmt.Errorf("the pod of %s is below it, and would pass for kubelet: %s", pod, fix)
		}
	}
	return noPods(cgroup, depth)
}

// noContainers refuses a cgroup in which processes of containers are: of a runtime that
// puts them into cgroups of version 1 only, those of k3s stay where k3s is. One that is
// being made may pass through, while wait waits.
func noContainers(proc, cgroup string, wait func()) error {
	found := containers(proc, cgroup)
	if len(found) == 0 {
		return nil
	}
	wait()
	for _, pid := range containers(proc, cgroup) {
		if slices.Contains(found, pid) {
			return fmt.Errorf("process %s of a container is in it, and would pass for kubelet: %s", pid, fix)
		}
	}
	return nil
}

// containers returns the processes of a cgroup that are of containers: in a namespace of
// processes of their own, or in a pod's cgroup of another hierarchy.
func containers(proc, cgroup string) (found []string) {
	pids, _ := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(pids)) {
		status, err := os.ReadFile(filepath.Join(proc, pid, "status"))
		cgroups, _ := os.ReadFile(filepath.Join(proc, pid, "cgroup"))
		if err == nil && (!ours(string(status)) || strings.Contains(string(cgroups), "/"+podsPrefix)) {
			found = append(found, pid)
		}
	}
	return found
}

// noPods refuses a directory with pods' cgroups below it, whether the agent knows of
// them or not.
func noPods(dir string, left int) error {
	if strings.HasPrefix(filepath.Base(dir), podsPrefix) {
		return fmt.Errorf("%s holds pods, which would pass for kubelet: %s", dir, fix)
	}
	if left == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		if err := noPods(filepath.Join(dir, entry.Name()), left-1); err != nil {
			return err
		}
	}
	return nil
}
