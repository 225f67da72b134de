package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// pretended are sysctls of the whole kernel that a kubelet wants to set. It gets plain
// files in their place.
var pretended = []string{"vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"}

// mounting is one mount of a machine.
type mounting struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// furnish gives the machine its name, loopback's sysctls and its mounts. It runs within
// the machine's namespaces.
func (m *Machine) furnish() error {
	if err := unix.Sethostname([]byte(m.options.Name)); err != nil {
		return fmt.Errorf("name machine: %w", err)
	}
	aside := filepath.Join(m.options.Dir, "aside")
	disk := func(part string) string { return filepath.Join(m.options.Dir, part) }
	all := []mounting{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""}, // nothing of this leaves the machine
		{"/sys/fs/cgroup", filepath.Join(aside, "cgroup"), "", unix.MS_BIND | unix.MS_REC, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{filepath.Join(aside, "cgroup"), "/sys/fs/cgroup", "", unix.MS_MOVE, ""},
		{"bpf", "/sys/fs/bpf", "bpf", 0, "mode=700"},
		{"proc", "/proc", "proc", 0, ""},
		{"run", "/run", "tmpfs", 0, "mode=755"},
		{"etc", "/etc", "overlay", 0, fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", disk("etc"), filepath.Join(aside, "etc"))},
		{disk("opt"), "/opt", "", unix.MS_BIND, ""},
		{disk("var/lib"), "/var/lib", "", unix.MS_BIND, ""},
		{disk("var/log"), "/var/log", "", unix.MS_BIND, ""},
	}
	for _, sysctl := range pretended {
		file := filepath.Join(aside, filepath.Base(sysctl))
		text, err := os.ReadFile(filepath.Join("/proc/sys", sysctl))
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("pretend sysctl: %w", err)
		}
		all = append(all, mounting{file, filepath.Join("/proc/sys", sysctl), "", unix.MS_BIND, ""})
	}
	// Containers may ask for mounts that travel.
	all = append(all, mounting{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""})
	for _, one := range all {
		if err := one.mount(); err != nil {
			return fmt.Errorf("mount %s: %w", one.target, err)
		}
	}
	return nil
}

func (m *mounting) mount() error {
	if m.kind == "proc" {
		// It shows the processes that the mounting process sees, and this thread is none of
		// the machine's: its children are.
		if said, err := exec.Command("mount", "-t", "proc", "proc", m.target).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		return nil
	}
	return unix.Mount(m.source, m.target, m.kind, m.flags, m.data)
}

// Cgroup2 returns where cgroup2 is mounted.
func Cgroup2() (string, error) { return firstMount("cgroup2") }

// hierarchies returns where cgroup2 and the hierarchies of version 1 are mounted.
func hierarchies() ([]string, error) {
	two, err := mountsOf("cgroup2")
	if err != nil {
		return nil, err
	}
	one, err := mountsOf("cgroup")
	return append(two, one...), err
}

func firstMount(kind string) (string, error) {
	all, err := mountsOf(kind)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: no %s is mounted (mount -t cgroup2 none /sys/fs/cgroup)", errors.ErrUnsupported, kind)
	}
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// mountsOf returns the mount points of a kind of file system.
func mountsOf(kind string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(text)) {
		// Others than the usual place are somebody's test.
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == kind && strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			points = append(points, fields[1])
		}
	}
	return points, nil
}
