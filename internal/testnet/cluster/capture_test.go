//go:build e2e

package cluster_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/capture"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// connections are those that were begun in a pod, once the bridge has seen all that were sent.
func (w *world) connections(pod cluster.Pod) (c capture.Connections) {
	w.Helper()
	for _, n := range w.Nodes {
		if n.Name != pod.Node {
			continue
		}
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			var err error
			c, err = n.Capture.Of(w.ctx, pod.UID, pod.Addresses)
			w.must(err)
			if c.Bridge == c.Sent {
				return c
			}
			if time.Now().After(end) {
				w.Errorf("%s: connections that were sent, and that the bridge of %s has seen: %+v", pod.Name, n.Name, c)
				return c
			}
		}
	}
	w.Fatalf("%s is on no node: %+v", pod.Name, pod)
	return c
}

// joined is said of a namespace whose pods have just become part of the mesh: what they began
// before is no escape. Of all others every connection of their whole life is one.
func (w *world) joined(namespace string) {
	w.Helper()
	for _, pod := range w.pods(namespace, "", func([]cluster.Pod) error { return nil }) {
		w.before[pod.UID] = w.connections(pod).Own
	}
}

// kept fails the test if a pod of a namespace that is part of the mesh has begun a connection to
// a provider by itself.
func (w *world) kept(namespace string) {
	w.Helper()
	for _, pod := range w.pods(namespace, "", func([]cluster.Pod) error { return nil }) {
		if pod.Deleted || !strings.HasPrefix(pod.Conditions["dubway.io/enrolled"], "True") {
			continue
		}
		if c := w.connections(pod); c.Own > w.before[pod.UID] {
			w.Errorf("%s has begun connections past the mesh: %+v, of which %d before it was part of it", pod.Name, c, w.before[pod.UID])
		}
	}
}

// netns is the network namespace of a pod, by the processes in its cgroup.
func (w *world) netns(pod cluster.Pod) (path string) {
	w.Helper()
	root, err := machine.Cgroup2()
	w.must(err)
	w.until("a process of "+pod.Name, func() bool {
		_ = filepath.WalkDir(filepath.Join(root, "kt-"+pod.Node, "kubepods"), func(dir string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() || !strings.Contains(dir, pod.UID) {
				return nil //nolint:nilerr // it went meanwhile
			}
			text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			if pids := strings.Fields(string(text)); len(pids) > 0 {
				path = "/proc/" + pids[0] + "/ns/net"
				return fs.SkipAll
			}
			return nil
		})
		return path != ""
	})
	return path
}
