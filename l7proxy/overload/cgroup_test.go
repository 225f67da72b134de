package overload

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupOf(t *testing.T) {
	for _, tt := range []struct {
		name, cgroup string
		files        map[string]string
		want         uint64
	}{
		{"version 2", "0::/kubepods/pod1/c1\n", map[string]string{"kubepods/pod1/c1/memory.max": "1048576\n", "kubepods/memory.max": "max\n"}, 1 << 20},
		{"of one above", "0::/kubepods/pod1/c1\n", map[string]string{"kubepods/pod1/c1/memory.max": "max\n", "kubepods/pod1/memory.max": "2048\n"}, 2048},
		{"a namespace of its own", "0::/\n", map[string]string{"memory.max": "4096\n"}, 4096},
		{"version 1", "4:memory:/docker/x\n1:cpu:/\n0::/\n", map[string]string{"memory/docker/x/memory.limit_in_bytes": "8192\n"}, 8192},
		{"version 1, none", "4:memory:/docker/x\n", map[string]string{"memory/docker/x/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		{"nothing", "0::/\n", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proc, sys := t.TempDir(), t.TempDir()
			put := func(path, text string) {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(filepath.Join(proc, "self", "cgroup"), tt.cgroup)
			for name, text := range tt.files {
				put(filepath.Join(sys, name), text)
			}
			if got := CgroupOf(proc, sys); got.Limit != tt.want {
				t.Errorf("%d, want %d", got.Limit, tt.want)
			}
		})
	}
	if got := CgroupOf(t.TempDir(), t.TempDir()); got.Limit != 0 || got.Used() == 0 {
		t.Errorf("%+v without a cgroup", got)
	}
}

// TestCgroupUsed: cached files are not counted, and what the runtime has is counted in
// any case.
func TestCgroupUsed(t *testing.T) {
	proc, sys := t.TempDir(), t.TempDir()
	files := map[string]string{
		filepath.Join(proc, "self", "cgroup"):                   "4:memory:/a/b\n",
		filepath.Join(sys, "memory/a", "memory.limit_in_bytes"): "1000000000000\n",
		filepath.Join(sys, "memory/a", "memory.usage_in_bytes"): "900000000000\n",
		filepath.Join(sys, "memory/a", "memory.stat"):           "inactive_file 5\ntotal_inactive_file 100000000000\n",
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := CgroupOf(proc, sys)
	if got := c.Used(); c.Limit != 1e12 || got != 8e11 {
		t.Errorf("%d of %d, want 8e11 of 1e12", got, c.Limit)
	}
	if err := os.WriteFile(filepath.Join(sys, "memory/a", "memory.usage_in_bytes"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.Used(); got < 100_000 {
		t.Errorf("%d, less than a Go program has", got)
	}
}
