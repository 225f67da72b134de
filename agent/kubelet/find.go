package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/dubway/dubway/agent/datapath/host"
)

// names are those of kubelet's process, the likeliest first: its own, and those of
// distributions that run it with more in one process (k3s, RKE2, MicroK8s, OpenShift 3).
// The kernel cuts names at 15 bytes.
var names = []string{"kubelet", "k3s-server", "k3s-agent", "kubelite", "hyperkube", "k3s"}

// maxDirs bounds the search for a cgroup, in directories.
const maxDirs = 20000

// place is a process and its cgroup.
type place struct {
	pid    int
	cgroup string // directory, as this process can open it
}

// finder finds kubelet. Not for concurrent use.
type finder struct {
	proc  string // where procfs is
	bases []string
	last  place
}

// newFinder makes a finder that looks for cgroups below a directory and below the host's
// root, if that is another one and in reach.
func newFinder(proc, attached string) *finder {
	f := &finder{proc: proc, bases: []string{attached}}
	if root, err := host.FindCgroupRoot(); err == nil && root != attached {
		f.bases = append(f.bases, root)
	}
	return f
}

// find returns kubelet's place. The last one is looked at first, which costs a few reads,
// if it is where ours would be.
func (f *finder) find() (place, error) {
	if f.last.pid != 0 && f.isNear(f.last) && f.isKubelet(f.last.pid) >= 0 && holds(f.last.cgroup, f.last.pid) {
		return f.last, nil
	}
	f.last = place{}
	pids, err := f.candidates()
	if err != nil {
		return f.last, err
	}
	var found []place
	for _, pid := range pids {
		cgroup, err := f.cgroupOf(pid)
		if err != nil {
			return f.last, err
		}
		if cgroup != "" && !slices.ContainsFunc(found, func(p place) bool { return p.cgroup == cgroup }) {
			found = append(found, place{pid, cgroup})
		}
	}
	// On a machine with several nodes, ours is below where our programs are.
	if slices.ContainsFunc(found, f.isNear) {
		found = slices.DeleteFunc(found, func(p place) bool { return !f.isNear(p) })
	}
	switch {
	case len(pids) == 0:
		return f.last, ErrNone
	case len(found) == 0:
		return f.last, fmt.Errorf("the cgroup of kubelet (pid %d) is not below %s: probes of enrolled ports are taken as anybody's "+
			"connections; fix: mount more of the host's cgroup2 hierarchy, or name kubelet's with --kubelet-cgroup",
			pids[0], strings.Join(f.bases, ", "))
	case len(found) > 1:
		return f.last, fmt.Errorf("several processes look like kubelet, among them %d in %s and %d in %s: probes of enrolled ports are "+
			"taken as anybody's connections; fix: name kubelet's with --kubelet-cgroup",
			found[0].pid, found[0].cgroup, found[1].pid, found[1].cgroup)
	}
	f.last = found[0]
	return f.last, nil
}

// isNear tells whether a place is below the cgroup that the datapath is attached to.
func (f *finder) isNear(p place) bool { return host.Below(p.cgroup, f.bases[0]) }

// candidates returns the processes that may be kubelet, all of one name.
func (f *finder) candidates() ([]int, error) {
	entries, err := os.ReadDir(f.proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []int
	best := len(names)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		switch rank := f.isKubelet(pid); {
		case rank < 0 || rank > best:
		case rank < best:
			best, found = rank, []int{pid}
		default:
			found = append(found, pid)
		}
	}
	return found, nil
}

// isKubelet returns the rank of a process's name, -1 if it is not kubelet. A pod may call
// its process what it likes: kubelet is root's, in no process namespace within ours, and
// in no pod's cgroup.
func (f *finder) isKubelet(pid int) int {
	dir := filepath.Join(f.proc, strconv.Itoa(pid))
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return -1
	}
	rank := slices.Index(names, string(bytes.TrimSpace(comm)))
	if rank < 0 {
		return -1
	}
	info, err := os.Stat(dir)
	if err != nil {
		return -1
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		return -1
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil || !ours(string(status)) {
		return -1
	}
	cgroups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil || strings.Contains(string(cgroups), "/"+podsPrefix) {
		return -1
	}
	return rank
}

// ours tells from /proc/PID/status whether a process is in this process's own namespace
// of processes: there it has one number, further in more than one.
func ours(status string) bool {
	for line := range strings.Lines(status) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(numbers)) == 1
		}
	}
	return false
}

// cgroupOf returns the cgroup2 directory of a process, "" if it is out of reach. What
// /proc says begins at the root of our own cgroup namespace, which in a container is
// nobody's mount: what it says is tried, and else the process is looked for.
func (f *finder) cgroupOf(pid int) (string, error) {
	text, err := os.ReadFile(filepath.Join(f.proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return "", fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	said, found := "", false
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			said, found = path, true
		}
	}
	if !found {
		return "", fmt.Errorf("kubelet (pid %d) is in no cgroup2, only in cgroups of version 1: probes of enrolled ports are taken as "+
			"anybody's connections; fix: mount cgroup2 on the node before kubelet starts", pid)
	}
	for strings.HasPrefix(said, "/..") {
		said = said[len("/.."):]
	}
	for _, base := range f.bases {
		if dir := filepath.Join(base, said); holds(dir, pid) {
			return dir, nil
		}
	}
	for _, base := range f.bases {
		if dir := search(base, pid); dir != "" {
			return dir, nil
		}
	}
	return "", nil
}

// holds tells whether a process is in a cgroup itself.
func holds(dir string, pid int) bool {
	pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err == nil && slices.Contains(strings.Fields(string(pids)), strconv.Itoa(pid))
}

// errStop ends a walk.
var errStop = errors.New("found")

// search looks for a process in the cgroups below a directory, pods' left out.
func search(base string, pid int) (found string) {
	dirs := 0
	_ = filepath.WalkDir(base, func(dir string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // it went away meanwhile
		case !entry.IsDir():
			return nil
		case strings.HasPrefix(entry.Name(), podsPrefix):
			return fs.SkipDir
		case holds(dir, pid):
			found = dir
			return errStop
		}
		if dirs++; dirs > maxDirs {
			return errStop
		}
		return nil
	})
	return found
}
