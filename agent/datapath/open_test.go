package datapath

import (
	"strings"
	"testing"

	"github.com/dubway/dubway/agent/datapath/host"
)

func TestProbePassesWhereOpenDoes(t *testing.T) {
	r := newRig(t)
	for _, c := range host.Probe(r.opts.Cgroup, r.opts.PinPath) {
		if !c.OK || c.Detail == "" {
			t.Errorf("%s: %s; fix: %s", c.Name, c.Detail, c.Fix)
		}
	}
	r.open()
	if root, err := FindCgroupRoot(); err != nil || !strings.HasPrefix(r.cgroup, root) {
		t.Errorf("cgroup root = %q (%v)", root, err)
	}
}

func TestOpenNamesWhatIsMissing(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{PinPath: t.TempDir() + "/dubway", Cgroup: r.cgroup}, "fix: mount -t bpf"},
		{Options{PinPath: r.opts.PinPath, Cgroup: t.TempDir()}, "is not a cgroup2 directory"},
	} {
		if _, err := Open(test.opts); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("open = %v, want %q", err, test.want)
		}
	}
}
