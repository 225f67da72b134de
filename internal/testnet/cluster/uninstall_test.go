//go:build e2e

package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// viaService is the address of a Service: whoever calls it is answered with the mesh, and
// without.
const viaService = "198.19.7.9:20880"

// TestUninstall: consumers go on calling while the mesh leaves, and nothing of it stays.
// While it is there, none of their connections leaves its pod but by the mesh.
func TestUninstall(t *testing.T) {
	w := begin(t, "shop", system)
	consumers := []string{"consumer-n1", "consumer-n2"}
	var conflists []string
	w.step("installed, and under load", func() {
		w.peers()
		w.imported()
		for _, n := range w.Nodes {
			conflists = append(conflists, w.read(n, conflist))
			w.provider(n.Name)
		}
		w.apply(`
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: provider},
spec: {clusterIP: 198.19.7.9, selector: {serves: "true"}, ports: [{name: tcp-dubbo, port: 20880}]}}`)
		w.routes(viaService, "n1", "n2")
		w.install("xds.existingConfigMap=" + configMap)
		w.kubectl("label", "namespace", "shop", "dubway.io/mesh=enabled")
		w.enrolled("shop", "", 2)
		for i, n := range w.Nodes {
			if w.read(n, conflist) == conflists[i] {
				t.Errorf("the plugin is not in the CNI configuration of %s", n.Name)
			}
			w.consumer("consumer-"+n.Name, n.Name, viaService)
		}
		w.enrolled("shop", "", 4)
		w.calling(consumers...)
	})
	w.step("connections counted", func() {
		w.kept("shop")
		for _, pod := range w.enrolled("shop", "serves=false", 2) {
			c := w.connections(pod)
			t.Logf("%s: %+v", pod.Name, c)
			if c.Own > 0 || c.Bridge == 0 {
				t.Errorf("the mesh makes no connections of %s: %+v", pod.Name, c)
			}
		}
	})
	w.step("uninstalled", func() {
		_, err := w.Helm(w.ctx, "uninstall", release, "--namespace="+system, "--wait", "--timeout=4m")
		w.must(err)
		w.pods(system, agents, cluster.Ready(0))
		w.calling(consumers...)
	})
	w.step("nothing is left", func() {
		for i, n := range w.Nodes {
			if said := w.read(n, conflist); said != conflists[i] {
				t.Errorf("the CNI configuration of %s is\n%s\nand was\n%s", n.Name, said, conflists[i])
			}
			w.clean(n)
		}
		for _, pod := range w.pods("shop", "serves=false", cluster.Ready(2)) {
			if c := w.connections(pod); c.Own == 0 {
				t.Errorf("%s: no connection of its own was seen, though nobody else makes them now: %+v", pod.Name, c)
			}
		}
		for _, pod := range w.pods("shop", "", cluster.Ready(4)) {
			w.unmeshed(pod)
		}
	})
	w.step("a pod starts without the mesh", func() {
		w.consumer("afterwards", "n1", viaService)
		w.calling("afterwards")
	})
	w.step("calls counted", func() { w.tally("shop", append(consumers, "afterwards")...) })
}

// read returns a file of a node.
func (w *world) read(n *cluster.Node, path string) string {
	w.Helper()
	text, err := os.ReadFile(n.Path(path))
	w.must(err)
	return string(text)
}

// clean fails the test if a node has more of the mesh than docs/upgrade.md says.
func (w *world) clean(n *cluster.Node) {
	w.Helper()
	for path, want := range map[string]string{
		"/run/dubway": "active.lock served", "/sys/fs/bpf": "maps.debug progs.debug", // those are the kernel's
		"/etc/cni/net.d": "10-bridge.conflist",
	} {
		entries, err := os.ReadDir(n.Path(path))
		w.must(err)
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if got := strings.Join(names, " "); got != want {
			w.Errorf("%s of %s has %q, want %q", path, n.Name, got, want)
		}
	}
	if ids := attached(w.T, w.cgroup(n)); len(ids) > 0 {
		w.Errorf("programs %v are attached to %s", ids, n.Name)
	}
	// docs/cni.md: pods of CRI-O may need it until they end.
	if _, err := os.Stat(n.Path("/opt/cni/bin/dubway-cni")); err != nil {
		w.Errorf("the plugin's binary: %v", err)
	}
}

// unmeshed fails the test if something of the mesh is in a pod or on its object.
func (w *world) unmeshed(pod cluster.Pod) {
	w.Helper()
	if said := pod.Conditions["dubway.io/enrolled"]; strings.HasPrefix(said, "True") {
		w.Errorf("%s says that it is enrolled: %s", pod.Name, said)
	}
	if mode, ok := pod.Labels["security.istio.io/tlsMode"]; ok {
		w.Errorf("%s has the label tlsMode: %s", pod.Name, mode)
	}
	space, err := os.Open(w.netns(pod))
	w.must(err)
	defer space.Close()
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(space.Fd()), Attach: ebpf.AttachSkLookup})
	w.must(err)
	if len(found.Programs) > 0 {
		w.Errorf("programs are attached to the namespace of %s: %v", pod.Name, found.Programs)
	}
	listening, err := exec.CommandContext(w.ctx, "nsenter", "--net="+space.Name(), "ss", "-Hltn").Output()
	w.must(err)
	for line := range strings.Lines(string(listening)) {
		if !strings.Contains(line, ":20880 ") {
			w.Errorf("in %s listens %s", pod.Name, strings.TrimSpace(line))
		}
	}
	if text := fmt.Sprint(pod.Annotations); strings.Contains(text, "dubway.io") {
		w.Errorf("%s has annotations: %s", pod.Name, text)
	}
}
