package testnet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/dubway/dubway/internal/admin"
)

// MetricsPort is where dubway-proxy serves metrics in System's namespace.
const MetricsPort = 15020

// StartAgent starts dubway-agent as root and waits until it answers. There are no lanes unless
// the arguments say so: what a test finds must not hang on the kernel's build.
func (n *Node) StartAgent(ctx context.Context, args ...string) (*Process, error) {
	process, err := n.LaunchAgent("agent", args...)
	if err != nil {
		return nil, err
	}
	return process, process.WaitFor(ctx, "an answer", func() bool {
		_, err := n.AgentStatus(ctx)
		return err == nil
	})
}

// LaunchAgent is StartAgent of one of several agents, with a name for its log, and waits
// for nothing.
func (n *Node) LaunchAgent(name string, args ...string) (*Process, error) {
	places := []string{
		"run", "--state-dir", n.StateDir(), "--cgroup", n.cgroup, "--pin-path", n.PinPath(),
		"--kubelet-cgroup", "off", "--lane", "off", "--workloads", n.WorkloadsDir(), "--proxy-uid", strconv.Itoa(ProxyUID),
		"--node-address", n.Addresses()[0].String(), "--node-address", n.Addresses()[1].String(),
	}
	return n.start(Command{
		Name: name, Path: n.options.Agent, Args: append(places, args...),
		netns: n.system.Netns, cgroup: filepath.Join(n.cgroup, "agent"),
	})
}

// StartProxy starts dubway-proxy as ProxyUID, without any capability and without
// a way to get one, and waits until it answers and has reached the agent.
func (n *Node) StartProxy(ctx context.Context, args ...string) (*Process, error) {
	return n.StartProxyAs(ctx, Command{Name: "proxy", Path: n.options.Proxy, Args: args})
}

// StartProxyAs is StartProxy with another name, binary or priority.
func (n *Node) StartProxyAs(ctx context.Context, command Command) (*Process, error) {
	places := []string{"--state-dir", n.StateDir()}
	if !slices.Contains(command.Args, "--xds-server") { // a control plane is in place of the files
		places = append(places, "--xds-dir", n.XDSDir())
	}
	command.Args = append(places, command.Args...)
	process, err := n.StartUnprivileged(command)
	if err != nil {
		return nil, err
	}
	return process, process.WaitFor(ctx, "an answer", func() bool {
		status, err := n.ProxyStatus(ctx)
		return err == nil && status.AgentConnected && status.PID == process.Pid()
	})
}

// StartUnprivileged starts a command in the proxy's place: its user, its
// network namespace, its cgroup, no capability.
func (n *Node) StartUnprivileged(command Command) (*Process, error) {
	command.unprivileged = true
	command.netns, command.cgroup, command.memory = n.system.Netns, filepath.Join(n.cgroup, "proxy"), n.memory
	return n.start(command)
}

// AgentStatus asks the agent.
func (n *Node) AgentStatus(ctx context.Context) (status admin.AgentStatus, err error) {
	client := admin.NewClient(admin.AgentSocket(n.StateDir()))
	defer client.Close()
	err = client.Get(ctx, admin.PathStatus, &status)
	return status, err
}

// ProxyStatus asks the proxy.
func (n *Node) ProxyStatus(ctx context.Context) (status admin.ProxyStatus, err error) {
	client := admin.NewClient(admin.ProxySocket(n.StateDir()))
	defer client.Close()
	err = client.Get(ctx, admin.PathStatus, &status)
	return status, err
}

// Workloads asks the agent for the pods and whether they are enrolled.
func (n *Node) Workloads(ctx context.Context) ([]admin.WorkloadStatus, error) {
	client := admin.NewClient(admin.AgentSocket(n.StateDir()))
	defer client.Close()
	var list admin.WorkloadList
	err := client.Get(ctx, admin.PathWorkloads, &list)
	return list.Items, err
}

// WaitEnrolled waits until the agent has enrolled the pods and the proxy has them.
func (n *Node) WaitEnrolled(ctx context.Context, pods ...*Pod) error {
	for {
		agent, proxy := n.enrolled(ctx)
		missing := slices.DeleteFunc(slices.Clone(pods), func(p *Pod) bool { return agent[p.Name] && proxy[p.Name] })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			name := missing[0].Name
			return fmt.Errorf("wait for pod %s to be enrolled (agent %t, proxy %t): %w", name, agent[name], proxy[name], ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// enrolled returns the names of the pods that agent and proxy have.
func (n *Node) enrolled(ctx context.Context) (agent, proxy map[string]bool) {
	agent, proxy = map[string]bool{}, map[string]bool{}
	items, err := n.Workloads(ctx)
	for _, item := range items {
		agent[item.Name] = err == nil && item.Enrolled
	}
	client := admin.NewClient(admin.ProxySocket(n.StateDir()))
	defer client.Close()
	var list admin.WorkloadList
	if err := client.Get(ctx, admin.PathWorkloads, &list); err == nil {
		for _, item := range list.Items {
			proxy[item.Name] = true
		}
	}
	return agent, proxy
}

// Metrics reads the node's metrics as Prometheus would.
func (n *Node) Metrics(ctx context.Context) (string, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.system.DialContext(ctx, network, address)
		},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("http://%s/metrics", n.system.Addr(MetricsPort)), nil)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("read metrics: %w", err)
	}
	return string(text), nil
}
