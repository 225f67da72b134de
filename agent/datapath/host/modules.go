package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// probeModules tells which security modules there are, and whether somebody denies what the
// capabilities allow. Then the probes of the kernel's features fail for that reason alone.
func probeModules(securityfs string) Check {
	const name = "security modules"
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		return strings.Trim(string(text), "\x00\n ")
	}
	active := read(filepath.Join(securityfs, "lsm"))
	detail := active
	if active == "" {
		detail = "none is told of"
	}
	// "none [integrity] confidentiality"; by the kernel's sources no mode keeps programs out that
	// read its memory by no helper, as ours.
	if _, mode, ok := strings.Cut(read(filepath.Join(securityfs, "lockdown")), "["); ok {
		mode, _, _ = strings.Cut(mode, "]")
		detail += "; lockdown: " + mode
	}
	if label := read("/proc/self/attr/current"); label != "" {
		detail += "; this process: " + label
	}
	denied := denied()
	if denied == nil {
		return Check{Name: name, OK: true, Detail: detail}
	}
	return Check{
		Name: name, Fix: denier(active),
		Detail: fmt.Sprintf("bpf() is refused to a process that has the capabilities: %v; %s", denied, detail),
	}
}

// denied returns the error with which a program that needs nothing but BPF and NET_ADMIN is
// refused to a process that has both; nil if it is not, or if they are missing, which
// explains it.
func denied() error {
	for _, c := range probeCapabilities() {
		if !c.OK {
			return nil
		}
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err == nil {
		p.Close()
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("load program: %w", err)
	}
	return nil // the probes of features say what else is wrong
}

// denier says how to find out who denies, and what to do.
func denier(active string) string {
	var fixes []string
	if strings.Contains(active, "selinux") {
		fixes = append(fixes, "SELinux (ausearch -m avc -c dubway-agent): set seLinuxOptions.type spc_t for the agent's container")
	}
	if strings.Contains(active, "apparmor") {
		fixes = append(fixes, "AppArmor (dmesg | grep DENIED): set appArmorProfile.type Unconfined for the agent's container")
	}
	fixes = append(fixes, "seccomp (Seccomp: 2 in /proc/PID/status): allow bpf in the profile of the agent's container")
	return strings.Join(fixes, "; ")
}
