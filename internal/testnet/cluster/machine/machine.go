// Package machine is a computer made of Linux's namespaces: processes, network, mounts,
// host name and cgroups of its own, on the kernel and the disk of the machine that it runs
// on. It knows nothing of Kubernetes and makes no links: package cluster does.
//
// A machine's files below DIR outlive its reboots, as on a disk; what is mounted anew with
// each boot is gone with it:
//
//	/etc, an overlay       DIR/etc      /run       a tmpfs
//	/opt                   DIR/opt      /sys       of its own network, with a bpffs of its own
//	/var/lib, /var/log     DIR/var/...  /proc      of its own processes
//
// Its first process ends when the process that booted it does, however that ends, and all
// others end with it. What remains then, DIR and empty cgroups, Sweep removes.
package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what a machine is.
type Options struct {
	Name   string // its host name
	Dir    string // its disk; made when it is not there
	Cgroup string // its subtree of every hierarchy, a plain name
	Init   string // a static program: its first process, which ends when its descriptor 3 does
}

// Machine is a machine that was booted. Its methods are safe for concurrent use, except
// those that boot and halt.
type Machine struct {
	options  Options
	first    *exec.Cmd
	lifeline *os.File // while it is open, the machine runs
}

// Boot boots a machine for the first time. Halt it, then Sweep its cgroup.
func Boot(options Options) (*Machine, error) {
	m := &Machine{options: options}
	for _, part := range []string{"etc", "opt", "var/lib", "var/log", "log", "aside/etc", "aside/cgroup"} {
		if err := os.MkdirAll(filepath.Join(options.Dir, part), 0o755); err != nil {
			return nil, fmt.Errorf("make disk of %s: %w", options.Name, err)
		}
	}
	return m, m.Boot()
}

// Boot boots the machine again after Halt.
func (m *Machine) Boot() error {
	err := makeCgroups(m.options.Cgroup)
	if err == nil {
		err = m.boot()
	}
	if err == nil {
		err = m.enter(m.furnish)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("boot %s: %w", m.options.Name, err), m.Halt())
	}
	return nil
}

// boot starts the first process, and so makes the namespaces.
func (m *Machine) boot() error {
	until, lifeline, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer until.Close()
	cgroup, err := m.service("init")
	if err != nil {
		return err
	}
	defer cgroup.Close()
	m.lifeline = lifeline
	m.first = exec.Command(m.options.Init, "init")
	m.first.ExtraFiles = []*os.File{until}
	m.first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Setsid: true,
	}
	if err := m.first.Start(); err != nil {
		return fmt.Errorf("start its first process: %w", err)
	}
	return nil
}

// Halt ends every process of the machine at once, as a power cut does. What was mounted,
// its network and its links go with them.
func (m *Machine) Halt() error {
	if m.lifeline != nil {
		_ = m.lifeline.Close()
	}
	if m.first == nil || m.first.Process == nil {
		return nil
	}
	_ = m.first.Process.Kill()
	_ = m.first.Wait() // it was killed; the kernel lets it go when all others are gone
	m.first = nil
	return nil
}

// Name is the machine's host name.
func (m *Machine) Name() string { return m.options.Name }

// Dir is the machine's disk.
func (m *Machine) Dir() string { return m.options.Dir }

// Path is where a file of the running machine is for this process.
func (m *Machine) Path(path string) string {
	return filepath.Join(fmt.Sprint("/proc/", m.first.Process.Pid, "/root"), path)
}

// Netns is the path of the machine's network namespace.
func (m *Machine) Netns() string { return fmt.Sprint("/proc/", m.first.Process.Pid, "/ns/net") }

// service opens the cgroup of a service, and makes it.
func (m *Machine) service(name string) (*os.File, error) {
	root, err := Cgroup2()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, m.options.Cgroup, "system", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	return file, nil
}

// Sweep ends all processes in a machine's cgroup and removes it from every hierarchy. It is
// for a halted machine, and for what a killed run left.
func Sweep(cgroup string) error {
	mounts, err := hierarchies()
	if err != nil {
		return err
	}
	var left error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left = nil
		for _, mount := range mounts {
			dir := filepath.Join(mount, cgroup)
			// Where it is of version 2 and there, one write ends all of it. What is in the
			// others is in that one too.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o600)
			left = errors.Join(left, removeTree(dir))
		}
		if left == nil {
			return nil
		}
	}
	return fmt.Errorf("remove cgroup %s: %w", cgroup, left)
}

// removeTree removes the directories of a cgroup, leaves first.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list cgroup: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// makeCgroups makes the machine's subtree in every hierarchy. What is in it may need all
// controllers there are; those of version 1 that share out CPUs start with none.
func makeCgroups(name string) error {
	mounts, err := hierarchies()
	if err != nil {
		return err
	}
	for _, mount := range mounts {
		dir := filepath.Join(mount, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if text, err := os.ReadFile(filepath.Join(mount, file)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
					return fmt.Errorf("give cgroup its CPUs: %w", err)
				}
			}
		}
		controllers, _ := os.ReadFile(filepath.Join(mount, "cgroup.controllers")) // of version 2
		for controller := range strings.FieldsSeq(string(controllers)) {
			for _, at := range []string{mount, dir} {
				// Not every controller is to be had below a root that others use.
				_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+controller), 0o600)
			}
		}
	}
	return nil
}
