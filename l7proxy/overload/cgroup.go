package overload

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Cgroup is where the kernel limits the memory of a process. Its zero value limits
// nothing.
type Cgroup struct {
	Limit uint64 // bytes; 0: none
	// Its files, and what of the use the kernel would take back first: cached files.
	usage, stat, cached string
}

// version is what the files of a version of cgroups are called.
type version struct{ limit, usage, cached string }

var (
	version1 = version{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}
	version2 = version{"memory.max", "memory.current", "inactive_file"}
)

// CgroupOf returns the one with the least limit of those that a process is in, of
// version 2 or 1, as the files below proc and sys say.
func CgroupOf(proc, sys string) Cgroup {
	none := Cgroup{}
	text, err := os.ReadFile(filepath.Join(proc, "self", "cgroup"))
	if err != nil {
		return none
	}
	found := Cgroup{Limit: math.MaxUint64}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch parts[1] {
		case "":
			found.least(sys, parts[2], version2)
			found.least(filepath.Join(sys, "unified"), parts[2], version2)
		case "memory":
			found.least(filepath.Join(sys, "memory"), parts[2], version1)
		}
	}
	if found.Limit >= 1<<62 { // version 1 says "none" so
		return none
	}
	return found
}

// least makes c the cgroup with the least limit of itself, the one at path, and those
// above that.
func (c *Cgroup) least(root, path string, v version) {
	for {
		dir := filepath.Join(root, path)
		if n, ok := number(filepath.Join(dir, v.limit)); ok && n < c.Limit {
			*c = Cgroup{n, filepath.Join(dir, v.usage), filepath.Join(dir, "memory.stat"), v.cached}
		}
		if path == "/" || path == "." {
			return
		}
		path = filepath.Dir(path)
	}
}

// Used returns what counts against the limit, and is not less than what the Go runtime
// has of the system: sockets and the program itself count too.
func (c *Cgroup) Used() uint64 {
	bytes, ok := number(c.usage)
	if !ok {
		return used()
	}
	stat, _ := os.ReadFile(c.stat)
	for line := range strings.Lines(string(stat)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == c.cached {
			n, _ := strconv.ParseUint(value, 10, 64)
			bytes -= min(bytes, n)
		}
	}
	return max(bytes, used())
}

func number(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
