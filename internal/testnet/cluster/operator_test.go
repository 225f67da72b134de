//go:build e2e

package cluster_test

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// operators asks what people ask: `helm test`, and dubwayctl as a plugin of kubectl and by
// itself.
func (w *world) operators() {
	w.Helper()
	// The cluster has no DNS: the test's provider has a fixed address here.
	w.apply(`
{apiVersion: v1, kind: Service, metadata: {namespace: default, name: helm-test},
spec: {clusterIP: 198.19.7.10, selector: {app.kubernetes.io/name: dubway-test-provider}, ports: [{name: tcp-dubbo, port: 20880}]}}`)
	w.Cleanup(func() { w.delete("service", "helm-test", "--namespace=default") })
	said, err := w.Helm(w.ctx, "test", release, "--namespace="+system, "--timeout=4m")
	w.must(err)
	if !strings.Contains(said, "dubway-test-consumer") || !strings.Contains(said, "Succeeded") || strings.Contains(said, "Failed") {
		w.Errorf("helm test says %s", said)
	}
	tools := w.TempDir()
	ctl := filepath.Join(w.checkout(), "bin/dubwayctl")
	kubectl := filepath.Join(cluster.Dir, "bin/kubectl")
	w.must(os.Symlink(ctl, filepath.Join(tools, "kubectl-dubway")))
	w.Setenv("PATH", tools+":"+filepath.Dir(kubectl)+":"+os.Getenv("PATH"))
	w.Setenv("KUBECONFIG", filepath.Join(cluster.Dir, "conf/admin.kubeconfig"))
	for _, ask := range []struct {
		command string
		says    []string
	}{
		{kubectl + " dubway status --all-nodes", []string{"n1", "n2"}},
		{kubectl + " dubway workloads --node n2", []string{"provider-n2"}},
		{ctl + " status --node n1", []string{"node n1", "3 enrolled, 0 not enrolled"}},
		{ctl + " routes --pod shop/before", []string{strings.Split(onlyMesh, ":")[0]}},
		{ctl + " doctor --node n1", nil},
		{ctl + " doctor --node n2", nil},
	} {
		words := strings.Fields(ask.command)
		said, err := w.Nodes[0].Run(w.ctx, words[0], words[1:]...)
		w.Logf("%s\n%s", ask.command, said)
		if err != nil {
			w.Errorf("%s: %v", ask.command, err)
		}
		for _, part := range ask.says {
			if !strings.Contains(said, part) {
				w.Errorf("%s does not say %q", ask.command, part)
			}
		}
	}
}
