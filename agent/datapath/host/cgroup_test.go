package host

import (
	"slices"
	"strings"
	"testing"
)

func TestCgroupMounts(t *testing.T) {
	const mountinfo = `22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
31 25 0:27 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,name=systemd
40 25 0:26 /../.. /mnt/with\040blank\134 rw shared:1 master:2 - cgroup2 none rw
garbage
`
	got, err := cgroupMounts(strings.NewReader(mountinfo))
	if want := []string{"/sys/fs/cgroup/unified", `/mnt/with blank\`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("cgroup2 mounts = %q (%v), want %q", got, err, want)
	}
}

func TestProbeNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	err := Missing(Probe(dir, dir+"/dubway"))
	if err == nil {
		t.Fatal("an ordinary directory passes for cgroup2 and for a BPF file system")
	}
	for _, want := range []string{"cgroup2: " + dir + " is not a cgroup2", "not on a BPF file system", "fix: mount -t bpf"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := CheckCgroup(dir); err == nil {
		t.Error("an ordinary directory passes for a cgroup")
	}
}
