package testnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the owner's lock of a state directory; the kernel gives it back
// when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "owner"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return file, nil
}

// CleanStale removes the nodes of a tag whose makers are gone, and returns their
// names.
func CleanStale(tag string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(runDir, "dubway-"+tag+"-[0-9]*"))
	if err != nil {
		return nil, fmt.Errorf("find stale nodes: %w", err)
	}
	var removed []string
	for _, dir := range dirs {
		lock, err := lockDir(dir)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // somebody lives there
		}
		if err != nil {
			return removed, err
		}
		name := filepath.Base(dir)
		err = sweep(name)
		_ = lock.Close()
		if err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	return removed, nil
}

// Live returns the names of the nodes of a tag whose makers live.
func Live(tag string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runDir, "dubway-"+tag+"-[0-9]*"))
	var live []string
	for _, dir := range dirs {
		lock, err := lockDir(dir)
		if err != nil {
			live = append(live, filepath.Base(dir))
			continue
		}
		_ = lock.Close()
	}
	return live
}

// Left returns the state directories of the nodes of a tag that were left
// standing (Leave) or whose makers were killed.
func Left(tag string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runDir, "dubway-"+tag+"-[0-9]*"))
	var left []string
	for _, dir := range dirs {
		if lock, err := lockDir(dir); err == nil {
			_ = lock.Close()
			left = append(left, dir)
		}
	}
	return left
}

// sweep removes all that carries the name: processes first, since they hold the
// rest; the state directory last, since it is what a later run looks for.
func sweep(name string) error {
	var errs []error
	if root, err := cgroupRoot(); err == nil {
		errs = append(errs, removeCgroup(filepath.Join(root, name)))
	}
	errs = append(errs, removeMemory(name))
	spaces, err := filepath.Glob(filepath.Join(netnsDir, name+"*"))
	errs = append(errs, err)
	for _, space := range spaces {
		// "dubway-x-12" is a prefix of "dubway-x-123" too.
		if rest := strings.TrimPrefix(filepath.Base(space), name); rest == "" || rest[0] == '-' {
			errs = append(errs, removeNetns(space))
		}
	}
	dir := filepath.Join(runDir, name)
	if err := unix.Unmount(filepath.Join(dir, "bpf"), unix.MNT_DETACH); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("unmount bpffs: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove node %s: %w", name, err)
	}
	return nil
}
