package cniserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/cni/entry"
	"github.com/dubway/dubway/cni/install"
)

// root is the checkout.
const root = "../.."

// built is a folder for our plugin, which is built when a test asks for it.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "dubway-cniserver-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(status)
}

// binaries makes the real plugins, of which it returns the folder, and ours.
var binaries = sync.OnceValues(func() (string, error) {
	for _, command := range []*exec.Cmd{
		exec.Command("make", "-C", root, "build/peers/cni/built"),
		exec.Command("go", "build", "-o", filepath.Join(built, entry.Type), root+"/cmd/dubway-cni"),
	} {
		command.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build CNI plugins: %w\n%s", err, text)
		}
	}
	return filepath.Abs(filepath.Join(root, "build/peers/cni"))
})

// node is a machine of the test's own: a network namespace, CNI folders into which the
// installer chained our plugin, and libcni in the runtime's place.
type node struct {
	t      *testing.T
	host   *netnstest.Netns
	conf   string // folder
	socket string
	list   *libcni.NetworkConfigList
	cni    *libcni.CNIConfig
}

// network is a conflist as a CNI writes it, of a plugin that makes veths.
func network(t *testing.T, version, kind string) string {
	return fmt.Sprintf(`{
  "cniVersion": %q,
  "name": "testnet",
  "plugins": [
    {
      "type": %q,
      "bridge": "dubway-br0",
      "isGateway": true,
      "ipam": {
        "type": "host-local",
        "dataDir": %q,
        "ranges": [[{"subnet": "10.123.0.0/16"}], [{"subnet": "fd00:123::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, version, kind, t.TempDir())
}

func newNode(t *testing.T, version, kind string, mode entry.Mode) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	plugins, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, host: netnstest.New(t), conf: t.TempDir(), socket: filepath.Join(t.TempDir(), "cni.sock")}
	bin, original := t.TempDir(), network(t, version, kind)
	if err := os.WriteFile(filepath.Join(n.conf, "10-testnet.conflist"), []byte(original), 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := install.New(install.Options{ConfDir: n.conf, BinDir: bin, Source: filepath.Join(built, entry.Type), Socket: n.socket,
		Mode: mode, Exempt: []string{"dubway-system"}, ReportStatus: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, i.Remove()); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(filepath.Join(n.conf, "10-testnet.conflist")); err != nil || string(text) != original {
			t.Errorf("the conflist is not what it was: %v\n%s", err, text)
		}
	})
	for end := time.Now().Add(30 * time.Second); i.Status().File == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(i.Status())
		}
	}
	// libcni makes one of its own when it is first used, by whoever comes first.
	run := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: io.Discard}}
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{bin, plugins}, t.TempDir(), run)
	n.load(0)
	return n
}

// load reads the conflist as a runtime does. With seconds, a pod's start waits that long.
func (n *node) load(seconds int) {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.conf, "10-testnet.conflist"))
	if err != nil {
		n.t.Fatal(err)
	}
	if seconds > 0 {
		text = []byte(strings.Replace(string(text), `"socket":`, fmt.Sprintf(`"timeoutSeconds":%d,"socket":`, seconds), 1))
	}
	if n.list, err = libcni.NetworkConfFromBytes(text); err != nil {
		n.t.Fatal(err)
	}
	if last := n.list.Plugins[len(n.list.Plugins)-1]; last.Network.Type != entry.Type {
		n.t.Fatalf("the last plugin is %s", last.Network.Type)
	}
}

// pod is a sandbox that the runtime made.
type pod struct {
	*node

	netns *netnstest.Netns
	rt    *libcni.RuntimeConf
}

func (n *node) pod(id, namespace string) *pod {
	n.t.Helper()
	ns := netnstest.New(n.t)
	return &pod{n, ns, &libcni.RuntimeConf{ContainerID: id, NetNS: ns.Path, IfName: "eth0", Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", namespace}, {"K8S_POD_NAME", "pod-" + id},
		{"K8S_POD_INFRA_CONTAINER_ID", id}, {"K8S_POD_UID", "uid-" + id},
	}}}
}

// add, check and del run on the node, as the runtime.
func (p *pod) add() (addresses []netip.Addr, err error) {
	err = p.host.Do(func() error {
		made, err := p.cni.AddNetworkList(p.t.Context(), p.list, p.rt)
		if err != nil {
			return err
		}
		result, err := current.NewResultFromResult(made)
		if err != nil {
			return err
		}
		for _, ip := range result.IPs {
			if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
				addresses = append(addresses, a.Unmap())
			}
		}
		return nil
	})
	return addresses, err
}

func (p *pod) check() error {
	return p.host.Do(func() error { return p.cni.CheckNetworkList(p.t.Context(), p.list, p.rt) })
}

func (p *pod) del() error {
	return p.host.Do(func() error { return p.cni.DelNetworkList(p.t.Context(), p.list, p.rt) })
}

// gc tells the plugins of the pods that are still there, by container.
func (n *node) gc(valid ...string) error {
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, id := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: id, IfName: "eth0"})
	}
	return n.host.Do(func() error { return n.cni.GCNetworkList(n.t.Context(), n.list, args) })
}

func (n *node) status() error {
	return n.host.Do(func() error { return n.cni.GetStatusNetworkList(n.t.Context(), n.list) })
}

// code is the code of the plugin's error, 0 for none.
func code(err error) uint {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return e.Code
	}
	return 0
}

// hasNetwork tells whether the plugins before ours gave the pod its addresses, of both
// families.
func (p *pod) hasNetwork(addresses []netip.Addr) bool {
	found := make(map[netip.Addr]bool)
	p.netns.Must(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return nil //nolint:nilerr // it has none
		}
		all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range all {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				found[ip.Unmap()] = true
			}
		}
		return err
	})
	return len(addresses) == 2 && found[addresses[0]] && found[addresses[1]]
}

// TestChain takes a pod through its life behind the real plugins, in each version of the
// specification.
func TestChain(t *testing.T) {
	for _, test := range []struct{ version, kind string }{
		{"1.1.0", "bridge"}, {"1.0.0", "ptp"}, {"0.4.0", "ptp"}, {"0.3.1", "bridge"},
	} {
		t.Run(test.kind+" "+test.version, func(t *testing.T) {
			n, agent := newNode(t, test.version, test.kind, entry.Closed), newRecorder()
			serve(t, n.socket, agent)
			p := n.pod("c1", "shop")
			addresses, err := p.add()
			if err != nil || !p.hasNetwork(addresses) {
				t.Fatalf("add: %v, addresses %v", err, addresses)
			}
			told := agent.sandbox["c1"]
			inode, err := os.Stat(p.netns.Path)
			if err != nil || !os.SameFile(inode, agent.inodes["c1"]) {
				t.Errorf("the agent got another namespace: %v", err)
			}
			if told.UID != "uid-c1" || told.Namespace != "shop" || told.Name != "pod-c1" || !slices.Equal(told.Addresses, addresses) {
				t.Errorf("the agent was told %+v", told)
			}
			if test.version != "0.3.1" {
				if err := p.check(); err != nil {
					t.Errorf("check: %v", err)
				}
				agent.set(errors.New("its path does not answer"), nil)
				if err := p.check(); err == nil || !strings.Contains(err.Error(), "does not answer") {
					t.Errorf("check of a pod that is not enrolled: %v", err)
				}
				agent.set(nil, nil)
			}
			if err := errors.Join(n.status(), n.gc("c1")); err != nil || agent.count() != 1 {
				t.Errorf("status and gc: %v, %d pods", err, agent.count())
			}
			for range 2 { // runtimes say it again when they are not sure
				if err := p.del(); err != nil || agent.count() != 0 || p.hasNetwork(addresses) {
					t.Errorf("del: %v, %d pods", err, agent.count())
				}
			}
			p.rt.NetNS = ""
			if err := p.del(); err != nil {
				t.Errorf("del without a namespace: %v", err)
			}
		})
	}
}

// TestChainLoopback runs the runtime's other network, in which we are not.
func TestChainLoopback(t *testing.T) {
	n := newNode(t, "1.0.0", "ptp", entry.Closed)
	p := n.pod("c1", "shop")
	list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion":"1.0.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	p.list, p.rt.IfName = list, "lo"
	if _, err := p.add(); err != nil {
		t.Error(err)
	}
	if err := p.del(); err != nil {
		t.Error(err)
	}
}

// TestChainWithoutAgent is what the modes are for.
func TestChainWithoutAgent(t *testing.T) {
	n := newNode(t, "1.1.0", "ptp", entry.Closed)
	n.load(1)
	p := n.pod("c1", "shop")
	_, err := p.add()
	if code(err) != types.ErrTryAgainLater || !strings.Contains(err.Error(), "no agent serves "+n.socket) || !strings.Contains(err.Error(), "kubectl get pods") {
		t.Errorf("closed: %v", err)
	}
	if err := n.status(); code(err) != 51 {
		t.Errorf("status: %v", err)
	}
	start := time.Now()
	if err := errors.Join(p.del(), n.gc("c1")); err != nil {
		t.Errorf("del and gc: %v", err)
	}
	t.Logf("del and gc without an agent: %s", time.Since(start))
	own := n.pod("c2", "dubway-system")
	if addresses, err := own.add(); err != nil || !own.hasNetwork(addresses) {
		t.Errorf("the agent's own pod: %v, %v", addresses, err)
	}
	if err := errors.Join(own.check(), own.del()); err != nil {
		t.Errorf("the agent's own pod: %v", err)
	}
	open := newNode(t, "1.0.0", "bridge", entry.Open)
	open.load(1)
	p = open.pod("c3", "shop")
	if addresses, err := p.add(); err != nil || !p.hasNetwork(addresses) {
		t.Errorf("open: %v, %v", addresses, err)
	}
	if err := p.del(); err != nil {
		t.Errorf("open: %v", err)
	}
}

// TestChainAgentHangs is an agent that takes requests and does nothing.
func TestChainAgentHangs(t *testing.T) {
	n, agent := newNode(t, "1.1.0", "ptp", entry.Closed), newRecorder()
	agent.set(nil, make(chan struct{}))
	r := serve(t, n.socket, agent)
	n.load(5)
	p := n.pod("c1", "shop")
	if _, err := p.add(); code(err) != types.ErrTryAgainLater || !strings.Contains(err.Error(), "the agent says: not done within") {
		t.Errorf("add: %v", err)
	}
	r.counted("add", "failed", 1)
	if err := p.del(); err != nil {
		t.Errorf("del: %v", err)
	}
	agent.set(errors.New("no proxy is connected"), nil)
	if err := n.status(); code(err) != 50 || !strings.Contains(err.Error(), "no proxy is connected") {
		t.Errorf("status: %v", err)
	}
	if _, err := p.add(); code(err) != types.ErrTryAgainLater || !strings.Contains(err.Error(), "no proxy is connected") {
		t.Errorf("add: %v", err)
	}
}

// TestChainAgentDies ends the agent while a pod waits for it, and starts another.
func TestChainAgentDies(t *testing.T) {
	n, first := newNode(t, "1.0.0", "ptp", entry.Closed), newRecorder()
	first.set(nil, make(chan struct{}))
	r := serve(t, n.socket, first)
	p := n.pod("c1", "shop")
	done := make(chan error)
	go func() {
		_, err := p.add()
		done <- err
	}()
	<-first.held
	r.stop()
	second := newRecorder()
	serve(t, n.socket, second)
	if err := <-done; err != nil || second.count() != 1 || first.count() != 0 {
		t.Errorf("add: %v, %d pods", err, second.count())
	}
	if err := p.del(); err != nil || second.count() != 0 {
		t.Errorf("del: %v, %d pods", err, second.count())
	}
}

// TestChainBurst is a hundred pods at once, and their end.
func TestChainBurst(t *testing.T) {
	const burst = 100
	n, agent := newNode(t, "1.1.0", "bridge", entry.Closed), newRecorder()
	serve(t, n.socket, agent)
	pods := make([]*pod, burst)
	for i := range pods {
		pods[i] = n.pod(fmt.Sprint("c", i), "shop")
	}
	start, errs := time.Now(), make(chan error)
	for _, p := range pods {
		go func() {
			addresses, err := p.add()
			if err == nil && !p.hasNetwork(addresses) {
				err = fmt.Errorf("%s has no network %v", p.rt.ContainerID, addresses)
			}
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d pods added in %s", agent.count(), time.Since(start))
	if agent.count() != burst {
		t.Errorf("%d pods", agent.count())
	}
	// The runtime lost all but one.
	if err := n.gc("c7"); err != nil || agent.count() != 1 || len(agent.kept) != 1 {
		t.Errorf("gc: %v, %d pods, kept %v", err, agent.count(), agent.kept)
	}
	if err := pods[7].del(); err != nil || agent.count() != 0 {
		t.Errorf("del: %v, %d pods", err, agent.count())
	}
}
