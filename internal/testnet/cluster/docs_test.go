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
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
	"github.com/dubway/dubway/internal/testnet/guide"
	"github.com/dubway/dubway/internal/version"
)

// reader follows a guide, in a checkout.
type reader struct {
	*world

	guide    []guide.Command
	operator *cluster.Operator
	// change makes of a line what somebody with this cluster would write.
	change func(line string) string
}

// reader opens a guide of docs/. change may be nil.
func (w *world) reader(name string, change func(string) string) *reader {
	w.Helper()
	root, err := filepath.Abs("../../..")
	w.must(err)
	commands, err := guide.Read(filepath.Join(root, "docs", name))
	w.must(err)
	operator, err := w.Operator(root, filepath.Join(root, "bin/dubwayctl"))
	w.must(err)
	if change == nil {
		change = func(line string) string { return line }
	}
	return &reader{world: w, guide: commands, operator: operator, change: change}
}

// follow gives the commands of a section in order, and hands each with its output to then, which
// may be nil.
func (r *reader) follow(section string, then func(line, said string)) {
	r.Helper()
	commands := guide.Section(r.guide, section)
	if len(commands) == 0 {
		r.Fatalf("no commands in section %q", section)
	}
	for _, c := range commands {
		r.step(c.Line, func() {
			said, err := r.operator.Shell(r.ctx, r.change(c.Line))
			r.must(err)
			if then != nil {
				then(c.Line, said)
			}
		})
	}
}

// call is the guide's.
const call = "kubectl -n shop exec deployment/consumer -- dubwayctl echo call 240.0.208.81:20880"

// TestInstall follows docs/install.md: whoever does what it says has a mesh that routes, and then
// has none.
func TestInstall(t *testing.T) {
	w := begin(t)
	t.Cleanup(w.clear)
	w.step("image imported", w.release)
	values, resolved := w.nodeValues(), ""
	r := w.reader("install.md", func(line string) string {
		if strings.HasPrefix(line, "helm ") && strings.Contains(line, "deploy/chart") {
			line += " --values " + values
		}
		if resolved != "" {
			line = strings.ReplaceAll(line, "=deploy/quickstart/", "="+resolved+"/")
		}
		return line
	})
	r.follow("Without Istio", func(line, said string) {
		t.Logf("%s\n%s", line, said)
		switch {
		case strings.Contains(line, "echo call"):
			if !strings.Contains(said, "\nv1 ") && !strings.Contains(said, "\nv2 ") {
				t.Errorf("%s: neither v1 nor v2 answered:\n%s", line, said)
			}
		case strings.Contains(line, "create namespace shop"):
			w.must(w.Account(w.ctx, "shop"))
		case strings.Contains(line, "wait --for"):
			w.step("its pods are enrolled", func() { w.pods("shop", "", partOfMesh(3)) })
			resolved = w.TempDir()
			w.resolve(resolved)
			_, err := r.operator.Shell(w.ctx, r.change(`helm upgrade dubway deploy/chart -n dubway-system --reuse-values --set-file 'xds.files.shop\.yaml=deploy/quickstart/shop.yaml'`))
			w.must(err)
			w.step("addresses are in force", func() { // when the kubelet has brought them
				_, err := r.operator.Shell(w.ctx, call+" --within 4m")
				w.must(err)
			})
		case strings.HasPrefix(line, "helm upgrade"):
			w.step("all calls go to v2", func() { w.settled(r, "v2") })
		case strings.Contains(line, "status --all-nodes"):
			for _, n := range w.Nodes {
				if !strings.Contains(said, n.Name+" ") {
					t.Errorf("%s does not tell of %s:\n%s", line, n.Name, said)
				}
			}
		}
	})
	if resolved == "" {
		t.Error("the guide waits for no pods")
	}
	r.follow("What is created", nil)
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
	_, deleted := w.Kubectl(ctx, "delete", "namespace", "shop", "dubway-system", "--ignore-not-found", "--timeout=2m")
	if err := errors.Join(gone, deleted); err != nil {
		w.Errorf("clear: %v", err)
	}
}

// partOfMesh accepts n pods whose conditions say that they are enrolled.
func partOfMesh(n int) func([]cluster.Pod) error {
	return func(pods []cluster.Pod) error {
		for i := range pods {
			if said := pods[i].Conditions["dubway.io/enrolled"]; !strings.HasPrefix(said, "True") {
				return fmt.Errorf("%s is not enrolled: %q", pods[i].Name, said)
			}
		}
		return cluster.Ready(n)(pods)
	}
}

// settled calls until ten answers after each other are of one version.
func (w *world) settled(r *reader, version string) {
	w.Helper()
	for in := 0; in < 10; {
		said, err := r.operator.Shell(w.ctx, call)
		w.must(err)
		if in++; !strings.Contains(said, "\n"+version+" ") {
			in = 0
			select {
			case <-w.ctx.Done():
				w.Fatalf("another version still answers:\n%s", said)
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
