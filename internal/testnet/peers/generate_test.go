package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// TestGenerate: dubwayctl reads a real ZooKeeper in which real providers have registered, one
// as an application, one by its interfaces, and one on a machine that is no pod, and writes
// the Services of those that are pods.
func TestGenerate(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, "pe4", 4, 5*time.Minute)
	x := &registry{Mesh: m, home: filepath.Join(m.StateDir(), "home"), first: m.Pod("first", port), second: m.Pod("second", port)}
	machine := m.Pod("machine", port) // no pod, as far as the API knows
	x.addZooKeeper()
	x.serveZooKeeper()
	ways := map[*testnet.Pod]string{x.first: "instance", x.second: "interface", machine: "interface"}
	var waits []func()
	for p, way := range ways {
		flags := append(x.flags(p), "-Ddubbo.application.register-mode="+way, x.url)
		_, ready := provide(m, p, map[string]kind{"instance": java33, "interface": java32}[way], flags...)
		waits = append(waits, ready)
	}
	for _, wait := range waits {
		wait()
	}
	ctl := filepath.Join(meshtest.Binaries, "dubwayctl")
	pods := x.manifests(x.first, x.second)
	var got generated
	m.Eventually("all have registered", func() bool {
		got = x.generate(ctl, pods)
		return len(got.Services) == 2 && len(got.Unmatched) == 1
	})
	for _, s := range got.Services {
		if s.Kind != "Service" || s.Spec.ClusterIP != "None" || s.Spec.Selector["app"] != s.Metadata.Name || s.Metadata.Namespace != testnet.Namespace {
			t.Errorf("%+v is no headless Service of its pods", s)
		}
		if len(s.Spec.Ports) != 1 || s.Spec.Ports[0].Name != "dubbo" || s.Spec.Ports[0].Port != port {
			t.Errorf("%s has the ports %+v", s.Metadata.Name, s.Spec.Ports)
		}
		// Java tells which interfaces an application serves where it maps interfaces to it.
		if !slices.Contains(strings.Split(s.Metadata.Annotations["dubway.io/interfaces"], ","), "org.dubway.test.Probe") {
			t.Errorf("%s serves %q", s.Metadata.Name, s.Metadata.Annotations["dubway.io/interfaces"])
		}
	}
	if want := machine.Addr(port).String() + " of probe-provider"; got.Unmatched[0] != want {
		t.Errorf("no pod has %q, want %q", got.Unmatched[0], want)
	}
}

// generated is what dubwayctl generate services -o json writes.
type generated struct {
	Services []struct {
		Kind     string
		Metadata struct {
			Name, Namespace string
			Annotations     map[string]string
		}
		Spec struct {
			ClusterIP string
			Selector  map[string]string
			Ports     []struct {
				Name string
				Port int
			}
		}
	}
	Unmatched []string
}

// generate runs the command where the registry can be reached.
func (x *registry) generate(ctl, pods string) (said generated) {
	x.T.Helper()
	var out []byte
	ctx, cancel := context.WithTimeout(x.Ctx, time.Minute)
	defer cancel()
	x.Must(x.zookeeper.Do(func() (err error) {
		// A child is in the network namespace of the thread that starts it.
		out, err = exec.CommandContext(ctx, ctl, "generate", "services", "--from-registry", x.url, "--from", pods, "-o", "json").Output()
		return err
	}))
	x.Must(json.Unmarshal(out, &said))
	return said
}

// manifests are pods as the API server would tell of them.
func (x *registry) manifests(pods ...*testnet.Pod) (file string) {
	x.T.Helper()
	var b strings.Builder
	for _, p := range pods {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s-5c7f-x, namespace: %[2]s, labels: {app: %[1]s, pod-template-hash: 5c7f}}
spec: {containers: [{name: app}]}
status: {phase: Running, podIPs: [{ip: "%[3]s"}, {ip: "%[4]s"}]}
`, p.Name, testnet.Namespace, p.Addresses[0], p.Addresses[1])
	}
	file = filepath.Join(x.T.TempDir(), "pods.yaml")
	x.Must(os.WriteFile(file, []byte(b.String()), 0o600))
	return file
}
