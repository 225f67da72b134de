//go:build e2e

package cluster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/deploy/image/archive"
	"github.com/dubway/dubway/internal/testnet/cluster"
)

// The image of dubbo-go's peers, and where they count on a node's disk, NAMESPACE/POD/NAME.
const (
	peerImage = "dubway.test/dubbo-go:1"
	counts    = "/var/lib/dubway-counts"
)

// TestCalls: real consumers on both nodes call a real provider, and what both ends count is
// the same.
func TestCalls(t *testing.T) {
	w := begin(t, "shop")
	w.step("dubbo-go's image imported", w.peers)
	w.step("providers and consumers run", func() {
		w.run(peer{image: peerImage, namespace: "shop", name: "provider", node: "n2", args: []string{"provider", "20880", "v1"}, serves: true})
		provider := w.pods("shop", "app=provider", cluster.Ready(1))[0]
		for i, n := range w.Nodes { // by IPv4 from the one, by IPv6 from the other
			target := "target=" + net.JoinHostPort(provider.Addresses[i], "20880")
			w.run(peer{image: peerImage, namespace: "shop", name: "consumer-" + n.Name, node: n.Name, args: []string{"load", target}})
		}
		w.reached("shop", "consumer-n1", 100)
		w.reached("shop", "consumer-n2", 100)
	})
	w.step("consumers stopped, and their calls counted", func() {
		if n := w.tally("shop", "consumer-n1", "consumer-n2"); n < 200 {
			t.Errorf("%d calls were made", n)
		}
		// That what goes past a mesh would be seen, of either family.
		for _, pod := range w.pods("shop", "serves=false", cluster.Ready(2)) {
			if c := w.connections(pod); c.Own == 0 || c.Sent < c.Own {
				t.Errorf("%s has made its calls by connections of its own, of which these were seen: %+v", pod.Name, c)
			}
		}
	})
}

// peers imports the image of dubbo-go's consumer and provider, once.
func (w *world) peers() {
	w.Helper()
	binary, err := filepath.Abs("../../../build/peers/dubbo-go")
	w.must(err)
	w.once(peerImage, func() {
		w.image(&archive.Image{Name: peerImage, Entrypoint: []string{"/dubbo-go"}}, map[string]string{"dubbo-go": binary})
	})
}

// image imports an image of this machine's files, by their paths in it, on every node. It has /tmp.
func (w *world) image(i *archive.Image, files map[string]string) {
	w.Helper()
	w.must(w.ImportImage(w.ctx, w.archive(i, files)))
}

// archive writes an image of this machine's files where every computer has it.
func (w *world) archive(i *archive.Image, files map[string]string) (path string) {
	w.Helper()
	var err error
	i.Files, err = archive.Copy(files)
	w.must(err)
	i.Arch, i.Files = runtime.GOARCH, append(i.Files, archive.File{Path: "tmp/", Mode: 0o1777})
	path = filepath.Join(w.TempDir(), "image.tar")
	w.must(i.Write(path))
	return path
}

// count is what a pod has counted of a name, on whichever node it ran: 0 when it has not, also
// where it has just made the file that it will count in.
func (w *world) count(namespace, pod, name string) (sum int) {
	w.Helper()
	for _, n := range w.Nodes {
		text, err := os.ReadFile(n.Path(filepath.Join(counts, namespace, pod, name)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		w.must(err)
		if len(text) == 0 {
			continue
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(text)))
		w.must(err)
		sum += number
	}
	return sum
}

// reached waits until so many calls of a consumer were answered.
func (w *world) reached(namespace, consumer string, calls int) {
	w.Helper()
	w.until(fmt.Sprintf("%d calls of %s", calls, consumer), func() bool { return w.count(namespace, consumer, "answered") >= calls })
}

// until waits for something of the nodes' disks, or that a command says. The longer it takes to
// look, the longer it waits before it looks again: nodes have the same processors.
func (w *world) until(what string, ready func() bool) {
	w.Helper()
	for began := time.Now(); ; {
		looked := time.Now()
		if ready() {
			return
		}
		if looked.Sub(began) > 4*time.Minute || w.ctx.Err() != nil {
			w.Fatalf("wait for %s", what)
		}
		time.Sleep(max(50*time.Millisecond, 2*time.Since(looked)))
	}
}

// tally stops consumers, and holds what they counted against what all providers of their
// namespace did: none failed, as many were answered as were served, and none went past the mesh.
// It returns how many.
func (w *world) tally(namespace string, consumers ...string) (answered int) {
	w.Helper()
	sent, answered, failed := w.stop(namespace, consumers...)
	served := w.served(namespace)
	if failed > 0 || sent != answered || answered != served {
		w.Errorf("%d calls were sent, %d answered, %d failed, %d served", sent, answered, failed, served)
	}
	return answered
}

// tallyAgain is tally for consumers that make a call again which was not answered in time: it may
// be served twice.
func (w *world) tallyAgain(namespace string, consumers ...string) {
	w.Helper()
	sent, answered, failed := w.stop(namespace, consumers...)
	if served := w.served(namespace); failed > 0 || sent != answered || answered > served {
		w.Errorf("%d calls were sent, %d answered, %d failed, %d served", sent, answered, failed, served)
	}
}

// stop stops consumers and returns what they counted. None of it went past the mesh.
func (w *world) stop(namespace string, consumers ...string) (sent, answered, failed int) {
	w.Helper()
	for _, consumer := range consumers {
		for _, n := range w.Nodes {
			dir := n.Path(filepath.Join(counts, namespace, consumer))
			if _, err := os.Stat(dir); err == nil {
				w.must(os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600))
				w.until(consumer+" to stop", func() bool { _, err := os.Stat(filepath.Join(dir, "stopped")); return err == nil })
			}
		}
		sent += w.count(namespace, consumer, "sent")
		failed += w.count(namespace, consumer, "failed")
		answered += w.count(namespace, consumer, "answered")
	}
	if failed > 0 {
		w.notes(namespace)
	}
	w.kept(namespace)
	return sent, answered, failed
}

// notes logs why calls of a namespace's consumers failed, as they said it.
func (w *world) notes(namespace string) {
	w.Helper()
	for _, file := range w.pages(namespace, "notes") {
		text, err := os.ReadFile(file)
		w.must(err)
		w.Logf("%s: %.2000s", filepath.Base(filepath.Dir(file)), text)
	}
}

// pages are the files of a name that pods of a namespace have beside their counts, on both nodes.
func (w *world) pages(namespace, name string) (all []string) {
	w.Helper()
	for _, n := range w.Nodes {
		files, err := filepath.Glob(n.Path(filepath.Join(counts, namespace, "*", name)))
		w.must(err)
		all = append(all, files...)
	}
	return all
}

// served is what all pods of a namespace have served, on both nodes, those that are gone too.
func (w *world) served(namespace string) (sum int) {
	w.Helper()
	pods := map[string]bool{}
	for _, file := range w.pages(namespace, "served") {
		pods[filepath.Base(filepath.Dir(file))] = true
	}
	for pod := range pods {
		sum += w.count(namespace, pod, "served")
	}
	return sum
}

// peer is a pod that is an end of Dubbo calls and counts them.
type peer struct {
	image           string
	namespace, name string // the label app is the name
	node            string
	args            []string
	serves          bool // it is ready when it listens; without, when it runs
}

// run applies the pod.
func (w *world) run(p peer) {
	w.Helper()
	args, err := json.Marshal(p.args)
	w.must(err)
	ready := ""
	if p.serves {
		ready = "readinessProbe: {tcpSocket: {port: 20880}, periodSeconds: 1}"
	}
	w.apply(`
apiVersion: v1
kind: Pod
metadata: {namespace: %[1]s, name: %[2]s, labels: {app: %[2]s, serves: "%[8]t"}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 2
  containers:
    - name: peer
      image: %[4]s
      imagePullPolicy: Never
      args: %[5]s
      env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: PROBE_COUNTS, value: /counts}
      volumeMounts: [{name: counts, mountPath: /counts, subPathExpr: %[1]s/$(POD_NAME)}]
      %[7]s
  volumes: [{name: counts, hostPath: {path: %[6]s, type: DirectoryOrCreate}}]
`, p.namespace, p.name, p.node, p.image, args, counts, ready, p.serves)
}
