package cluster

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// startControl starts the control plane and waits until the API server is ready.
func (c *Cluster) startControl(ctx context.Context) error {
	if err := c.writeConfigs(); err != nil {
		return err
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return fmt.Errorf("%w: install Debian's package etcd-server, as make e2e does", err)
	}
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	// Its data is in memory: nothing of it is to outlive the cluster, and a disk is slow.
	store, err := c.control.Start(machine.Command{Name: "etcd", Path: etcd, Args: []string{
		"--data-dir", "/run/etcd", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
	}})
	if err != nil {
		return err
	}
	server, err := c.control.Start(machine.Command{Name: "kube-apiserver", Path: c.program("kube-apiserver"), Args: []string{
		"--etcd-servers=" + client, "--secure-port=6443", "--cert-dir=" + c.conf(""), "--advertise-address=" + apiAddress,
		"--service-cluster-ip-range=" + services, "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.conf("accounts.key"), "--service-account-signing-key-file=" + c.conf("accounts.key"),
		"--token-auth-file=" + c.conf("tokens.csv"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
	}})
	if err != nil {
		return err
	}
	c.api = &api{control: c.control, certificate: c.conf("apiserver.crt")}
	if err := eventually(ctx, "kube-apiserver", func(ctx context.Context) error {
		_, err := c.api.get(ctx, "/readyz")
		return err
	}, store, server); err != nil {
		return err
	}
	return c.startControllers()
}

func (c *Cluster) startControllers() error {
	_, err := c.control.Start(machine.Command{Name: "kube-controller-manager", Path: c.program("kube-controller-manager"), Args: []string{
		"--kubeconfig=" + c.conf("admin.kubeconfig"), "--leader-elect=false", "--profiling=false",
		"--service-account-private-key-file=" + c.conf("accounts.key"), "--root-ca-file=" + c.conf("apiserver.crt"),
		"--use-service-account-credentials=true",
	}})
	if err != nil {
		return err
	}
	_, err = c.control.Start(machine.Command{Name: "kube-scheduler", Path: c.program("kube-scheduler"), Args: []string{
		"--kubeconfig=" + c.conf("admin.kubeconfig"), "--leader-elect=false", "--profiling=false",
	}})
	return err
}

// writeConfigs writes keys, tokens and the administrator's kubeconfig.
func (c *Cluster) writeConfigs() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	for name, text := range map[string]string{
		"accounts.key":     string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv":       c.tokens(),
		"admin.kubeconfig": c.kubeconfig(adminToken),
	} {
		if err := os.WriteFile(c.conf(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	return nil
}

// startNodes starts the nodes' services, gives them the images that every node has, and
// waits until both are ready.
func (c *Cluster) startNodes(ctx context.Context) error {
	errs := make([]error, len(c.Nodes))
	var all sync.WaitGroup
	for i, n := range c.Nodes {
		all.Go(func() { errs[i] = n.startFirst(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.ready(ctx)
}

// startFirst starts a node for the first time.
func (n *Node) startFirst(ctx context.Context) error {
	if err := n.StartService(ctx, Containerd); err != nil {
		return err
	}
	for _, name := range []string{"pause", "pod"} {
		if err := n.ImportImage(ctx, n.cluster.archive(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{KubeProxy, Kubelet} {
		if _, err := n.launch(name); err != nil { // both wait for the API server as for each other
			return err
		}
	}
	return nil
}

// ready waits until every node is, and there is the account that pods run as.
func (c *Cluster) ready(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := eventually(ctx, "node "+n.Name, func(ctx context.Context) error { return c.isReady(ctx, n) }); err != nil {
			return err
		}
	}
	return c.Account(ctx, "default")
}

// Account waits until a namespace has the account that its pods run as: earlier ones are
// refused.
func (c *Cluster) Account(ctx context.Context, namespace string) error {
	return eventually(ctx, "the account of pods of "+namespace, func(ctx context.Context) error {
		_, err := c.api.get(ctx, "/api/v1/namespaces/"+namespace+"/serviceaccounts/default")
		return err
	})
}

func (c *Cluster) isReady(ctx context.Context, n *Node) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := c.api.read(ctx, "/api/v1/nodes/"+n.Name, &node); err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == "Ready" {
			if condition.Status == "True" {
				return nil
			}
			return fmt.Errorf("it is not ready: %s", strings.TrimSpace(condition.Message))
		}
	}
	return errors.New("it says nothing of itself")
}

// HideAPI has everything outside of its own computer find the API server silent, as behind a
// cut cable, or ends that. The administrator's kubectl is on that computer.
func (c *Cluster) HideAPI(ctx context.Context, hidden bool) error {
	rules := "table inet hidden\ndelete table inet hidden\n"
	if hidden {
		rules += `table inet hidden {
	chain input {
		type filter hook input priority 0
		iifname ` + bridge + ` tcp dport 6443 drop
	}
}
`
	}
	file := c.conf("hidden.nft")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		return fmt.Errorf("hide API server: %w", err)
	}
	if _, err := c.control.Run(ctx, "nft", "-f", file); err != nil {
		return fmt.Errorf("hide API server: %w", err)
	}
	return nil
}
