//go:build e2e

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// shared is the cluster of all tests, which the first one starts. Each test has namespaces
// of its own.
var shared struct { //nolint:gochecknoglobals // one cluster for all tests
	once    sync.Once
	cluster *cluster.Cluster
	err     error
}

func TestMain(m *testing.M) {
	began := time.Now()
	status := m.Run()
	if shared.cluster != nil {
		step("cluster removed", func() {
			if err := shared.cluster.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = 1
			}
		})
	}
	fmt.Fprintf(os.Stdout, "%5.1f s  in all\n", time.Since(began).Seconds())
	os.Exit(status)
}

// step says how long something took.
func step(what string, do func()) {
	began := time.Now()
	do()
	fmt.Fprintf(os.Stdout, "%5.1f s  %s\n", time.Since(began).Seconds(), what)
}

// world is the cluster as one test sees it. Its methods fail the test; they are for the
// test's own goroutine.
type world struct {
	*testing.T
	*cluster.Cluster

	ctx    context.Context //nolint:containedctx // the time limit of the whole test
	before map[string]int  // connections of a pod's own, by its UID, before it was part of the mesh
}

// begin returns the cluster to a test, and shows the logs of its services and of the pods
// of the namespaces if the test fails.
func begin(t *testing.T, namespaces ...string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	shared.once.Do(func() {
		var programs cluster.Programs
		if programs, shared.err = cluster.FromEnvironment(); shared.err == nil {
			shared.cluster, shared.err = cluster.Start(ctx, cluster.Options{Programs: programs, Log: func(format string, args ...any) {
				fmt.Fprintf(os.Stdout, format+"\n", args...)
			}})
		}
	})
	if shared.err != nil {
		cancel()
		t.Fatal(shared.err)
	}
	w := &world{T: t, Cluster: shared.cluster, ctx: ctx, before: map[string]int{}}
	t.Cleanup(cancel)
	for _, name := range namespaces {
		w.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", name)
		for _, n := range w.Nodes { // what pods of an earlier test counted
			w.must(os.RemoveAll(n.Path(filepath.Join(counts, name))))
		}
		t.Cleanup(func() { w.delete("namespace", name) })
		w.must(w.Account(ctx, name))
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		var logs strings.Builder
		w.Logs(&logs, namespaces...)
		state, _ := w.Kubectl(ctx, "get", "nodes,pods,services", "-A", "-o", "wide")
		events, _ := w.Kubectl(ctx, "get", "events", "-A", "--sort-by=.lastTimestamp")
		t.Logf("%s\n%s\n%s", logs.String(), state, events)
	})
	return w
}

// must fails the test at an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// step says how long a part of the test took.
func (w *world) step(what string, do func()) {
	w.Helper()
	step(w.Name()+": "+what, do)
}

// apply applies objects.
func (w *world) apply(yaml string, args ...any) {
	w.Helper()
	w.must(w.Apply(w.ctx, fmt.Sprintf(yaml, args...)))
}

// delete deletes an object and all that belongs to it, and waits until it is gone.
func (w *world) delete(kind, name string, args ...string) {
	w.Helper()
	w.kubectl(append([]string{"delete", kind, name, "--timeout=240s"}, args...)...)
}

// kubectl returns what kubectl says.
func (w *world) kubectl(args ...string) string {
	w.Helper()
	said, err := w.Kubectl(w.ctx, args...)
	w.must(err)
	return said
}

// pods waits until the pods with labels are as they should be.
func (w *world) pods(namespace, selector string, accept func([]cluster.Pod) error) []cluster.Pod {
	w.Helper()
	pods, err := w.Await(w.ctx, namespace, selector, accept)
	w.must(err)
	return pods
}
