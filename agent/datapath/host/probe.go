// Package host is what this machine offers to the datapath: mounts, kernel
// features, the process's capabilities, each with what to do if it is missing.
// It changes nothing.
package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// Check is the result of one probe of this machine.
type Check struct {
	Name   string // such as "cgroup2" or "program sk_lookup"
	OK     bool
	Detail string // what was found
	Choice string // of ways that are all good, the one that this kernel takes; "" where there is one only
	Fix    string // what to do about it, if not OK
}

// Probe tries everything that the datapath needs. An empty cgroup means the
// host's root; pinPath need not exist, its parent directory must.
func Probe(cgroup, pinPath string) []Check {
	checks := []Check{probeCgroup(cgroup), probeBPFFS(pinPath)}
	checks = append(checks, probeCapabilities()...)
	checks = append(checks, probeModules("/sys/kernel/security"))
	return append(checks, Features()...)
}

// Features are those of the checks that depend on the kernel alone: the rows of
// docs/kernels.md.
func Features() []Check {
	checks := []Check{verdict("kernel BTF", probeBTF(), "the kernel's types are readable",
		"use a kernel with CONFIG_DEBUG_INFO_BTF=y (/sys/kernel/btf/vmlinux)")}
	for _, p := range []struct {
		hook   string
		typ    ebpf.ProgramType
		helper asm.BuiltinFunc
		needs  string
	}{
		{"connect", ebpf.CGroupSockAddr, asm.FnSkStorageGet, "Linux 5.10 and CONFIG_CGROUP_BPF=y"},
		{"sockops", ebpf.SockOps, asm.FnSkStorageGet, "Linux 5.10 and CONFIG_CGROUP_BPF=y"},
		{"getsockopt", ebpf.CGroupSockopt, asm.FnSkStorageGet, "Linux 5.10 and CONFIG_CGROUP_BPF=y"},
		{"sk_lookup", ebpf.SkLookup, asm.FnSkAssign, "Linux 5.9 and CONFIG_BPF_STREAM_PARSER=y"},
	} {
		checks = append(checks, verdict("program "+p.hook, features.HaveProgramHelper(p.typ, p.helper),
			fmt.Sprintf("%s with %s", p.typ, p.helper), "use a kernel with "+p.needs))
	}
	return append(checks, probeNetnsIdentity(), probeRefusal(), probeMemory())
}

// Missing joins the failed checks, each with its fix; nil if there are none.
func Missing(checks []Check) error {
	var errs []error
	for _, c := range checks {
		if !c.OK {
			errs = append(errs, fmt.Errorf("%s: %s; fix: %s", c.Name, c.Detail, c.Fix))
		}
	}
	return errors.Join(errs...)
}

func verdict(name string, err error, found, fix string) Check {
	if err != nil {
		return Check{Name: name, Detail: err.Error(), Fix: fix}
	}
	return Check{Name: name, OK: true, Detail: found}
}

func probeCgroup(dir string) Check {
	const fix = "mount the host's cgroup2 hierarchy, or name a directory of it with --cgroup"
	if dir == "" {
		root, err := FindCgroupRoot()
		return verdict("cgroup2", err, "host root at "+root, fix)
	}
	return verdict("cgroup2", CheckCgroup(dir), dir, fix)
}

func probeBPFFS(pinPath string) Check {
	dir := filepath.Dir(pinPath)
	return verdict("bpffs", CheckBPFFS(dir), dir, mountBPF+", and into the agent's container")
}

func probeBTF() error {
	if _, err := btf.LoadKernelSpec(); err != nil {
		return fmt.Errorf("read kernel types: %w", err)
	}
	return nil
}

// probeCapabilities checks what loading and attaching need. Who may do
// anything (SYS_ADMIN) may also do what BPF and PERFMON were split from.
func probeCapabilities() []Check {
	effective, err := effectiveCapabilities()
	if err != nil {
		return []Check{verdict("capabilities", err, "", "make /proc readable")}
	}
	has := func(c int) bool { return effective&(1<<c) != 0 }
	var checks []Check
	for _, c := range []struct {
		name string
		ok   bool
		why  string
	}{
		{"CAP_BPF", has(unix.CAP_BPF) || has(unix.CAP_SYS_ADMIN), "loads programs and maps"},
		{"CAP_PERFMON", has(unix.CAP_PERFMON) || has(unix.CAP_SYS_ADMIN), "connect programs are refused without it on kernels up to 6.1"},
		{"CAP_NET_ADMIN", has(unix.CAP_NET_ADMIN), "attaches programs to cgroups and network namespaces"},
		{"CAP_SYS_ADMIN", has(unix.CAP_SYS_ADMIN), "enters pods' network namespaces and opens running programs by id"},
	} {
		check := Check{Name: "capability " + c.name, OK: c.ok, Detail: c.why}
		if !c.ok {
			check.Detail, check.Fix = "missing; it "+c.why, "add "+strings.TrimPrefix(c.name, "CAP_")+" to the agent's capabilities"
		}
		checks = append(checks, check)
	}
	return checks
}

func effectiveCapabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("read capabilities: %w", err)
			}
			return set, nil
		}
	}
	return 0, errors.New("read capabilities: no CapEff in /proc/self/status")
}

// Capabilities names the effective capabilities of this process that the agent has a use
// for; others by their number.
func Capabilities() []string {
	names := map[int]string{
		unix.CAP_NET_ADMIN: "CAP_NET_ADMIN", unix.CAP_SYS_PTRACE: "CAP_SYS_PTRACE", unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN",
		unix.CAP_SYS_RESOURCE: "CAP_SYS_RESOURCE", unix.CAP_PERFMON: "CAP_PERFMON", unix.CAP_BPF: "CAP_BPF",
	}
	result := []string{}
	set, err := effectiveCapabilities()
	if err != nil {
		return result
	}
	for bit := range 64 {
		switch name := names[bit]; {
		case set&(1<<bit) == 0:
		case name != "":
			result = append(result, name)
		default:
			result = append(result, strconv.Itoa(bit))
		}
	}
	return result
}

// probeNetnsIdentity finds out how sockets are told apart by namespace: by
// cookie, or before 5.15 by inode number, which needs PERFMON.
func probeNetnsIdentity() Check {
	const name = "netns identity"
	if HaveNetnsCookie() {
		return choice(name, "cookie")
	}
	check := verdict(name, features.HaveProgramHelper(ebpf.SockOps, asm.FnSkcToTcpSock), "",
		"use Linux 5.15, or 5.10 with CAP_PERFMON")
	if check.OK {
		return choice(name, "inode number")
	}
	return check
}

// choice is a check of something that has more than one good answer.
func choice(name, found string) Check {
	return Check{Name: name, OK: true, Detail: found, Choice: found}
}

// HaveNetnsCookie tells whether sockops programs may ask for the cookie of
// their network namespace: from Linux 5.15 on.
func HaveNetnsCookie() bool {
	return features.HaveProgramHelper(ebpf.SockOps, asm.FnGetNetnsCookie) == nil
}

// probeRefusal tells what an application sees whose connect is refused. Both will do.
func probeRefusal() Check {
	const name = "errno of refused connects"
	if HaveSetErrno() {
		return choice(name, "ECONNREFUSED")
	}
	check := choice(name, "EPERM")
	check.Detail += " (ECONNREFUSED from Linux 6.0 on)"
	return check
}

// HaveSetErrno tells whether connect programs may choose the error of a connect
// that they refuse: from Linux 6.0 on. Otherwise it is EPERM. A whole program asks,
// because package features takes the way in which Linux 7.3 refuses half of one for a no.
func HaveSetErrno() bool {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, -int32(unix.ECONNREFUSED)), asm.FnSetRetval.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
		},
	})
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// probeMemory tells what limits the memory of maps: the memory cgroup, or before Linux
// 5.11 RLIMIT_MEMLOCK, which the agent raises if it may. The helper came with the change.
func probeMemory() Check {
	const name = "limit of maps' memory"
	if features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnKtimeGetCoarseNs) == nil {
		return choice(name, "memory cgroup")
	}
	check := choice(name, "RLIMIT_MEMLOCK")
	effective, err := effectiveCapabilities()
	var limit unix.Rlimit
	if err == nil {
		err = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
	}
	if err == nil && (effective&(1<<unix.CAP_SYS_RESOURCE) != 0 || limit.Max == unix.RLIM_INFINITY) {
		return check
	}
	return Check{
		Name: name, Detail: fmt.Sprintf("RLIMIT_MEMLOCK of %d bytes, which is too little and may not be raised (%v)", limit.Max, err),
		Fix: "add SYS_RESOURCE to the agent's capabilities (kernels before 5.11 only), or use Linux 5.11",
	}
}

// CheckBPFFS tells why nothing can be pinned in a directory.
func CheckBPFFS(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not on a BPF file system: "+mountBPF, dir)
	}
	return nil
}

const mountBPF = "mount -t bpf none /sys/fs/bpf"
