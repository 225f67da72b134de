//go:build e2e

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
	"github.com/dubway/dubway/internal/version"
)

// Commands of more than one guide or section.
const (
	call      = "kubectl -n shop exec deployment/consumer -- dubwayctl echo call 240.0.208.81:20880"
	enrolment = `kubectl -n shop get pods -o custom-columns='POD:.metadata.name,ENROLLED:.status.conditions[?(@.type=="dubway.io/enrolled")].status,WHY:.status.conditions[?(@.type=="dubway.io/enrolled")].message'`
)

// installs follows docs/install.md up to where the example is cleaned up.
func (r *reader) installs() {
	r.Helper()
	r.follow("install.md", "Without Istio", map[string]told{
		"kubectl create namespace shop": {then: func(string) { r.must(r.Account(r.ctx, "shop")) }},
		"kubectl -n shop wait --for=condition=Available deployment --all --timeout=2m": {then: func(string) {
			r.step("its pods are enrolled", func() { r.enrolled("shop", "", 3) })
			r.shop = r.TempDir()
			r.resolve(r.shop)
			r.shell(r.written(`helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set-file 'xds.files.shop\.yaml=deploy/quickstart/shop.yaml'`))
			r.step("addresses are in force", func() { // when the kubelet has brought them
				r.brought()
				r.shell(call + " --within 4m")
			})
		}},
		enrolment: {then: r.trueOf(3)},
		call: {then: func(said string) {
			if !strings.Contains(said, "\nv1 ") && !strings.Contains(said, "\nv2 ") {
				r.Errorf("neither v1 nor v2 answered:\n%s", said)
			}
		}},
		"kubectl dubway status --all-nodes": {says: []string{"n1 ", "n2 "}},
		`helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set-file 'xds.files.shop\.yaml=deploy/quickstart/all-v2.yaml'`: {then: func(string) {
			r.step("all calls go to v2", func() {
				r.brought()
				r.settled("v2")
				r.kept("shop")
			})
		}},
	})
}

// uninstalls follows the rest of it. What it removes is looked at by TestUninstall.
func (r *reader) uninstalls() {
	r.Helper()
	r.follow("install.md", "What is created", nil)
}

// brought has the kubelets bring files that were changed: they do when they look at a pod, which
// is within a minute and a half, or at once when it changes.
func (w *world) brought() {
	w.Helper()
	w.kubectl("annotate", "pods", "-n="+system, "-l="+agents, "--overwrite", fmt.Sprintf("test/brought=%d", time.Now().UnixNano()))
}

// trueOf wants a list to name n pods that are enrolled.
func (r *reader) trueOf(n int) func(string) {
	return func(said string) {
		r.Helper()
		if strings.Count(said, " True ") != n {
			r.Errorf("not %d pods are enrolled:\n%s", n, said)
		}
	}
}

// clear removes what the guide made, if it did not come to its end.
func (w *world) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if w.Failed() {
		for _, container := range []string{"agent", "proxy"} {
			said, _ := w.Kubectl(ctx, "logs", "-n=dubway-system", "-l=app.kubernetes.io/name=dubway", "-c="+container, "--prefix", "--tail=200")
			w.Log(said)
		}
	}
	_, gone := w.Helm(ctx, "uninstall", "dubway", "-n=dubway-system", "--ignore-not-found", "--timeout=4m")
	_, deleted := w.Kubectl(ctx, "delete", "namespace", "shop", "infra", "monitoring", "dubway-system", "--ignore-not-found", "--timeout=2m")
	if err := errors.Join(gone, deleted); err != nil {
		w.Errorf("clear: %v", err)
	}
}

// settled calls until ten answers after each other are of one version.
func (r *reader) settled(version string) {
	r.Helper()
	for in := 0; in < 10; {
		said := r.shell(call)
		if in++; !strings.Contains(said, "\n"+version+" ") {
			in = 0
			select {
			case <-r.ctx.Done():
				r.Fatalf("another version still answers:\n%s", said)
			case <-time.After(time.Second):
			}
		}
	}
}

// resolve writes files of the guide's configuration with addresses in place of names, into a
// directory: this cluster has no DNS of its own.
func (w *world) resolve(dir string) {
	w.Helper()
	var names []string
	for _, version := range []string{"v1", "v2"} {
		pod := w.pods("shop", "app=provider,version="+version, cluster.Ready(1))[0]
		names = append(names, "provider-"+version+".shop.svc.cluster.local", pod.Addresses[0])
	}
	for _, file := range []string{"shop.yaml", "all-v2.yaml"} {
		text, err := os.ReadFile(filepath.Join("../../../deploy/quickstart", file))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(dir, file), []byte(strings.NewReplacer(names...).Replace(string(text))), 0o644))
	}
}

// release imports the image that the guide and the chart name.
func (w *world) release() {
	w.Helper()
	archive := filepath.Join(w.TempDir(), "dubway.tar")
	build := exec.CommandContext(w.ctx, "go", "run", "./deploy/image", "-o", archive, "-binaries", "bin", "-tag", "dubway:"+version.Version)
	build.Dir = "../../.."
	said, err := build.CombinedOutput()
	if err != nil {
		w.Fatalf("%v: %s", err, said)
	}
	w.must(w.ImportImage(w.ctx, archive))
}

// nodeValues is a file of values for nodes that share a machine.
func (w *world) nodeValues() string {
	w.Helper()
	cgroups, err := machine.Cgroup2()
	w.must(err)
	path := filepath.Join(w.TempDir(), "values.yaml")
	text := fmt.Sprintf("cgroup: {hostPath: %s, subPathExpr: kt-$(NODE_NAME)}\nkubelet: {cgroup: /host/cgroup/system/kubelet}\nproxy: {drainSeconds: 5}\n", cgroups)
	w.must(os.WriteFile(path, []byte(text), 0o644))
	return path
}
