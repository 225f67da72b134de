// Package process finds a pod on its node by what the kernel shows: its cgroup by the
// pod's UID, which the kubelet puts into the directory's name, and its network namespace
// by the processes in there. It asks neither the API server nor the container runtime,
// and changes nothing.
//
// It needs the host's processes (hostPID), the host's cgroup2 hierarchy or the node's
// part of it, and CAP_SYS_PTRACE: without it the kernel shows nobody the namespaces of
// a process that has capabilities which the reader has not.
package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Finder looks below one cgroup2 directory. Safe for concurrent use.
type Finder struct {
	cgroup string
	proc   string
}

// New makes a Finder that looks at and below a cgroup2 directory, where the programs are
// attached: what runs elsewhere is no pod of this node.
func New(cgroup string) *Finder { return &Finder{cgroup: cgroup, proc: "/proc"} }

// View is one look at the hierarchy. What it does not find it looks for in /proc, once.
// It is for one goroutine.
type View struct {
	finder *Finder
	pods   map[string]string // directory by UID
	base   string            // of all pods' directories, "" if there is none

	looked bool             // at /proc
	named  map[string][]int // processes by UID, as any hierarchy names them
	places map[int]string   // directory by process, of the whole subtree
}

// Look reads the tree of directories, without those of containers.
func (f *Finder) Look() (*View, error) {
	v := &View{finder: f, pods: make(map[string]string)}
	if err := v.walk(f.cgroup); err != nil {
		return nil, fmt.Errorf("look for pods' cgroups: %w", err)
	}
	return v, nil
}

func (v *View) walk(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != v.finder.cgroup {
		return nil // gone since it was listed
	}
	if err != nil {
		return fmt.Errorf("list cgroup: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if uid := podOf(e.Name()); uid != "" {
			v.pods[uid] = path
			continue
		}
		if v.base == "" && (e.Name() == "kubepods" || e.Name() == "kubepods.slice") {
			v.base = path
		}
		if err := v.walk(path); err != nil {
			return err
		}
	}
	return nil
}

// podOf returns the UID that a cgroup's name has: podUID of the cgroupfs driver,
// kubepods-burstable-podUID.slice of systemd's, with _ for -. "" for other names.
func podOf(name string) string {
	uid, plain := strings.CutPrefix(name, "pod")
	if !plain {
		slice, ok := strings.CutSuffix(name, ".slice")
		at := strings.LastIndex(slice, "-pod")
		if !ok || at < 0 {
			return ""
		}
		uid = strings.ReplaceAll(slice[at+len("-pod"):], "_", "-")
	}
	// A UUID, or the 32 digits that a static pod has.
	if len(uid) < 32 || strings.ContainsFunc(uid, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef-", r) }) {
		return ""
	}
	return uid
}

// Place is where a pod is.
type Place struct {
	// Cgroup is the pod's directory. Where the runtime makes none in cgroup2, or has not
	// yet, it is the deepest directory above that is known.
	Cgroup string
	// PIDs are the pod's processes, the oldest first: the sandbox, which has the pod's
	// network namespace. None: it runs nothing.
	PIDs []int
	// Started is when the oldest was, since the machine's boot.
	Started time.Duration
}

// Find returns where a pod is. An error says that its processes run where the programs
// do not.
func (v *View) Find(uid string) (Place, error) {
	if dir := v.pods[uid]; dir != "" {
		// Containers may be elsewhere for all that: then this is empty.
		if place := v.finder.byAge(procs(dir)); len(place.PIDs) > 0 {
			place.Cgroup = dir
			return place, nil
		}
	}
	if err := v.look(); err != nil {
		return Place{}, err
	}
	place := v.finder.byAge(v.named[uid])
	place.Cgroup = v.above(uid)
	if len(place.PIDs) == 0 {
		return place, nil
	}
	dir, ok := v.places[place.PIDs[0]]
	if !ok {
		return Place{}, fmt.Errorf("its process %d runs outside of cgroup %s, where the programs are attached; "+
			"fix: attach to one above with --cgroup", place.PIDs[0], v.finder.cgroup)
	}
	place.Cgroup = dir
	return place, nil
}

// above is the deepest known directory of a pod that runs nothing.
func (v *View) above(uid string) string {
	switch {
	case v.pods[uid] != "":
		return v.pods[uid]
	case v.base != "":
		return v.base
	default:
		return v.finder.cgroup
	}
}

// Pods are the UIDs of all pods that have a cgroup.
func (v *View) Pods() map[string]string { return v.pods }
