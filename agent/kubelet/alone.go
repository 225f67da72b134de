package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
