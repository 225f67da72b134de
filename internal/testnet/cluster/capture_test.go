//go:build e2e

package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/dubway/dubway/internal/testnet/cluster"
	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// peerGroup is the group that peers run as. The kernel keeps with each socket whose it is,
// and the mesh's own in a pod are the agent's, of group 0: on the wire the two cannot be
// told apart, at the pod's end of it they can.
const peerGroup = 7777

// gatePort is where a held pod asks whether it may begin.
const gatePort = "7070"

// capture counts the connections to enrolled ports that are begun in a pod and leave it:
// in its own namespace, by whose socket it is, and on the node's bridge, from its address.
type capture struct {
	own, mesh int // in the pod: by the application, and by anybody else
	bridge    int // of the pod, on the bridge
}

// held runs a consumer whose application begins only when what leaves the pod is counted.
func (w *world) held(name string, n *cluster.Node, target string) {
	w.Helper()
	var gate net.Listener
	w.must(n.Do(func() (err error) { gate, err = net.Listen("tcp", ":"+gatePort); return err }))
	w.Cleanup(func() { _ = gate.Close() })
	w.run(peer{image: peerImage, namespace: "shop", name: name, node: n.Name, held: true, args: []string{"load", "target=" + target, "pause=100", "retries=2"}})
	pod := w.pods("shop", "app="+name, func(pods []cluster.Pod) error {
		if len(pods) != 1 || len(pods[0].Addresses) == 0 {
			return errors.New("it has no address")
		}
		return nil
	})[0]
	w.inPod(pod, "nft", fmt.Sprintf(`table inet seen {
counter own {}
counter mesh {}
chain out { type filter hook output priority 0;
oifname != "lo" tcp dport 20880 tcp flags & (syn | ack) == syn meta skgid %[1]d counter name own
oifname != "lo" tcp dport 20880 tcp flags & (syn | ack) == syn meta skgid != %[1]d counter name mesh
}
}
`, peerGroup))
	// A frame to another pod of the node only passes the bridge, and one to another node
	// goes up from it: all of them come in by a port.
	w.onNode(n, "nft", fmt.Sprintf(`table bridge seen-%[1]s {
counter sent {}
chain in { type filter hook prerouting priority 0;
ether type ip ip saddr %[2]s tcp dport 20880 tcp flags & (syn | ack) == syn counter name sent
}
}
`, name, pod.Addresses[0]))
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = server.Serve(gate) }()
	w.pods("shop", "app="+name, cluster.Ready(1))
	w.must(server.Close())
}

// captured reads what was counted of a pod.
func (w *world) captured(name string, n *cluster.Node) (c capture) {
	w.Helper()
	pod := w.pods("shop", "app="+name, cluster.Ready(1))[0]
	for to, counter := range map[*int]string{&c.own: "own", &c.mesh: "mesh"} {
		*to = w.packets(w.inPod(pod, "nft", "list counter inet seen "+counter))
	}
	c.bridge = w.packets(w.onNode(n, "nft", "list counter bridge seen-"+name+" sent"))
	return c
}

func (w *world) packets(said string) int {
	w.Helper()
	found := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(said)
	if found == nil {
		w.Fatalf("it counts nothing: %q", said)
	}
	n, err := strconv.Atoi(found[1])
	w.must(err)
	return n
}

// onNode runs a program of this machine on a node, fed with a text by a file.
func (w *world) onNode(n *cluster.Node, program, text string) string {
	w.Helper()
	path, err := exec.LookPath(program)
	w.must(err)
	file := filepath.Join(w.TempDir(), "text")
	w.must(os.WriteFile(file, []byte(text), 0o600))
	said, err := n.Run(w.ctx, path, "-f", file)
	w.must(err)
	return said
}

// inPod runs one in a pod's network namespace.
func (w *world) inPod(pod cluster.Pod, program, text string) string {
	w.Helper()
	cmd := exec.CommandContext(w.ctx, "nsenter", "--net="+w.netns(pod), program, "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.Fatalf("%s in %s: %v: %s", program, pod.Name, err, errs.String())
	}
	return out.String()
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
