package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostRootInode is the inode, and the id, of the root of every host's cgroup2
// hierarchy. Inside a cgroup namespace the mount's root is another directory.
const hostRootInode = 1

// FindCgroupRoot returns where the host's cgroup2 root is mounted. It knows the
// root by its id, so a container's own cgroup namespace is refused.
func FindCgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	mounts, err := cgroupMounts(f)
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	for _, dir := range mounts {
		if id, err := CgroupID(dir); err == nil && id == hostRootInode {
			return dir, nil
		}
	}
	if len(mounts) == 0 {
		return "", errors.New("find cgroup2 root: cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return "", fmt.Errorf("find cgroup2 root: %s is not the host's root but a cgroup namespace's: "+
		"mount the host's /sys/fs/cgroup into the container", strings.Join(mounts, ", "))
}

// cgroupMounts returns the mount points of type cgroup2 in a mountinfo file.
func cgroupMounts(r io.Reader) ([]string, error) {
	var found []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		found = append(found, unescapeMount(fields[4]))
	}
	return found, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// CgroupID is the kernel's id of a cgroup2 directory: its inode.
func CgroupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("stat cgroup %s: %w", dir, err)
	}
	return st.Ino, nil
}

// IsRoot tells whether a directory is the root of the host's cgroup2 hierarchy, in which
// every process is.
func IsRoot(dir string) bool {
	id, err := CgroupID(dir)
	return err == nil && id == hostRootInode
}

// CheckCgroup tells why a directory is no place to attach programs to.
func CheckCgroup(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("stat cgroup %s: %w", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%s is not a cgroup2 directory: programs attach to cgroup2 only", dir)
	}
	return nil
}

// ProcessCgroup returns the cgroup2 directory of a process.
func ProcessCgroup(pid int) (string, error) {
	root, err := FindCgroupRoot()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("find cgroup of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", fmt.Errorf("find cgroup of process %d: it is in no cgroup2", pid)
}

// Below tells whether a directory is a cgroup or below it, by whatever mount
// either is named.
func Below(dir, cgroup string) bool {
	var above, at unix.Stat_t
	if unix.Stat(cgroup, &above) != nil {
		return false
	}
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if unix.Stat(dir, &at) == nil && at.Ino == above.Ino && at.Dev == above.Dev {
			return true
		}
	}
	return false
}
