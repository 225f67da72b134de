package process

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/agent/netns"
)

// procs returns the processes in a cgroup and below. One that has gone meanwhile has
// none; those of other PID namespaces, which the kernel calls 0, are left out.
func procs(dir string) []int {
	var all []int
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err == nil {
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				all = append(all, pid)
			}
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, procs(filepath.Join(dir, e.Name()))...)
		}
	}
	return all
}

// byAge orders processes, the oldest first, and leaves out those that have ended.
func (f *Finder) byAge(pids []int) (place Place) {
	type process struct {
		pid   int
		start uint64
	}
	all := make([]process, 0, len(pids))
	for _, pid := range pids {
		if start, ok := f.started(pid); ok {
			all = append(all, process{pid, start})
		}
	}
	slices.SortFunc(all, func(a, b process) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid)) })
	for i, p := range all {
		if i == 0 {
			place.Started = time.Duration(p.start) * time.Second / ticks
		}
		place.PIDs = append(place.PIDs, p.pid)
	}
	return place
}

// ticks are in a second, in everything that /proc shows (USER_HZ).
const ticks = 100

// started returns when a process was started, in clock ticks since boot; false for one
// that has ended, also if nobody has collected it yet (proc(5), stat).
func (f *Finder) started(pid int) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join(f.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	// The name in brackets may have anything in it: what counts follows the last one.
	_, rest, ok := bytes.Cut(text[max(bytes.LastIndexByte(text, ')'), 0):], []byte(" "))
	fields := strings.Fields(string(rest))
	const state, starttime = 0, 19 // the third and the 22nd
	if !ok || len(fields) <= starttime || fields[state] == "Z" || fields[state] == "X" {
		return 0, false
	}
	start, err := strconv.ParseUint(fields[starttime], 10, 64)
	return start, err == nil
}

// look reads which pod each process is of in any hierarchy, and where it is in ours.
func (v *View) look() error {
	if v.looked {
		return nil
	}
	entries, err := os.ReadDir(v.finder.proc)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	v.looked, v.named, v.places = true, make(map[string][]int), make(map[int]string)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(v.finder.proc, e.Name(), "cgroup"))
		if err != nil {
			continue // it has ended
		}
		if uid := named(string(text)); uid != "" {
			v.named[uid] = append(v.named[uid], pid)
		}
	}
	v.locate(v.finder.cgroup)
	return nil
}

// named finds a pod's UID in a process's list of cgroups.
func named(text string) string {
	for line := range strings.Lines(text) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if uid := podOf(part); uid != "" {
				return uid
			}
		}
	}
	return ""
}

// locate notes the processes of a directory and of those below.
func (v *View) locate(dir string) {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			v.places[pid] = dir
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			v.locate(filepath.Join(dir, e.Name()))
		}
	}
}

// Netns opens the network namespace of a pod's processes, the oldest first, that accept
// does not refuse: a container may have made one of its own. It is the caller's to close.
func (v *View) Netns(p Place, accept func(*netns.Namespace) error) (*netns.Namespace, error) {
	refused := make(map[netns.ID]bool)
	var why error
	for _, pid := range p.PIDs {
		ns, err := netns.Open(filepath.Join(v.finder.proc, strconv.Itoa(pid), "ns/net"))
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%w; fix: give the agent CAP_SYS_PTRACE", err)
		case err != nil: // it has ended
			continue
		case !refused[ns.ID()]:
			err := accept(ns)
			if err == nil {
				return ns, nil
			}
			refused[ns.ID()] = true
			why = cmp.Or(why, err)
		}
		_ = ns.Close()
	}
	if why == nil {
		why = errors.New("none of its processes runs on this node; fix: set hostPID, or look whether --cgroup is the node's")
	}
	return nil, fmt.Errorf("find network namespace: %w", why)
}

// kernels are programs that run a pod's containers on another kernel than the host's.
var kernels = []string{"runsc", "qemu-system-", "cloud-hypervisor", "firecracker", "stratovirt", "virtiofsd", "dragonball"}

// Foreign returns the name of the program that keeps a pod's containers away from the
// host's kernel, "" if they run on it. Only the oldest process counts: a container may
// well run a virtual machine as its own business.
func (v *View) Foreign(p Place) string {
	if len(p.PIDs) == 0 {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(v.finder.proc, strconv.Itoa(p.PIDs[0]), "cmdline"))
	if err != nil {
		return ""
	}
	first, _, _ := bytes.Cut(text, []byte{0})
	name := filepath.Base(string(first))
	for _, k := range kernels {
		if strings.HasPrefix(name, k) {
			return name
		}
	}
	return ""
}
