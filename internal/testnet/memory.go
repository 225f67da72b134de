package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryV1 is where version 1 of the memory controller is mounted, if it is.
const memoryV1 = "/sys/fs/cgroup/memory"

// LimitProxy gives the proxy's place a limit of memory, in bytes, as a container has
// it: the kernel kills a proxy that needs more. It holds for what is started there
// afterwards. The controller may be of either version.
func (n *Node) LimitProxy(bytes int64) error {
	limit := strconv.FormatInt(bytes, 10)
	if _, err := os.Stat(filepath.Join(memoryV1, "memory.limit_in_bytes")); err == nil {
		dir := filepath.Join(memoryV1, n.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make memory cgroup: %w", err)
		}
		n.memory = dir
		return limitMemory(dir, "memory.limit_in_bytes", limit)
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	for _, dir := range []string{root, n.cgroup} { // so that the controller is there below
		if err := limitMemory(dir, "cgroup.subtree_control", "+memory"); err != nil {
			return err
		}
	}
	return limitMemory(filepath.Join(n.cgroup, "proxy"), "memory.max", limit)
}

func limitMemory(dir, file, text string) error {
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	return nil
}

// Killed returns how often the kernel has killed what runs in the proxy's place for
// want of memory.
func (n *Node) Killed() (int, error) {
	path := filepath.Join(n.cgroup, "proxy", "memory.events")
	if n.memory != "" {
		path = filepath.Join(n.memory, "memory.oom_control")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read memory cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if err != nil {
				return 0, fmt.Errorf("read memory cgroup: %w", err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("read memory cgroup: %w: no oom_kill in %s", errors.ErrUnsupported, path)
}

// enterMemory moves the calling thread into a cgroup of version 1; a child inherits it.
func enterMemory(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0o600); err != nil {
		return fmt.Errorf("enter memory cgroup: %w", err)
	}
	return nil
}

// removeMemory removes a node's cgroup of version 1, whose processes are killed. The
// threads that started them may live a moment longer.
func removeMemory(name string) error {
	dir := filepath.Join(memoryV1, name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return removeCgroup(dir)
}
