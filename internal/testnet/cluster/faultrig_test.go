//go:build e2e

package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestFaults: Dubway, as its chart installs it, while parts of the cluster fail. Each fault
// ends with a mesh that works, which the next one has; only who needs nodes without its pods
// waits until they are gone.
func TestFaults(t *testing.T) {
	w := begin(t)
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	w.step("Dubway installed", w.faultless)
	for _, fault := range []struct {
		name string
		test func(*rig)
	}{
		{"agentAway", (*rig).agentAway},
		{"reboot", (*rig).reboot},
		{"relabelled", (*rig).relabelled},
		{"probed", (*rig).probed},
		{"proxyKilled", (*rig).proxyKilled},
		{"burst", (*rig).burst},
		{"forbidden", (*rig).forbidden},
		{"reused", (*rig).reused},
		{"apiAway", (*rig).apiAway},
	} {
		t.Run(fault.name, func(t *testing.T) {
			namespace := "faults-" + strings.ToLower(fault.name)
			r := &rig{world: begin(t), namespace: namespace}
			r.must(r.Apply(r.ctx, fmt.Sprintf(
				"{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {dubway.io/mesh: enabled}}}", namespace)))
			t.Cleanup(func() { r.kubectl("delete", "namespace", namespace, "--wait=false") })
			t.Cleanup(func() {
				if t.Failed() {
					var logs strings.Builder
					r.Logs(&logs, namespace, system)
					t.Log(logs.String())
				}
			})
			r.must(r.Account(r.ctx, namespace))
			fault.test(r)
		})
	}
}

// faultless installs the chart, and removes it when the test ends.
func (w *world) faultless() {
	w.Helper()
	w.peers()
	w.imported()
	w.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", system)
	w.Cleanup(func() { w.delete("namespace", system) })
	w.must(w.Account(w.ctx, system))
	w.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: %s}, data: {none.yaml: %q}}", configMap, system, "resources: []\n")
	w.Cleanup(func() {
		if w.Failed() {
			var logs strings.Builder
			w.Logs(&logs, system)
			w.Log(logs.String())
		}
	})
	w.install("xds.existingConfigMap=" + configMap)
}

// rig is one fault's view of the cluster: a namespace of the mesh.
type rig struct {
	*world

	namespace string
}

// status is what dubwayctl says on a node.
func (r *rig) status(node string) (s struct{ Agent admin.AgentStatus }) {
	r.Helper()
	r.must(json.Unmarshal([]byte(r.ctl(node, "status", "-o=json")), &s))
	return s
}

// ctl runs dubwayctl on a node.
func (r *rig) ctl(node string, args ...string) string {
	r.Helper()
	return r.kubectl(append([]string{"exec", "-n=" + system, r.agent(node).Name, "-c=agent", "--", "dubwayctl"}, args...)...)
}

// configure gives the mesh a file of services in place of another fault's, which may have
// meant the same addresses, and waits until it is in force on both nodes.
func (r *rig) configure(text string) {
	r.Helper()
	before := map[string]uint64{}
	for _, n := range r.Nodes {
		before[n.Name] = r.generation(n.Name)
	}
	data, err := json.Marshal(map[string]string{r.namespace + ".yaml": text})
	r.must(err)
	r.kubectl("patch", "configmap", configMap, "-n="+system, "--type=json", `-p=[{"op": "replace", "path": "/data", "value": `+string(data)+"}]")
	r.brought()
	for node := range before {
		r.until("the configuration on "+node, func() bool { return r.generation(node) > before[node] })
	}
}

// generation is that of a proxy's configuration.
func (r *rig) generation(node string) uint64 {
	r.Helper()
	var s struct{ Proxy struct{ Generation uint64 } }
	r.must(json.Unmarshal([]byte(r.ctl(node, "status", "-o=json")), &s))
	return s.Proxy.Generation
}

// provider applies a provider.
func (r *rig) provider(name, node string) {
	r.Helper()
	r.run(peer{image: peerImage, namespace: r.namespace, name: name, node: node, args: []string{"provider", "20880", name}, serves: true})
}

// consumer applies a consumer that calls an address.
func (r *rig) consumer(name, node, address string) {
	r.Helper()
	r.run(peer{image: peerImage, namespace: r.namespace, name: name, node: node, args: []string{"load", "target=" + address + ":20880 timeout=20000"}})
}

// seen is how many requests of consumers of the rig's namespace the proxy of their node has
// recorded, since its start.
func (r *rig) seen(n *cluster.Node) int {
	r.Helper()
	return meshtest.SumOf(r.metrics(n), "istio_requests_total{", `reporter="source"`, `source_workload_namespace="`+r.namespace+`"`)
}
