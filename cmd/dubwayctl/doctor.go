package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/datapath/conflict"
	"github.com/dubway/dubway/agent/datapath/host"
	"github.com/dubway/dubway/internal/admin"
)

// verdict is the result of one of the doctor's checks.
type verdict string

// The verdicts: only blocked fails the command.
const (
	fine    verdict = "ok"
	warning verdict = "warn"
	blocked verdict = "fail"
)

// finding is one check of the doctor.
type finding struct {
	Name    string  `json:"name"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Fix     string  `json:"fix,omitempty"`
}

// diagnosis is the document of the doctor command.
type diagnosis struct {
	APIVersion string    `json:"apiVersion"`
	Healthy    bool      `json:"healthy"` // nothing blocks
	Findings   []finding `json:"findings"`
}

// patient is what the doctor looks at.
type patient struct {
	cgroup, pinPath, confDir string
}

func (e *env) doctorCommand() *cobra.Command {
	var p patient
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong with this machine, and the fix",
		Long: "Say whether this machine can run Dubway, and how what runs is doing: kernel, mounts, capabilities,\n" +
			"ports, what gets in the mesh's way. It changes nothing. Fails if something blocks.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := e.diagnose(c.Context(), p)
			if err := e.write(d, d.table); err != nil {
				return err
			}
			if !d.Healthy {
				return errors.New("something blocks: see the checks that fail, each with its fix")
			}
			return nil
		},
	}
	c.Flags().StringVar(&p.cgroup, "cgroup", "", "the cgroup that the agent attaches to (default: the host's root)")
	c.Flags().StringVar(&p.pinPath, "pin-path", datapath.DefaultPinPath, "where the agent pins programs and maps")
	c.Flags().StringVar(&p.confDir, "cni-conf-dir", confDir(), "the node's CNI configurations; empty: they are not looked at")
	return c
}

// diagnose gathers all findings, in the order in which one would repair them.
func (e *env) diagnose(ctx context.Context, p patient) *diagnosis {
	d := &diagnosis{APIVersion: admin.APIVersion, Healthy: true}
	status, _ := e.status(ctx) // it says which process does not answer, and why
	if status.Agent != nil && p.cgroup == "" {
		p.cgroup = status.Agent.Cgroup
	}
	d.privileges()
	for _, c := range host.Probe(p.cgroup, p.pinPath) {
		d.add(c.OK, finding{c.Name, blocked, c.Detail, c.Fix})
	}
	d.conflicts(p, status)
	d.ports(ctx, status)
	d.processes(status)
	for _, f := range d.Findings {
		if f.Verdict == blocked {
			d.Healthy = false
		}
	}
	return d
}

// add adds a finding. If all is well, its verdict and its fix do not apply.
func (d *diagnosis) add(ok bool, f finding) {
	if ok {
		f.Verdict, f.Fix = fine, ""
	}
	d.Findings = append(d.Findings, f)
}

// privileges comes first: without them most probes fail for that reason alone.
func (d *diagnosis) privileges() {
	if uid := os.Geteuid(); uid != 0 {
		d.add(false, finding{
			"privileges", blocked, fmt.Sprintf("dubwayctl runs as uid %d: probes of the kernel need root", uid),
			"run sudo dubwayctl doctor",
		})
	}
}

// conflicts looks for what the agent looks for too: none of it keeps the mesh from
// running, and each may keep it from what it is there for.
func (d *diagnosis) conflicts(p patient, status *nodeStatus) {
	node := conflict.Node{Cgroup: p.cgroup, PinPath: p.pinPath, ConfDir: p.confDir}
	if node.Cgroup == "" {
		root, err := host.FindCgroupRoot()
		if err != nil {
			return // the probe of cgroup2 said so
		}
		node.Cgroup = root
	}
	if status.Agent != nil {
		for _, program := range status.Agent.Programs {
			node.Ours = append(node.Ours, program.ID)
		}
	}
	for _, c := range conflict.Find(node) {
		d.add(c.OK, finding{c.Name, warning, c.Detail, c.Fix})
	}
}

// confDir is where CNI configurations are, on a node and in the agent's container.
func confDir() string {
	for _, dir := range []string{"/host/etc/cni/net.d", "/etc/cni/net.d"} {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// ports looks whether somebody else has the ports of the agent's pod. Those in
// the pods' namespaces are the agent's to find: it says why a pod is not enrolled.
func (d *diagnosis) ports(ctx context.Context, status *nodeStatus) {
	if status.Proxy != nil {
		return // they are in use, by the proxy
	}
	for _, p := range []struct{ port, flag string }{{"15020", "--metrics-address"}, {"15021", "--health-address"}} {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", ":"+p.port)
		if err == nil {
			listener.Close()
		}
		taken := errors.Is(err, syscall.EADDRINUSE)
		detail := "free"
		if taken {
			detail = "another process listens there"
		} else if err != nil {
			detail = err.Error()
		}
		d.add(err == nil, finding{
			"port " + p.port, warning, detail,
			"find it with ss -ltnp, or give dubway-proxy another " + p.flag + " where both share a network namespace",
		})
	}
}

// processes tells how what runs is doing.
func (d *diagnosis) processes(status *nodeStatus) {
	if status.Agent == nil {
		d.add(false, finding{"dubway-agent", warning, status.AgentError, "start dubway-agent as root, or name its --state-dir"})
	} else {
		d.agent(status.Agent)
	}
	if status.Proxy == nil {
		d.add(false, finding{"dubway-proxy", warning, status.ProxyError, "start dubway-proxy as uid 65532, or name its --state-dir"})
	} else {
		d.proxy(status.Proxy)
	}
}

func (d *diagnosis) agent(a *admin.AgentStatus) {
	d.add(true, finding{Name: "dubway-agent", Detail: process(a.Process)})
	d.agentCgroup(a)
	connection := "connected"
	if !a.ProxyConnected {
		connection = "no proxy: new connections of enrolled pods wait"
	}
	d.add(a.ProxyConnected, finding{
		"proxy's connection", blocked, connection, "start dubway-proxy as uid 65532 with the same --state-dir",
	})
	if k := a.Kubelet; k != nil {
		d.add(k.Passes, finding{"kubelet's probes", warning, kubelet(k), "see docs/probes.md: until then probes of ports with " +
			"PeerAuthentication STRICT or an AuthorizationPolicy fail; probe by exec, or by a port that is not enrolled"})
	}
	if a.Lanes != nil { // without them all calls take the proxy: that is no fault
		d.add(true, finding{Name: "lanes", Detail: a.Lanes.String()})
	}
	for _, problem := range a.Problems {
		d.add(false, finding{"agent's problem", warning, problem, "see dubwayctl workloads and the agent's log"})
	}
}

// kubelet tells whether the probes of a node's kubelet pass.
func kubelet(k *admin.Kubelet) string {
	if !k.Passes {
		return "are as anybody's connections: " + k.Reason
	}
	return "pass, from " + k.Cgroup
}

// agentCgroup looks whether the agent is below the cgroup that it attaches to.
// Its sockets accept what is steered, so the programs must run for them too.
func (d *diagnosis) agentCgroup(a *admin.AgentStatus) {
	const name = "agent's cgroup"
	own, err := host.ProcessCgroup(a.PID)
	if err != nil {
		d.add(false, finding{name, warning, err.Error(), "run dubwayctl doctor on the agent's node, with its /proc"})
		return
	}
	d.add(host.Below(own, a.Cgroup), finding{
		name, blocked, own,
		"start dubway-agent in a cgroup below " + a.Cgroup + ", or have it attach to one above its own (--cgroup)",
	})
}

func (d *diagnosis) proxy(p *admin.ProxyStatus) {
	d.add(true, finding{Name: "dubway-proxy", Detail: process(p.Process)})
	d.add(len(p.Capabilities) == 0, finding{
		"proxy's capabilities", warning, capabilities(p.Capabilities),
		"run dubway-proxy as an ordinary user: it parses what pods send",
	})
	for i := range p.Rejections {
		d.add(false, finding{"configuration", warning, rejectionLine(&p.Rejections[i]),
			"correct the file (dubwayctl check PATH tells when it is valid), or what the control plane made it of"})
	}
	for i := range p.StaleAddresses {
		d.add(false, staleFinding(&p.StaleAddresses[i]))
	}
	for _, problem := range p.Problems {
		d.add(false, finding{"proxy's problem", warning, problem, "see the proxy's log"})
	}
}

// staleFinding tells of an address that a consumer's registry should not name.
func staleFinding(a *admin.StaleAddress) finding {
	return finding{
		"stale address", warning, fmt.Sprintf("%s called %s at %s %d times, last at %s: that address does not serve it",
			a.Consumer, a.Interface, a.Address, a.Count, a.Last.Format(time.RFC3339)),
		"the registry still names it, or the consumer has not heard that it went: look for a provider that did not " +
			"unregister, and at the consumer's connection to the registry",
	}
}

func (d *diagnosis) table(t *table) {
	t.row("CHECK", "RESULT", "FOUND")
	for _, f := range d.Findings {
		t.row(f.Name, f.Verdict, f.Detail)
	}
	first := true
	for _, f := range d.Findings {
		if f.Fix == "" {
			continue
		}
		if first {
			t.gap()
			first = false
		}
		t.linef("%s: %s", f.Name, f.Fix)
	}
}
