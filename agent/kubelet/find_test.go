package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/host"
)

// procs is a /proc of files, and a directory that plays cgroup2.
type procs struct {
	*testing.T

	dir, cgroups string
}

func newProcs(t *testing.T) *procs {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("kubelet is root's: files of it need root")
	}
	p := &procs{T: t, dir: t.TempDir(), cgroups: t.TempDir()}
	return p
}

func (p *procs) write(path, content string) {
	p.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		p.Fatal(err)
	}
}

// process is one of /proc.
type process struct {
	pid    int
	name   string
	uid    int
	nspid  string // "" for pid alone
	cgroup string // as /proc/PID/cgroup says
	at     string // the directory that holds it; "" for none
}

func (p *procs) add(one process) {
	p.Helper()
	dir := filepath.Join(p.dir, fmt.Sprint(one.pid))
	if one.nspid == "" {
		one.nspid = fmt.Sprint(one.pid)
	}
	p.write(filepath.Join(dir, "comm"), one.name+"\n")
	p.write(filepath.Join(dir, "status"), "Name:\t"+one.name+"\nNSpid:\t"+one.nspid+"\n")
	p.write(filepath.Join(dir, "cgroup"), one.cgroup+"\n")
	if err := os.Chown(dir, one.uid, one.uid); err != nil {
		p.Fatal(err)
	}
	if one.at != "" {
		p.write(filepath.Join(p.cgroups, one.at, "cgroup.procs"), fmt.Sprintf("1\n%d\n", one.pid))
	}
}

func (p *procs) finder() *finder { return &finder{proc: p.dir, bases: []string{p.cgroups}} }

func TestFind(t *testing.T) {
	service := process{pid: 100, name: "kubelet", cgroup: "0::/system.slice/kubelet.service", at: "system.slice/kubelet.service"}
	with := func(change func(p *process)) process {
		p := service
		change(&p)
		return p
	}
	other := process{pid: 101, name: "kubelet", cgroup: "0::/user.slice", at: "user.slice"}
	tests := []struct {
		name string
		all  []process
		want string // the cgroup
		err  string
	}{
		{"a systemd unit", []process{service}, "system.slice/kubelet.service", ""},
		{"k3s, whose shims are in its cgroup", []process{
			{pid: 100, name: "k3s-server", cgroup: "0::/system.slice/k3s.service", at: "system.slice/k3s.service"},
			{pid: 102, name: "containerd-shim", cgroup: "0::/system.slice/k3s.service"},
		}, "system.slice/k3s.service", ""},
		{"MicroK8s", []process{with(func(p *process) { p.name = "kubelite" })}, "system.slice/kubelet.service", ""},
		{"a hybrid host: version 1 says nothing", []process{with(func(p *process) {
			p.cgroup = "9:name=systemd:/init.scope\n4:memory:/elsewhere\n0::/system.slice/kubelet.service"
		})}, "system.slice/kubelet.service", ""},
		{"from a container's cgroup namespace", []process{with(func(p *process) {
			p.cgroup = "0::/../../../system.slice/kubelet.service"
		})}, "system.slice/kubelet.service", ""},
		{"what it says is nobody's mount", []process{with(func(p *process) { p.cgroup = "0::/../kubelet.service" })}, "system.slice/kubelet.service", ""},
		{"its own name goes before k3s's", []process{{pid: 99, name: "k3s", cgroup: "0::/user.slice", at: "user.slice"}, service},
			"system.slice/kubelet.service", ""},
		{"two of one cgroup", []process{service, {pid: 101, name: "kubelet", cgroup: service.cgroup}}, "system.slice/kubelet.service", ""},
		{"none", []process{{pid: 7, name: "containerd", cgroup: "0::/"}}, "", "no kubelet was found"},
		{"a pod that is called so", []process{with(func(p *process) {
			p.cgroup, p.at = "0::/kubepods/burstable/pod1/c", "kubepods/burstable/pod1/c"
		})}, "", "no kubelet was found"},
		{"a pod of a systemd driver", []process{with(func(p *process) {
			p.cgroup, p.at = "0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope", "kubepods.slice/x"
		})}, "", "no kubelet was found"},
		{"a pod of a hybrid host", []process{with(func(p *process) { p.cgroup += "\n3:cpu:/kubepods/pod1" })}, "", "no kubelet was found"},
		{"a container's process", []process{with(func(p *process) { p.nspid = "100\t1" })}, "", "no kubelet was found"},
		{"a user's process", []process{with(func(p *process) { p.uid = 1000 })}, "", "no kubelet was found"},
		{"two", []process{service, other}, "", "several processes look like kubelet"},
		{"version 1 only", []process{with(func(p *process) { p.cgroup = "4:memory:/kubelet" })}, "", "in no cgroup2"},
		{"out of reach", []process{with(func(p *process) { p.at = "" })}, "", "is not below"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newProcs(t)
			for _, one := range test.all {
				p.add(one)
			}
			got, err := p.finder().find()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%+v, %v; want %q", got, err, test.err)
				}
				return
			}
			if want := filepath.Join(p.cgroups, test.want); err != nil || got.cgroup != want {
				t.Errorf("%+v, %v; want %s", got, err, want)
			}
		})
	}
}

// TestFindAgain: kubelet is followed when it restarts and when it moves.
func TestFindAgain(t *testing.T) {
	p := newProcs(t)
	f := p.finder()
	wants := func(what string, pid int, cgroup string) {
		t.Helper()
		got, err := f.find()
		if err != nil || got.pid != pid || got.cgroup != filepath.Join(p.cgroups, cgroup) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	p.add(process{pid: 100, name: "kubelet", cgroup: "0::/a", at: "a"})
	wants("at first", 100, "a")
	// A second one is no reason to leave the one that is there.
	p.add(process{pid: 101, name: "kubelet", cgroup: "0::/b", at: "b"})
	wants("beside another", 100, "a")
	if err := os.RemoveAll(filepath.Join(p.dir, "100")); err != nil {
		t.Fatal(err)
	}
	wants("after it ended", 101, "b")
	p.write(filepath.Join(p.cgroups, "b", "cgroup.procs"), "")
	p.add(process{pid: 101, name: "kubelet", cgroup: "0::/c", at: "c"})
	wants("after it moved", 101, "c")
}

// TestAlone: of real cgroups, which are kubelet's alone.
func TestAlone(t *testing.T) {
	root, err := host.FindCgroupRoot()
	if err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and cgroup2: %v", err)
	}
	base := filepath.Join(root, fmt.Sprintf("dubway-kubelet-%d", os.Getpid()))
	dirs := []string{"", "kubelet.service", "node", "node/pods", "node/pods/a", "driver", "driver/kubepods.slice"}
	for _, dir := range dirs {
		dir = filepath.Join(base, dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Rmdir(dir) })
	}
	pods := []string{filepath.Join(base, "node/pods/a")}
	for dir, want := range map[string]string{
		filepath.Join(base, "kubelet.service"): "",
		filepath.Join(base, "node"):            "the pod of " + pods[0] + " is below it",
		filepath.Join(base, "driver"):          "kubepods.slice holds pods",
		base:                                   "is below it",
		root:                                   "it is the root",
		t.TempDir():                            "is not a cgroup2 directory",
		filepath.Join(base, "gone"):            "no such file",
	} {
		err := alone(dir, pods)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
}

// TestNoContainers: a container's process that stays is one too many, one that passes
// through is not.
func TestNoContainers(t *testing.T) {
	p := newProcs(t)
	dir := filepath.Join(p.cgroups, "k3s.service")
	p.add(process{pid: 100, name: "k3s-server", cgroup: "0::/k3s.service", at: "k3s.service"})
	if err := noContainers(p.dir, dir, func() {}); err != nil {
		t.Errorf("k3s alone: %v", err)
	}
	for name, one := range map[string]process{
		"a namespace of its own":           {pid: 102, name: "java", nspid: "102\t1", cgroup: "0::/k3s.service"},
		"a pod's cgroup of version 1 only": {pid: 103, name: "java", cgroup: "4:memory:/kubepods/pod1\n0::/k3s.service"},
	} {
		one.at = "k3s.service"
		p.add(one)
		if err := noContainers(p.dir, dir, func() {}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d of a container", one.pid)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	passing := func() { p.write(filepath.Join(dir, "cgroup.procs"), "100\n") }
	if err := noContainers(p.dir, dir, passing); err != nil {
		t.Errorf("one that went on: %v", err)
	}
}
