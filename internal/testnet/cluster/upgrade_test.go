//go:build e2e

package cluster_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// ledger holds the access logs of all proxies that there have been: metrics end with their
// proxy, and kubelet removes a pod's log with the pod, but not what is open.
type ledger struct {
	w     *world
	files []*os.File
}

// look opens the logs that have come since. It must be called while each pod is there.
func (l *ledger) look() {
	l.w.Helper()
	names, err := filepath.Glob(filepath.Join(cluster.Dir, "*", "var/log/pods", system+"_*", "proxy", "*.log*"))
	l.w.must(err)
	for _, name := range names {
		file, err := os.Open(name)
		if os.IsNotExist(err) {
			continue
		}
		l.w.must(err)
		info, err := file.Stat()
		l.w.must(err)
		if slices.ContainsFunc(l.files, func(held *os.File) bool { old, err := held.Stat(); return err == nil && os.SameFile(old, info) }) {
			l.w.must(file.Close())
			continue
		}
		l.w.Cleanup(func() { _ = file.Close() })
		l.files = append(l.files, file)
	}
}

// calls are the lines of calls to an address, at the consumers' side.
func (l *ledger) calls(to string) (found []string) {
	l.w.Helper()
	l.look()
	for _, file := range l.files {
		_, err := file.Seek(0, 0)
		l.w.must(err)
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			line := lines.Text()
			if strings.Contains(line, `"downstream_local_address":"`+to+`"`) && !strings.Contains(line, `"reporter":"destination"`) {
				found = append(found, line)
			}
		}
		l.w.must(lines.Err())
	}
	return found
}

// ordinary is a call that was answered, in less than a second.
var ordinary = regexp.MustCompile(`"duration":\d{1,3}\..*"response_flags":"-"`)

// TestUpgrade: the DaemonSet is replaced, put back, and replaced by one that does not
// start; consumers notice none of it.
func TestUpgrade(t *testing.T) {
	w := begin(t, "shop", system)
	consumers := []string{"consumer-n1", "consumer-n2"}
	w.step("installed, and under load", func() {
		w.peers()
		w.imported()
		for _, n := range w.Nodes {
			w.provider(n.Name)
		}
		w.routes(onlyMesh, "n1", "n2")
		w.install("xds.existingConfigMap=" + configMap)
		w.kubectl("label", "namespace", "shop", "dubway.io/mesh=enabled")
		for _, n := range w.Nodes {
			w.consumer("consumer-"+n.Name, n.Name, onlyMesh)
		}
		w.enrolled("shop", "", 4)
	})
	log := &ledger{w: w}
	w.calling(consumers...)
	first := w.replaced(nil)
	log.look()
	w.step("upgraded", func() {
		_, err := w.helm("upgrade", append([]string{"--wait", "--timeout=4m"}, w.sets([]string{"xds.existingConfigMap=" + configMap, "agent.logLevel=debug"})...)...)
		w.must(err)
	})
	second := w.replaced(first)
	w.calling(consumers...)
	log.look()
	w.step("rolled back", func() {
		_, err := w.Helm(w.ctx, "rollback", release, "1", "--namespace="+system, "--wait", "--timeout=4m")
		w.must(err)
	})
	third := w.replaced(second)
	w.calling(consumers...)
	log.look()
	for what, value := range map[string]string{"an image that is nowhere": "image.tag=nowhere", "a flag that is none": "agent.extraArgs={--no-such-flag}"} {
		w.step("upgrade fails: "+what, func() {
			values := w.sets([]string{"xds.existingConfigMap=" + configMap, value})
			if said, err := w.helm("upgrade", append([]string{"--wait", "--timeout=20s"}, values...)...); err == nil {
				t.Errorf("it succeeded: %s", said)
			}
			w.serving(third)
			w.calling(consumers...)
		})
	}
	w.step("rolled back from it", func() {
		_, err := w.Helm(w.ctx, "rollback", release, "3", "--namespace="+system, "--wait", "--timeout=4m")
		w.must(err)
		w.serving(third)
		w.calling(consumers...)
	})
	w.step("calls counted", func() {
		answered := w.tally("shop", consumers...)
		w.until(fmt.Sprintf("%d lines in the access logs", answered), func() bool { return len(log.calls(onlyMesh)) >= answered })
		if calls := log.calls(onlyMesh); len(calls) != answered {
			t.Errorf("%d calls were answered, and %d recorded, of which these are not ordinary: %s",
				answered, len(calls), slices.DeleteFunc(calls, ordinary.MatchString))
		}
	})
}

// replaced waits until none of the agents' pods of before is there, and as many others
// are ready.
func (w *world) replaced(before []cluster.Pod) []cluster.Pod {
	w.Helper()
	return w.pods(system, agents, func(pods []cluster.Pod) error {
		for _, pod := range pods {
			if slices.ContainsFunc(before, func(old cluster.Pod) bool { return old.UID == pod.UID }) {
				return fmt.Errorf("%s is still there", pod.Name)
			}
		}
		return cluster.Ready(len(w.Nodes))(pods)
	})
}

// serving fails the test unless all of the agents' pods of before are ready and were never
// restarted.
func (w *world) serving(before []cluster.Pod) {
	w.Helper()
	w.pods(system, agents, func(pods []cluster.Pod) error {
		for _, old := range before {
			if !slices.ContainsFunc(pods, func(pod cluster.Pod) bool { return pod.UID == old.UID && pod.Ready && pod.Restarts == 0 }) {
				return fmt.Errorf("%s serves no more", old.Name)
			}
		}
		return nil
	})
}

// provider runs one on a node, which says the node's name.
func (w *world) provider(node string) {
	w.Helper()
	w.run(peer{image: peerImage, namespace: "shop", name: "provider-" + node, node: node, args: []string{"provider", "20880", node}, serves: true})
}

// consumer runs one on a node. It waits 100 ms between calls, and makes one that was not
// answered again, as Dubbo's consumers do: docs/upgrade.md says when. It does so after 8 s: an
// answer that a busy machine gives late is not one that does not come.
func (w *world) consumer(name, node, target string) {
	w.Helper()
	w.run(peer{image: peerImage, namespace: "shop", name: name, node: node, args: []string{"load", "target=" + target, "pause=100", "retries=2", "timeout=8000"}})
}

// calling waits until each consumer has made twenty more calls.
func (w *world) calling(consumers ...string) {
	w.Helper()
	for _, consumer := range consumers {
		w.reached("shop", consumer, w.count("shop", consumer, "answered")+20)
	}
}
