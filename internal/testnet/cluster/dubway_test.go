//go:build e2e

package cluster_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/image"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// dubwayImage has the programs under test.
const dubwayImage = "dubway.test/dubway:1"

// TestDubway: agent and proxy run as a DaemonSet with no more privileges than they need,
// and the agent's programs are attached to its own node alone.
func TestDubway(t *testing.T) {
	w := begin(t, "dubway")
	w.step("Dubway's image imported", w.dubway)
	root, err := machine.Cgroup2()
	w.must(err)
	manifest, err := os.ReadFile("testdata/dubway.yaml")
	w.must(err)
	w.step("Dubway runs on both nodes", func() {
		w.must(w.Apply(w.ctx, strings.NewReplacer("${IMAGE}", dubwayImage, "${CGROUP2}", root).Replace(string(manifest))))
		for _, pod := range w.pods("dubway", "app=dubway", cluster.Ready(2)) {
			var status struct {
				Agent struct{ Node, Cgroup string }
			}
			w.must(json.Unmarshal([]byte(w.kubectl("exec", "-n=dubway", pod.Name, "-c=agent", "--", "/usr/bin/dubwayctl", "status", "-o=json")), &status))
			if status.Agent.Node != pod.Node || status.Agent.Cgroup != "/host/cgroup" {
				t.Errorf("the agent on %s says %+v", pod.Node, status)
			}
		}
	})
	whole := attached(t, root)
	for _, n := range w.Nodes {
		own := attached(t, filepath.Join(root, "kt-"+n.Name))
		if len(own) == 0 {
			t.Errorf("nothing is attached to %s", n.Name)
		}
		for _, id := range own {
			if slices.Contains(whole, id) {
				t.Errorf("program %d is attached to the whole machine", id)
			}
		}
	}
	if others := attached(t, filepath.Join(root, "kt-cp")); len(others) > 0 {
		t.Errorf("programs %v are attached to the control plane's computer", others)
	}
}

// dubway imports Dubway's image, of what `make build` built.
func (w *world) dubway() {
	w.Helper()
	files := map[string]string{}
	for _, name := range []string{"dubway-agent", "dubway-proxy", "dubwayctl"} {
		binary, err := filepath.Abs(filepath.Join("../../../bin", name))
		w.must(err)
		files["usr/bin/"+name] = binary
	}
	w.image(&image.Image{Name: dubwayImage, Files: files, Env: []string{"PATH=/usr/bin"}})
}

// image writes an image and imports it on every node.
func (w *world) image(i *image.Image) {
	w.Helper()
	archive := filepath.Join(w.TempDir(), "image.tar") // every computer has it
	w.must(i.Write(archive))
	w.must(w.ImportImage(w.ctx, archive))
}

// cgroup is that of a whole node.
func (w *world) cgroup(n *cluster.Node) string {
	w.Helper()
	root, err := machine.Cgroup2()
	w.must(err)
	return filepath.Join(root, "kt-"+n.Name)
}

// attached returns the programs that see connects of IPv4 of exactly this cgroup.
func attached(t *testing.T, cgroup string) []ebpf.ProgramID {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: ebpf.AttachCGroupInet4Connect})
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for _, program := range found.Programs {
		ids = append(ids, program.ID)
	}
	return ids
}
