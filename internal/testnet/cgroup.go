package testnet

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot returns where cgroup2 is mounted. On a hybrid host that is not
// /sys/fs/cgroup itself.
func cgroupRoot() (string, error) {
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("find cgroup2: it is not mounted (mount -t cgroup2 none /sys/fs/cgroup)")
}

// removeCgroup kills what runs in the subtree and removes it.
func removeCgroup(path string) error {
	var err error
	for range 1000 { // a killed process leaves its cgroup later, on a busy machine much later
		if killCgroup(path) == 0 {
			if err = removeTree(path); err == nil {
				return nil
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", path, err)
}

// killCgroup kills every process in the subtree and returns how many there were.
// A part that went away meanwhile holds none.
func killCgroup(path string) int {
	pids, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	count := 0
	for pid := range strings.FieldsSeq(string(pids)) {
		if number, err := strconv.Atoi(pid); err == nil && number > 0 {
			_ = unix.Kill(number, unix.SIGKILL)
			count++
		}
	}
	entries, _ := os.ReadDir(path)
	for _, entry := range entries {
		if entry.IsDir() {
			count += killCgroup(filepath.Join(path, entry.Name()))
		}
	}
	return count
}

// removeTree removes the directories of a cgroup, leaves first; the files in
// them go with them.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list cgroup: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	return nil
}
