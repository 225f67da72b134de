// Package ground is what the agent stands on: the directories of the two processes, and
// whether its own privileges and its own place on the machine are what its work needs.
package ground

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/agent/netns"
)

// MakeState makes the directories of both processes. The agent's passes the
// proxy's group on to its sockets, so that the proxy can read the agent's metrics.
func MakeState(dir string, proxy int) error {
	agentDir, proxyDir := filepath.Join(dir, "agent"), filepath.Join(dir, "proxy")
	if err := errors.Join(
		os.MkdirAll(agentDir, 0o755), own(agentDir, os.Getuid(), proxy), os.Chmod(agentDir, 0o755|os.ModeSetgid),
		os.MkdirAll(proxyDir, 0o755), own(proxyDir, proxy, proxy),
	); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}

// own gives a directory to a user and a group. One that was made so beforehand
// needs no capability.
func own(path string, uid, gid int) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("find owner: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	if err := os.Chown(path, uid, gid); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; fix: give the agent CAP_CHOWN, or make the directory for user %d and group %d", err, uid, gid)
	} else if err != nil {
		return fmt.Errorf("give directory away: %w", err)
	}
	return nil
}

// CanEnter tries what every socket in a pod needs, on our own namespace.
func CanEnter() error {
	own, err := netns.Open(netns.Self)
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	if err := own.Do(func() error { return nil }); err != nil {
		return fmt.Errorf("%w; fix: give the agent CAP_SYS_ADMIN, which setns needs", err)
	}
	return nil
}

// hostCgroupNamespace is the host's own, on every kernel (PROC_CGROUP_INIT_INO).
const hostCgroupNamespace = "cgroup:[4026531835]"

// IsBelow tries whether the agent is below the cgroup that its programs are
// attached to: its own sockets reach what is steered, so they must run for them
// too. In a cgroup namespace it cannot be seen from here; `dubwayctl doctor` on the
// node tells.
func IsBelow(cgroup string) error {
	namespace, _ := os.Readlink("/proc/self/ns/cgroup")
	own, err := host.ProcessCgroup(os.Getpid())
	if namespace != hostCgroupNamespace || err != nil || host.CheckCgroup(cgroup) != nil || host.Below(own, cgroup) {
		return nil //nolint:nilerr // unknown, or another check's to say
	}
	return fmt.Errorf("the agent runs in cgroup %s, which is not below %s; "+
		"fix: start it in a cgroup below that one, or attach to one above its own with --cgroup", own, cgroup)
}
