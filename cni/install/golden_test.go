package install

import (
	"bytes"
	"flag"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/dubway/dubway/cni/entry"
)

var update = flag.Bool("update", false, "write the out/ folders anew: look at the difference before you commit it")

// chainedIn is where the plugin must be found, by case.
var chainedIn = map[string]string{
	"aws":          "10-aws.conflist",
	"bridge":       "10-containerd-net.conflist",
	"calico":       "10-calico.conflist",
	"cilium":       "05-cilium.conflist",
	"crlf":         "10-w.conflist",
	"flannel":      "10-flannel.conflist",
	"istio":        "10-net.conflist",
	"malformed":    "10-flannel.conflist",
	"multus":       "00-multus.conflist",
	"multus-thick": "00-multus.conflist",
	"ptp":          "10-kindnet.conflist",
	"single":       "10-bridge.conflist",
}

// TestGolden chains the plugin into configurations as others write them, and takes it
// out again: in/ becomes out/, and out/ becomes in/, byte for byte.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*")
	if err != nil || len(cases) != len(chainedIn) {
		t.Fatalf("%d cases, %d are known: %v", len(cases), len(chainedIn), err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			before := files(t, filepath.Join(dir, "in"))
			r := newRig(t, before)
			if again := r.look(); again {
				t.Error("wants to look again")
			}
			after := files(t, r.opts.ConfDir)
			if *update {
				writeAll(t, filepath.Join(dir, "out"), after)
			}
			sameFiles(t, after, files(t, filepath.Join(dir, "out")))
			if got := r.Status().File; got != chainedIn[filepath.Base(dir)] {
				t.Errorf("chained in %q, want %q (%s)", got, chainedIn[filepath.Base(dir)], r.Status())
			}
			if dir != "testdata/malformed" {
				r.runtimeReads()
			}
			r.look()
			sameFiles(t, files(t, r.opts.ConfDir), after)
			if err := r.Remove(); err != nil {
				t.Fatal(err)
			}
			sameFiles(t, files(t, r.opts.ConfDir), before)
		})
	}
}

// rig is an installer with folders of its own.
type rig struct {
	*Installer

	t *testing.T
}

func newRig(t *testing.T, configuration map[string]string) *rig {
	t.Helper()
	opts := Options{
		ConfDir: t.TempDir(), BinDir: t.TempDir(), Source: filepath.Join(t.TempDir(), "plugin"),
		Socket: "/run/dubway/cni.sock", Mode: entry.Closed, Exempt: []string{"kube-system", "dubway-system", "kube-system"},
		Log: slog.New(slog.DiscardHandler),
	}
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(opts.Source, "#!/bin/true\n", 0o755)
	writeAll(t, opts.ConfDir, configuration)
	i, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{i, t}
}

// put writes a file as a CNI would that writes in place.
func (r *rig) put(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.opts.ConfDir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// runtimeReads reads the folder as a container runtime does, and looks for us at the end
// of the chain that it would run.
func (r *rig) runtimeReads() {
	r.t.Helper()
	names, err := libcni.ConfFiles(r.opts.ConfDir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(names) == 0 {
		r.t.Fatalf("no configuration: %v", err)
	}
	slices.Sort(names)
	list, err := libcni.NetworkConfFromFile(names[0])
	if err != nil {
		r.t.Fatal(err)
	}
	last := list.Plugins[len(list.Plugins)-1]
	if last.Network.Type != entry.Type || len(list.Plugins) < 2 {
		r.t.Errorf("%s: the last of %d plugins is %s", names[0], len(list.Plugins), last.Network.Type)
	}
	e, err := entry.Parse(last.Bytes)
	if err != nil || e.Socket != r.opts.Socket || !e.Exempts("dubway-system") || e.Exempts("default") {
		r.t.Errorf("entry is %+v, %v", e, err)
	}
}

// files reads a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, f := range all {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[f.Name()] = string(text)
	}
	return found
}

// writeAll makes a folder have these files alone, written long ago.
func writeAll(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func sameFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("files are %q, want %q", g, w)
	}
	for name, text := range want {
		if !bytes.Equal([]byte(got[name]), []byte(text)) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got[name], text)
		}
	}
}
