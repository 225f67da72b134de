package enroll

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/agent/pods"
)

// Class is a kind of refusal, for metrics.
type Class string

// The reasons for which a pod is not enrolled.
const (
	ClassExcluded     Class = "excluded" // its source says that it cannot be captured
	ClassHostNetwork  Class = "host_network"
	ClassNetns        Class = "netns"         // its network namespace cannot be used
	ClassCgroup       Class = "cgroup"        // it runs outside of our programs
	ClassListener     Class = "listener"      // 15001 or 15006 cannot be opened
	ClassWaiting      Class = "waiting"       // after a restart, for the proxy
	ClassNotEffective Class = "not_effective" // another agent detached or outranks us
	ClassDatapath     Class = "datapath"      // such as a full map
	ClassConflict     Class = "conflict"      // another pod has its address or namespace
	ClassBroken       Class = "broken"        // was enrolled, cannot be checked any more
	ClassWithdrawn    Class = "withdrawn"     // the mesh leaves the node
	ClassUnreached    Class = "unreached"     // steered, but the proxy does not answer over its data path
	ClassUnconfigured Class = "unconfigured"  // reached, but what it sees of the mesh is not in force
)

// Refusal says why a pod is not enrolled.
type Refusal struct {
	Class Class
	Err   error
}

// Error returns the reason.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// errWaiting is the state of a pod whose listeners the proxy holds since an
// earlier agent.
var errWaiting = errors.New("its listeners are still with the proxy, which has not reconnected yet")

// admit refuses what could not work, from the description alone.
func (e *Enroller) admit(pod *pods.Pod) error {
	if pod.Excluded != "" {
		return &Refusal{Class: ClassExcluded, Err: errors.New(pod.Excluded)}
	}
	if pod.Missing != "" {
		return &Refusal{Class: ClassNetns, Err: errors.New(pod.Missing)}
	}
	if err := below(pod.Cgroup, e.opts.Cgroup); err != nil {
		return &Refusal{Class: ClassCgroup, Err: err}
	}
	for uid, s := range e.snapshot() {
		if uid == pod.UID || s.workload == nil {
			continue
		}
		for _, a := range pod.Addresses {
			if slices.Contains(s.workload.Pod.Addresses, a) {
				return &Refusal{Class: ClassConflict, Err: fmt.Errorf("its address %s is already that of %s", a, uid)}
			}
		}
	}
	return nil
}

// below tells whether cgroup is a cgroup2 directory at or below the place where
// the programs are attached. Others run in no hook of ours.
func below(cgroup, attached string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroup, &st); err != nil {
		return fmt.Errorf("find cgroup %s: %w", cgroup, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("cgroup %s is not on a cgroup2 file system", cgroup)
	}
	path, err := filepath.EvalSymlinks(cgroup)
	if err != nil {
		return fmt.Errorf("find cgroup: %w", err)
	}
	root, err := filepath.EvalSymlinks(attached)
	if err != nil {
		return fmt.Errorf("find cgroup: %w", err)
	}
	if path != root && !strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/") {
		return fmt.Errorf("cgroup %s is not below %s, where the programs are attached", cgroup, attached)
	}
	return nil
}

// isolated refuses a network namespace that is not the pod's own: the mesh would
// take the whole node's connections.
func (e *Enroller) isolated(ns *netns.Namespace) error {
	if e.host[ns.ID()] {
		return &Refusal{Class: ClassHostNetwork, Err: errors.New("the pod uses the host's network")}
	}
	addresses, err := ns.Addresses()
	if err != nil {
		return &Refusal{Class: ClassNetns, Err: err}
	}
	for _, a := range addresses {
		if e.opts.IsNode != nil && a.IsGlobalUnicast() && e.opts.IsNode(a) {
			return &Refusal{Class: ClassHostNetwork, Err: fmt.Errorf("the pod uses the host's network: it has %s", a)}
		}
	}
	return nil
}
