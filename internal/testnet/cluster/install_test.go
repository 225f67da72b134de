//go:build e2e

package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// Dubway as it is installed: the release and all its objects are called so, in this namespace.
const (
	release   = "dubway"
	system    = "dubway-system"
	agents    = "app.kubernetes.io/name=dubway,app.kubernetes.io/instance=dubway"
	chartTag  = "dubway:e2e"
	conflist  = "/etc/cni/net.d/10-bridge.conflist"
	configMap = "routes" // of the xDS files
)

// checkout is the module's folder, which every computer has.
func (w *world) checkout() string {
	w.Helper()
	dir, err := filepath.Abs("../../..")
	w.must(err)
	return dir
}

// imported imports Dubway's image, made by deploy/image of what `make build` built, once.
func (w *world) imported() {
	w.Helper()
	w.once(chartTag, func() {
		archive := filepath.Join(w.TempDir(), "dubway.tar")
		made := exec.CommandContext(w.ctx, "go", "run", "./deploy/image", "-o", archive, "-binaries", "bin", "-tag", chartTag)
		made.Dir = w.checkout()
		if text, err := made.CombinedOutput(); err != nil {
			w.Fatalf("make image: %v\n%s", err, text)
		}
		w.must(w.ImportImage(w.ctx, archive))
	})
}

// values are those of this cluster, whose nodes share a kernel: "NAME=VALUE", as --set has them.
func (w *world) values() []string {
	w.Helper()
	root, err := machine.Cgroup2()
	w.must(err)
	return []string{
		"image.repository=dubway", "image.tag=e2e", "image.pullPolicy=Never",
		"cgroup.hostPath=" + root, "cgroup.subPathExpr=kt-$(NODE_NAME)", "kubelet.cgroup=/host/cgroup/system/kubelet",
		"cni.confDir=/etc/cni/net.d", "cni.binDir=/opt/cni/bin", "proxy.drainSeconds=5",
	}
}

// install installs the chart, and waits until it is ready on all nodes. The namespace must
// be there (begin). More values go before those of the cluster. What a test leaves
// installed is uninstalled at its end.
func (w *world) install(more ...string) {
	w.Helper()
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if _, err := w.Helm(ctx, "uninstall", release, "--namespace="+system, "--ignore-not-found", "--wait", "--timeout=4m"); err != nil {
			w.Errorf("uninstall: %v", err)
		}
	})
	_, err := w.helm("install", append([]string{"--wait", "--timeout=4m"}, w.sets(more)...)...)
	w.must(err)
	w.pods(system, agents, cluster.Ready(len(w.Nodes)))
}

// sets are the values as arguments of helm.
func (w *world) sets(more []string) (args []string) {
	w.Helper()
	for _, value := range append(w.values(), more...) {
		args = append(args, "--set="+value)
	}
	return args
}

// helm runs install or upgrade of the chart.
func (w *world) helm(verb string, args ...string) (string, error) {
	w.Helper()
	return w.Helm(w.ctx, append([]string{verb, release, filepath.Join(w.checkout(), "deploy/chart"), "--namespace=" + system}, args...)...)
}

// agent is the agent's pod of a node.
func (w *world) agent(node string) cluster.Pod {
	w.Helper()
	for _, pod := range w.pods(system, agents, cluster.Ready(len(w.Nodes))) {
		if pod.Node == node {
			return pod
		}
	}
	w.Fatalf("no agent is on %s", node)
	return cluster.Pod{}
}

// enrolled waits until n pods are ready, and part of the mesh as their condition says.
func (w *world) enrolled(namespace, selector string, n int) []cluster.Pod {
	w.Helper()
	return w.pods(namespace, selector, func(pods []cluster.Pod) error {
		for _, pod := range pods {
			if said := pod.Conditions["dubway.io/enrolled"]; !strings.HasPrefix(said, "True") {
				return fmt.Errorf("%s is not enrolled: %q", pod.Name, said)
			}
		}
		return cluster.Ready(n)(pods)
	})
}

// metrics are those of a node's proxy, asked from the node.
func (w *world) metrics(n *cluster.Node) string {
	w.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.DialContext}}
	url := "http://" + net.JoinHostPort(w.agent(n.Name).Addresses[0], "15020") + "/metrics"
	ask, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, http.NoBody)
	w.must(err)
	answer, err := client.Do(ask)
	w.must(err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	w.must(err)
	return string(text)
}

// sum adds up the series that have all parts, of all nodes.
func (w *world) sum(parts ...string) (sum int) {
	w.Helper()
	value := regexp.MustCompile(` ([0-9.e+]+)$`)
	for _, n := range w.Nodes {
	lines:
		for line := range strings.Lines(w.metrics(n)) {
			line = strings.TrimSpace(line)
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue lines
				}
			}
			if found := value.FindStringSubmatch(line); found != nil {
				number, err := strconv.ParseFloat(found[1], 64)
				w.must(err)
				sum += int(number)
			}
		}
	}
	return sum
}

// recorded is how many calls of a namespace's consumers the proxies of all nodes have
// recorded, by their reporter: source or destination.
func (w *world) recorded(namespace, reporter string) int {
	w.Helper()
	return w.sum("istio_requests_total{", `reporter="`+reporter+`"`, `source_workload_namespace="`+namespace+`"`)
}
