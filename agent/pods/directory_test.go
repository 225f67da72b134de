package pods

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is a watched directory and what its source says of it.
type world struct {
	*testing.T

	dir  string
	sets chan Set
}

func watch(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: filepath.Join(t.TempDir(), "workloads"), sets: make(chan Set, 100)}
	w.must(os.Mkdir(w.dir, 0o755))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- NewDirectory(w.dir, slog.New(slog.DiscardHandler)).Run(ctx, func(s Set) { w.sets <- s })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.want(nil)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.Helper()
	w.must(os.WriteFile(w.path(name), []byte(text), 0o644))
}

func named(name string) string { return strings.Replace(consumer, "name: consumer", "name: "+name, 1) }

// want waits for a set of these pods (name=serviceAccount) and problems.
func (w *world) want(pods []string, problems ...string) {
	w.Helper()
	timeout := time.After(30 * time.Second)
	var last Set
	for {
		select {
		case last = <-w.sets:
			if match(last, pods, problems) {
				return
			}
		case <-timeout:
			w.Fatalf("no set with pods %v and problems %v; the last was %+v", pods, problems, last)
		}
	}
}

func match(s Set, pods, problems []string) bool {
	var gotPods, gotProblems []string
	for _, p := range s.Pods {
		gotPods = append(gotPods, p.Name+"="+p.ServiceAccount)
	}
	for _, p := range s.Problems {
		gotProblems = append(gotProblems, p.Name)
	}
	return slices.Equal(gotPods, pods) && slices.Equal(gotProblems, problems)
}

func TestDirectoryFollowsFiles(t *testing.T) {
	w := watch(t)
	w.write("b.yaml", named("b"))
	w.write("a.json", `{"apiVersion":"dubway.io/v1alpha1","kind":"Workload","metadata":{"name":"a","namespace":"shop"},
		"spec":{"serviceAccount":"default","netns":"/n","cgroup":"/c","addresses":["10.0.0.9"]}}`)
	w.want([]string{"a=default", "b=default"})

	// What an editor leaves around is no workload.
	w.write(".b.yaml.swp", "x")
	w.write("b.yaml~", "x")
	w.must(os.Mkdir(w.path("sub.yaml"), 0o755))
	w.write("c.yml", named("c"))
	w.want([]string{"a=default", "b=default", "c=default"})

	// Replaced by rename, as most editors and all careful programs do.
	w.write("b.tmp", strings.Replace(named("b"), "default", "other", 1))
	w.must(os.Rename(w.path("b.tmp"), w.path("b.yaml")))
	w.want([]string{"a=default", "b=other", "c=default"})

	w.must(os.Remove(w.path("a.json")))
	w.must(os.Rename(w.path("c.yml"), w.path("d.yaml"))) // the same pod
	w.want([]string{"b=other", "c=default"})
}

func TestDirectoryKeepsLastGood(t *testing.T) {
	w := watch(t)
	w.write("a.yaml", named("a"))
	w.want([]string{"a=default"})
	w.write("a.yaml", "kind: [")
	w.want([]string{"a=default"}, "a.yaml")
	w.write("a.yaml", "")
	w.want([]string{"a=default"}, "a.yaml")
	w.write("new.yaml", "kind: Pod")
	w.want([]string{"a=default"}, "a.yaml", "new.yaml")
	w.write("a.yaml", strings.Replace(named("a"), "default", "other", 1))
	w.want([]string{"a=other"}, "new.yaml")
	w.write("a.yaml", strings.Repeat("#", maxFile+1))
	w.want([]string{"a=other"}, "a.yaml", "new.yaml")
	w.must(os.Remove(w.path("a.yaml")))
	w.want(nil, "new.yaml")
}

func TestDirectoryRefusesSecondOwner(t *testing.T) {
	w := watch(t)
	w.write("a.yaml", named("a"))
	w.write("b.yaml", strings.Replace(named("a"), "default", "other", 1))
	w.want([]string{"a=default"}, "b.yaml")
	w.must(os.Remove(w.path("a.yaml")))
	w.want([]string{"a=other"})
}

// TestDirectoryConfigMap: Kubernetes mounts a ConfigMap as links into a hidden
// directory, and swaps the link to that directory.
func TestDirectoryConfigMap(t *testing.T) {
	w := watch(t)
	for _, version := range []string{"default", "other"} {
		hidden := "..version-" + version
		w.must(os.Mkdir(w.path(hidden), 0o755))
		w.write(filepath.Join(hidden, "a.yaml"), strings.Replace(named("a"), "default", version, 1))
		w.must(os.Symlink(hidden, w.path("..data_tmp")))
		w.must(os.Rename(w.path("..data_tmp"), w.path("..data")))
		if version == "default" {
			w.must(os.Symlink("..data/a.yaml", w.path("a.yaml")))
		}
		w.want([]string{"a=" + version})
	}
}

// TestDirectoryLost: a directory that cannot be read says nothing about its pods.
func TestDirectoryLost(t *testing.T) {
	w := watch(t)
	w.write("a.yaml", named("a"))
	w.want([]string{"a=default"})
	w.must(os.Rename(w.dir, w.dir+".away"))
	w.want([]string{"a=default"}, w.dir)
}

func TestDirectoryMissing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	err := NewDirectory(missing, slog.New(slog.DiscardHandler)).Run(t.Context(), func(Set) { t.Error("published") })
	if err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing directory: %v", err)
	}
}
