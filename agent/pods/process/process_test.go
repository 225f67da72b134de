package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
)

const (
	first  = "0b5c0000-1111-2222-3333-444455556666"
	second = "0b5c0000-1111-2222-3333-444455557777"
	static = "0123456789abcdef0123456789abcdef"
)

func TestPodOf(t *testing.T) {
	for name, want := range map[string]string{
		"pod" + first: first,
		"kubepods-burstable-pod0b5c0000_1111_2222_3333_444455556666.slice": first,
		"kubepods-pod0b5c0000_1111_2222_3333_444455556666.slice":           first,
		"pod" + static: static,
		"kubepods-besteffort-pod0123456789abcdef0123456789abcdef.slice": static,
		"kubepods.slice": "", "kubepods": "", "podman.service": "", "pod": "", "machine-pod.slice": "", "libpod-" + first: "",
		"cri-containerd-0b5c.scope": "", "pod" + strings.ToUpper(first): "",
	} {
		if got := podOf(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// root makes a cgroup2 directory that ends with the test, with what runs in it.
func root(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("cgroups and network namespaces need root")
	}
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir := filepath.Join(mount, fmt.Sprintf("dubway-process-%d", os.Getpid()))
		var st unix.Statfs_t
		if unix.Statfs(mount, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { remove(t, dir) })
		return dir
	}
	t.Fatal("no writable cgroup2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup")
	return ""
}

// remove removes a tree of cgroups; what ran in it needs a moment to be gone.
func remove(t *testing.T, dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			remove(t, filepath.Join(dir, e.Name()))
		}
	}
	for end := time.Now().Add(20 * time.Second); os.Remove(dir) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s cannot be removed", dir)
			return
		}
	}
}

// run starts a process in a cgroup; own gives it a network namespace of its own.
func run(t *testing.T, cgroup string, own bool) int {
	t.Helper()
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if own {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func look(t *testing.T, dir string) *View {
	t.Helper()
	v, err := New(dir).Look()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFind(t *testing.T) {
	dir := root(t)
	plain := filepath.Join(dir, "kubepods", "burstable", "pod"+first)
	slice := filepath.Join(dir, "kubepods.slice", "kubepods-besteffort.slice", "kubepods-besteffort-pod"+strings.ReplaceAll(second, "-", "_")+".slice")
	sandbox := run(t, filepath.Join(plain, "sandbox"), true)
	time.Sleep(20 * time.Millisecond) // a start is known by hundredths of a second
	escaped := run(t, filepath.Join(plain, "app"), true)
	other := run(t, filepath.Join(slice, "cri-containerd-1.scope"), true)
	v := look(t, dir)
	for uid, want := range map[string]Place{first: {Cgroup: plain, PIDs: []int{sandbox, escaped}}, second: {Cgroup: slice, PIDs: []int{other}}} {
		p, err := v.Find(uid)
		if err != nil || p.Cgroup != want.Cgroup || fmt.Sprint(p.PIDs) != fmt.Sprint(want.PIDs) || p.Started == 0 {
			t.Errorf("%s: %+v, %v; want %+v", uid, p, err, want)
		}
	}

	// The sandbox is asked first; a container with a namespace of its own does not pass.
	p, _ := v.Find(first)
	accept := func(*netns.Namespace) error { return nil }
	ns, err := v.Netns(p, accept)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if want := id(t, sandbox); ns.ID() != want {
		t.Errorf("namespace %v, want the sandbox's %v", ns.ID(), want)
	}
	not := errors.New("it has not the pod's address")
	next, err := v.Netns(p, func(n *netns.Namespace) error {
		if n.ID() == ns.ID() {
			return not
		}
		return nil
	})
	if err != nil || next.ID() != id(t, escaped) {
		t.Errorf("the next candidate: %v", err)
	} else {
		next.Close()
	}
	if _, err := v.Netns(p, func(*netns.Namespace) error { return not }); !errors.Is(err, not) {
		t.Errorf("all refused: %v", err)
	}

	// Nothing runs: the deepest directory that is known stands for the pod's.
	p, err = v.Find(static)
	if err != nil || p.Cgroup != filepath.Join(dir, "kubepods") || len(p.PIDs) != 0 {
		t.Errorf("a pod without processes: %+v, %v", p, err)
	}
	if _, err := v.Netns(p, accept); err == nil || !strings.Contains(err.Error(), "fix: set hostPID") {
		t.Errorf("no processes: %v", err)
	}
}

func id(t *testing.T, pid int) netns.ID {
	t.Helper()
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	return ns.ID()
}

// TestElsewhere: a runtime that puts containers into no cgroup2 of the pod's, as on hosts
// with version 1 beside it; what other hierarchies say is in a /proc of the test's own.
func TestElsewhere(t *testing.T) {
	dir := root(t)
	service := filepath.Join(dir, "system.slice", "containerd.service")
	inside := run(t, service, false)
	f := New(dir)
	f.proc = t.TempDir()
	show := func(pid int, cgroup string) {
		t.Helper()
		at := filepath.Join(f.proc, fmt.Sprint(pid))
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil {
			err = errors.Join(os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "cgroup"), []byte(cgroup), 0o600),
				os.WriteFile(filepath.Join(at, "stat"), stat, 0o600), os.WriteFile(filepath.Join(at, "cmdline"), []byte("/usr/bin/qemu-system-x86_64\x00-m"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	show(inside, "4:memory:/kubepods/pod"+first+"/1\n0::/system.slice/containerd.service\n")
	show(os.Getpid(), "4:memory:/kubepods/pod"+second+"/1\n0::/\n")
	v, err := f.Look()
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Find(first)
	if err != nil || p.Cgroup != service || len(p.PIDs) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if k := v.Foreign(p); k != "qemu-system-x86_64" {
		t.Errorf("another kernel: %q", k)
	}
	if _, err := v.Find(second); err == nil || !strings.Contains(err.Error(), "outside of cgroup") || !strings.Contains(err.Error(), "--cgroup") {
		t.Errorf("a pod outside: %v", err)
	}
}
