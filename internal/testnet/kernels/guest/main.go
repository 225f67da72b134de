// Command guest is the first and only process of the kernel matrix's virtual machines:
// it mounts what the agent expects of a node, tells what the agent's own probes find, runs
// the tests that were packed beside it and turns the machine off. What it says, to the
// second serial port, package kernels reads.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/internal/testnet/device"
)

// mounts are what a node has; /run and /tmp are of the initramfs itself.
var mounts = []struct{ source, target, kind string }{
	{"proc", "/proc", "proc"},
	{"sysfs", "/sys", "sysfs"},
	{"devtmpfs", "/dev", "devtmpfs"},
	{"securityfs", "/sys/kernel/security", "securityfs"},
	{"bpf", "/sys/fs/bpf", "bpf"},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2"},
	{"tmpfs", "/run", "tmpfs"},
	{"tmpfs", "/tmp", "tmpfs"},
}

func main() {
	if os.Getpid() != 1 { // the kernel gives its first process arguments too
		probe(os.Stdout)
		return
	}
	report, err := prepare()
	if err == nil {
		err = run(report)
	}
	if err != nil {
		// Without the closing line the run has failed; the console says why.
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	unix.Sync()
	fmt.Fprintln(os.Stderr, "guest: off:", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// prepare makes a node of the bare machine and opens the port of the report.
func prepare() (io.Writer, error) {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return nil, fmt.Errorf("make mount point: %w", err)
		}
		// Some kernels mount /dev themselves.
		if err := unix.Mount(m.source, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := errors.Join(loadModules(), device.Up("lo")); err != nil {
		return nil, err
	}
	port, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the port of the report: %w", err)
	}
	return port, nil
}

// loadModules loads what the kernel was packed with: in the order of their names.
func loadModules() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("open module: %w", err)
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("load module %s: %w", file, err)
		}
	}
	return nil
}

// run tells of the kernel, of the probes and of each package's tests, then closes.
func run(report io.Writer) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's name: %w", err)
	}
	fmt.Fprintf(report, "guest: kernel %s %s\n", unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Version[:]))
	// In a process that began after the mounts, as the agent's does: what it imports looks
	// at /proc when it starts.
	probes := exec.Command("/proc/self/exe", "probe")
	probes.Stdout, probes.Stderr = report, report
	if err := probes.Run(); err != nil {
		return fmt.Errorf("run probes: %w", err)
	}
	packages, err := filepath.Glob("/tests/*/test")
	if err != nil {
		return fmt.Errorf("list tests: %w", err)
	}
	slices.Sort(packages)
	for _, binary := range packages {
		test(report, binary)
	}
	fmt.Fprintf(report, "guest: done %d\n", len(packages))
	return nil
}

// probe tells what the agent's own probes find.
func probe(report io.Writer) {
	for _, check := range host.Probe("", datapath.DefaultPinPath) {
		text, err := json.Marshal(check)
		if err != nil {
			fmt.Fprintln(report, "guest: write check:", err)
			continue
		}
		fmt.Fprintf(report, "guest: check %s\n", text)
	}
}

// test runs the tests of one package, in its own directory as `go test` does.
func test(report io.Writer, binary string) {
	dir := filepath.Dir(binary)
	path, err := url.PathUnescape(filepath.Base(dir))
	if err != nil {
		path = filepath.Base(dir) // which is in no list, and so fails the run
	}
	fmt.Fprintf(report, "guest: begin %s\n", path)
	cmd := exec.Command(binary, "-test.v", "-test.short", "-test.timeout=20m")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, report, report
	cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/none"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	status := "ok"
	if err := cmd.Run(); err != nil {
		status = err.Error()
	}
	fmt.Fprintf(report, "guest: end %s %s\n", path, status)
}
