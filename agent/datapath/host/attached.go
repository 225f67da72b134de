package host

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Program is a program that runs for a cgroup's sockets, whoever attached it.
type Program struct {
	Hook string // as bpftool names it: "connect4"
	ID   uint32
	Name string
}

// String returns "connect4 17 (name)".
func (p Program) String() string { return fmt.Sprintf("%s %d (%s)", p.Hook, p.ID, p.Name) }

// steeringHooks are the cgroup hooks that the datapath attaches to.
var steeringHooks = []struct {
	name string
	hook ebpf.AttachType
}{
	{"connect4", ebpf.AttachCGroupInet4Connect},
	{"connect6", ebpf.AttachCGroupInet6Connect},
	{"sock_ops", ebpf.AttachCGroupSockOps},
	{"getsockopt", ebpf.AttachCGroupGetsockopt},
	{"getpeername4", ebpf.AttachCgroupInet4GetPeername},
	{"getpeername6", ebpf.AttachCgroupInet6GetPeername},
	{"getsockname4", ebpf.AttachCgroupInet4GetSockname},
	{"getsockname6", ebpf.AttachCgroupInet6GetSockname},
}

// Effective returns the programs that run for sockets of a cgroup at the hooks that the
// datapath uses, its own among them, by hook in the order in which they run: those of the
// cgroup and those of the cgroups above it. A hook that the kernel does not have is left
// out: Probe tells of it.
func Effective(cgroup string) ([]Program, error) {
	const effective = 1 // BPF_F_QUERY_EFFECTIVE
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	defer dir.Close()
	var found []Program
	for _, h := range steeringHooks {
		result, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: h.hook, QueryFlags: effective})
		if errors.Is(err, ebpf.ErrNotSupported) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("query %s programs of %s: %w", h.name, cgroup, err)
		}
		for _, p := range result.Programs {
			found = append(found, Program{Hook: h.name, ID: uint32(p.ID), Name: programName(p.ID)})
		}
	}
	return found, nil
}

// Describe returns "17 (name)", or the number alone of a program without a name.
func Describe(id ebpf.ProgramID) string {
	number := fmt.Sprint(uint32(id))
	if name := programName(id); name != "?" {
		return number + " (" + name + ")"
	}
	return number
}

// programName returns "?" for a program that has no name or has just gone.
func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "?"
	}
	defer p.Close()
	if info, err := p.Info(); err == nil && info.Name != "" {
		return info.Name
	}
	return "?"
}
