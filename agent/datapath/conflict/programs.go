package conflict

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/bpf"
)

// product is somebody else's data path. The kernel keeps fifteen letters of a program's
// name.
type product struct {
	name     string
	programs []string // how names of its programs begin
	pins     []string // how names of its pins begin
	fix      string
}

var products = []product{
	{
		name: "Cilium's socket load balancer", programs: []string{"cil_sock", "sock4_connect", "sock6_connect"},
		fix: "set Cilium's socketLB.hostNamespaceOnly=true (cilium-config: bpf-lb-sock-hostns-only), or it replaces a service's " +
			"address by a pod's before the mesh sees it; then start dubway-agent anew",
	},
	{
		name: "Calico's connect-time load balancer", programs: []string{"calico_connect", "cali_ctlb"},
		fix: "set bpfConnectTimeLoadBalancing: Disabled and bpfHostNetworkedNATWithoutCTLB: Enabled in Calico's FelixConfiguration, " +
			"or it replaces a service's address by a pod's before the mesh sees it",
	},
	{
		name: "Calico's sidecar acceleration", programs: []string{"calico_sk_msg", "calico_sockops"},
		fix: "set sidecarAccelerationEnabled: false in Calico's FelixConfiguration",
	},
	{
		name: "OpenTelemetry's eBPF instrumentation or Beyla", programs: []string{"obi_", "beyla_"},
		fix: "set OTEL_EBPF_BPF_CONTEXT_PROPAGATION=disabled (Beyla: BEYLA_BPF_CONTEXT_PROPAGATION): it writes into what " +
			"applications send",
	},
	{
		name: "Kmesh", programs: []string{"cgroup_connect4", "cgroup_connect6", "sendmsg_prog"}, pins: []string{"bpf_kmesh", "kmesh"},
		fix: "use one of Kmesh and Dubway on a node: uninstall Kmesh, or keep it off by a node selector",
	},
	{
		name: "Merbridge", programs: []string{"mb_"}, pins: []string{"cookie_original_dst", "cookie_orig_dst"},
		fix: "uninstall Merbridge: it takes connections of all pods to 127.0.0.1 for its own",
	},
	{
		name: "another Dubway", programs: []string{"steer_connect", "bridge_sockops"},
		fix: "stop the other dubway-agent and remove what it pinned (dubway-agent uninstall): where two steer one connect, " +
			"the second takes the aim of the first for what the application meant",
	},
}

// owners returns who is known by the names, and what to do about each of them.
func owners(names []string) (known, fixes []string) {
	for _, p := range products {
		if slices.ContainsFunc(names, func(name string) bool { return begins(name, p.programs) }) {
			known, fixes = append(known, p.name), append(fixes, p.fix)
		}
	}
	return known, fixes
}

func begins(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// found says what there is and of whom.
func found(all []string, known []string) string {
	text := strings.Join(all, ", ")
	if len(known) > 0 {
		text += "; by its names that is " + strings.Join(known, " and ")
	}
	return text
}

// attached looks at the hooks of the cgroup. Others may be there; only who sees a connect
// before us changes what we see. Where nobody says which programs are ours, a program
// that is called like ours is.
func (n Node) attached() host.Check {
	const name = "other programs"
	running, err := host.Effective(n.Cgroup)
	if err != nil {
		return unknown(name, err, "run as root, with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")
	}
	var all, rivals []string
	seen := map[string]bool{} // hooks at which ours has been met
	for _, p := range running {
		if n.ours(p.ID, p.Name) {
			seen[p.Hook] = true
			continue
		}
		all = append(all, p.String())
		if connects := strings.HasPrefix(p.Hook, "connect"); connects && !seen[p.Hook] || begins(p.Name, own) {
			rivals = append(rivals, p.Name)
		}
	}
	if len(all) == 0 {
		return fine(name, "none at "+n.Cgroup)
	}
	if len(rivals) == 0 {
		return fine(name, fmt.Sprintf("at %s, none of which sees a connect before the mesh: %s", n.Cgroup, strings.Join(all, ", ")))
	}
	known, fixes := owners(rivals)
	if len(fixes) == 0 {
		fixes = []string{"find whose they are (bpftool prog show) and start them after dubway-agent"}
	}
	return host.Check{
		Name: name, Fix: strings.Join(fixes, "; "),
		Detail: fmt.Sprintf("at %s, and some see connects before the mesh or steer too: %s", n.Cgroup, found(all, known)),
	}
}

func (n Node) ours(id uint32, name string) bool {
	if len(n.Ours) > 0 {
		return slices.Contains(n.Ours, id)
	}
	return slices.Contains(own, name)
}

// own are the names of this build's programs, as far as the kernel keeps them.
var own = []string{
	cut(bpf.SteerProgSteerConnect4), cut(bpf.SteerProgSteerConnect6), cut(bpf.SteerProgBridgeSockops), cut(bpf.SteerProgAnswerSockopt),
	cut(bpf.SteerProgShowPeername4), cut(bpf.SteerProgShowPeername6), cut(bpf.SteerProgShowSockname4), cut(bpf.SteerProgShowSockname6),
	cut(bpf.SteerProgTakeLookup), cut(bpf.LaneProgAskSockopt), cut(bpf.LaneProgJoinSockops),
}

// laneMsg is the mesh's own: whose it is its name says, as sockets that are in a lane keep
// an earlier build's.
var laneMsg = cut(bpf.LaneProgLaneMsg)

// cut is a name as the kernel keeps it (BPF_OBJ_NAME_LEN).
func cut(name string) string { return name[:min(len(name), 15)] }

// Sockmaps is the name of the check for programs that move what sockets send, which an
// application's socket has room for one of.
const Sockmaps = "sockmap programs"

// sockmaps looks for programs of others that move or rewrite what sockets send, past
// the mesh and past NetworkPolicy. A socket has room for one of them.
func (n Node) sockmaps() host.Check {
	const name = Sockmaps
	var all, names []string
	err := eachProgram(func(id ebpf.ProgramID, info *ebpf.ProgramInfo) {
		if (info.Type == ebpf.SkMsg || info.Type == ebpf.SkSKB) && !n.ours(uint32(id), info.Name) && info.Name != laneMsg {
			all = append(all, fmt.Sprintf("%s %d (%s)", info.Type, id, info.Name))
			names = append(names, info.Name)
		}
	})
	if err != nil {
		return unknown(name, err, "run as root, with CAP_BPF and CAP_SYS_ADMIN")
	}
	if len(all) == 0 {
		return fine(name, "none of others")
	}
	known, fixes := owners(names)
	if len(fixes) == 0 {
		fixes = []string{"find whose they are (bpftool prog show) and keep them off the sockets of enrolled pods"}
	}
	return host.Check{Name: name, Detail: found(all, known), Fix: strings.Join(fixes, "; ")}
}

// eachProgram calls f with every program of the machine that still is when it is asked.
func eachProgram(f func(id ebpf.ProgramID, info *ebpf.ProgramInfo)) error {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open program %d: %w", id, err)
		}
		info, err := p.Info()
		p.Close()
		if err != nil {
			return fmt.Errorf("ask program %d: %w", id, err)
		}
		f(id, info)
	}
}

// pins looks beside our own pins for those of other meshes, which may be left of one
// that was removed, and hold its programs where they are.
func (n Node) pins() host.Check {
	const name = "pins of other meshes"
	dir := filepath.Dir(n.PinPath)
	var all, fixes []string
	for _, p := range products {
		for _, prefix := range p.pins {
			here, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
			if err != nil {
				return unknown(name, err, "name another --pin-path")
			}
			globals, err := filepath.Glob(filepath.Join(dir, "tc/globals", prefix+"*"))
			if err != nil {
				return unknown(name, err, "name another --pin-path")
			}
			if here = append(here, globals...); len(here) > 0 {
				all = append(all, fmt.Sprintf("%s (%s)", strings.Join(here, ", "), p.name))
				fixes = append(fixes, p.fix)
			}
		}
	}
	if len(all) == 0 {
		return fine(name, "none in "+dir)
	}
	return host.Check{
		Name: name, Detail: strings.Join(all, ", "),
		Fix: strings.Join(slices.Compact(fixes), "; ") + "; if it is gone already, remove these files",
	}
}
