package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster/capture"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// The services of a node, by the names of their logs.
const (
	Containerd = "containerd"
	Kubelet    = "kubelet"
	KubeProxy  = "kube-proxy"
)

// Node is a node of a cluster. Its machine is what a test reaches into.
type Node struct {
	*machine.Machine

	Name    string
	Capture *capture.Capture // anew with each boot

	cluster *Cluster
	number  int // from 1

	mu       sync.Mutex
	services map[string]*machine.Service
}

// others are the cluster's other nodes.
func (c *Cluster) others(of *Node) []*Node {
	var all []*Node
	for _, n := range c.Nodes {
		if n != of {
			all = append(all, n)
		}
	}
	return all
}

// ContainerdSocket is where every node's containerd listens.
const ContainerdSocket = "/run/containerd/containerd.sock"

// The directories of a node's CNI.
const (
	cniConf = "/etc/cni/net.d"
	cniBin  = "/opt/cni/bin"
)

// furnish puts what is on a node's disk onto it, once: it stays over reboots.
func (n *Node) furnish() error {
	files := map[string]string{
		filepath.Join(cniConf, "10-bridge.conflist"): n.conflist(),
		"/etc/containerd/config.toml":                n.containerdConfig(),
		"/etc/kubernetes/kubelet.yaml":               n.kubeletConfig(),
		"/etc/kubernetes/kube-proxy.yaml":            n.proxyConfig(),
		"/etc/kubernetes/kubelet.kubeconfig":         n.cluster.kubeconfig(n.token()),
		"/etc/kubernetes/kube-proxy.kubeconfig":      n.cluster.kubeconfig(proxyToken),
		"/etc/machine-id":                            fmt.Sprintf("%032d\n", n.number),
	}
	for name, text := range files {
		if err := os.MkdirAll(n.Path(filepath.Dir(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(n.Path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(n.Path(cniBin), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"bridge", "host-local", "loopback", "portmap"} {
		binary, err := os.ReadFile(filepath.Join(n.cluster.options.Programs.CNI, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(n.Path(filepath.Join(cniBin, name)), binary, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// StartService starts containerd, kubelet or kube-proxy, and waits until it answers.
func (n *Node) StartService(ctx context.Context, name string) error {
	service, err := n.launch(name)
	if err != nil {
		return err
	}
	answers := map[string]func(context.Context) error{
		Containerd: func(ctx context.Context) error { _, err := n.ctr(ctx, "version"); return err },
		Kubelet:    func(ctx context.Context) error { return n.healthy(ctx, "127.0.0.1:10248") },
		KubeProxy:  func(ctx context.Context) error { return n.healthy(ctx, "127.0.0.1:10256") },
	}
	return eventually(ctx, name+" of "+n.Name, answers[name], service)
}

// launch starts a service.
func (n *Node) launch(name string) (*machine.Service, error) {
	command := machine.Command{Name: name}
	switch name {
	case Containerd:
		command.Path = filepath.Join(n.cluster.options.Programs.Containerd, "containerd")
		command.Args = []string{"--config=/etc/containerd/config.toml"}
	case Kubelet:
		command.Path = n.cluster.program("kubelet")
		command.Args = []string{
			"--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
			"--hostname-override=" + n.Name, "--node-ip=" + n.addresses()[0] + "," + n.addresses()[1],
		}
	case KubeProxy:
		command.Path = n.cluster.program("kube-proxy")
		command.Args = []string{"--config=/etc/kubernetes/kube-proxy.yaml"}
	default:
		return nil, fmt.Errorf("start %s: it is no service of a node", name)
	}
	// The shim is found where its own containerd is.
	command.Env = []string{"PATH=" + n.cluster.options.Programs.Containerd + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	service, err := n.Start(command)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.services == nil {
		n.services = map[string]*machine.Service{}
	}
	n.services[name] = service
	return service, nil
}

// healthy asks a service on the node how it is.
func (n *Node) healthy(ctx context.Context, address string) error {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.DialContext}}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	answer, err := client.Do(ask)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", address, answer.Status)
	}
	return nil
}

// KillService ends containerd, kubelet or kube-proxy as kill -9 does. Containers go on.
func (n *Node) KillService(name string) error {
	n.mu.Lock()
	service := n.services[name]
	n.mu.Unlock()
	if service == nil {
		return fmt.Errorf("kill %s of %s: it was not started", name, n.Name)
	}
	return service.Kill()
}

// Reboot cuts the node's power and boots it: every process, mount, namespace and link is
// gone, its disk is as it was. It returns when kubelet was started, long before that has
// found its pods again.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.Halt(); err != nil {
		return err
	}
	if err := machine.Sweep(cgroupOf(n.Name)); err != nil {
		return err
	}
	if err := n.Boot(); err != nil {
		return err
	}
	if err := n.plug(); err != nil {
		return fmt.Errorf("plug %s: %w", n.Name, err)
	}
	if err := n.watch(ctx); err != nil {
		return err
	}
	if err := n.StartService(ctx, Containerd); err != nil {
		return err
	}
	for _, name := range []string{KubeProxy, Kubelet} {
		if _, err := n.launch(name); err != nil {
			return err
		}
	}
	return nil
}

// watch begins to count what is begun in the node's pods. With its cgroup and its network went
// what counted before.
func (n *Node) watch(ctx context.Context) error {
	root, err := machine.Cgroup2()
	if err != nil {
		return err
	}
	if n.Capture != nil {
		_ = n.Capture.Close()
	}
	n.Capture, err = capture.Start(ctx, n, filepath.Join(root, cgroupOf(n.Name)), n.cluster.conf(""))
	if err != nil {
		return fmt.Errorf("watch %s: %w", n.Name, err)
	}
	return nil
}

// ctr runs containerd's own client on the node.
func (n *Node) ctr(ctx context.Context, args ...string) (string, error) {
	return n.Run(ctx, filepath.Join(n.cluster.options.Programs.Containerd, "ctr"), append([]string{"-n", "k8s.io"}, args...)...)
}

// ImportImage imports an image's archive, from a path that every computer has.
func (n *Node) ImportImage(ctx context.Context, archive string) error {
	if _, err := n.ctr(ctx, "images", "import", archive); err != nil {
		return fmt.Errorf("import image on %s: %w", n.Name, err)
	}
	return nil
}
