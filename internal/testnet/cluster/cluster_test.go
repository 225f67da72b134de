//go:build e2e

package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dubway/dubway/internal/testnet/cluster"
)

// TestPlain is the cluster without Dubway: what the tests of the mesh stand on.
func TestPlain(t *testing.T) {
	w := begin(t, "plain")
	if len(w.Nodes) != 2 {
		t.Fatalf("%d nodes", len(w.Nodes))
	}
	w.step("servers run on both nodes", func() {
		w.apply(servers, cluster.PodImage)
		w.pods("plain", "app=server", cluster.Ready(2))
	})
	w.step("pods and Services answer", w.answers)
	w.step("logs and exec", func() {
		if said := w.kubectl("logs", "-n=plain", "server-n2"); said != "serves n2\n" {
			t.Errorf("the log says %q", said)
		}
		if said := w.kubectl("exec", "-n=plain", "server-n1", "--", "/pod", "get", "http://198.19.7.7"); said != "n2" {
			t.Errorf("within, the Service says %q", said)
		}
	})
	w.step("helm", func() {
		said, err := w.Helm(w.ctx, "list", "--all-namespaces", "--short")
		w.must(err)
		version, err := w.Helm(w.ctx, "version", "--short")
		w.must(err)
		if said != "" || !strings.HasPrefix(version, "v4.3.1") {
			t.Errorf("helm %s lists %q", version, said)
		}
	})
	n2 := w.Nodes[1]
	before := w.pods("plain", "app=server", cluster.Ready(2))
	w.step("node n2 rebooted", func() { w.must(n2.Reboot(w.ctx)) })
	w.step("its pod is back", func() { w.pods("plain", "app=server", again(before)) })
	w.step("pods and Services answer", w.answers)
}

// TestServices: kubelet and containerd can be killed, and pods go on.
func TestServices(t *testing.T) {
	w := begin(t, "plain")
	w.apply(servers, cluster.PodImage)
	before := w.pods("plain", "app=server", cluster.Ready(2))
	for _, name := range []string{cluster.Kubelet, cluster.Containerd, cluster.KubeProxy} {
		w.step(name+" killed and started", func() {
			w.must(w.Nodes[1].KillService(name))
			w.must(w.Nodes[1].StartService(w.ctx, name))
		})
	}
	w.step("pods and Services answer", w.answers)
	after := w.pods("plain", "app=server", cluster.Ready(2))
	for i := range after {
		if after[i].Restarts != before[i].Restarts {
			t.Errorf("%s was started anew", after[i].Name)
		}
	}
}

// answers makes connections from a pod of either node to a pod of the other, by its
// addresses and by those of its Service.
func (w *world) answers() {
	w.Helper()
	servers := w.pods("plain", "app=server", cluster.Ready(2))
	var clients strings.Builder
	for i, from := range w.Nodes {
		other := servers[1-i]
		urls := []string{"http://" + other.Addresses[0] + ":8080", "http://[" + other.Addresses[1] + "]:8080"}
		if other.Node == "n2" {
			urls = append(urls, "http://198.19.7.7", "http://[fd98:19::707]")
		}
		for number, url := range urls {
			fmt.Fprintf(&clients, `---
{apiVersion: v1, kind: Pod, metadata: {name: client-%d-%d, namespace: plain, labels: {app: client}},
spec: {nodeName: %s, restartPolicy: Never, containers: [{name: client, image: %q, imagePullPolicy: Never, args: [get, %q]}]}}
`, i, number, from.Name, cluster.PodImage, url)
		}
	}
	w.must(w.Apply(w.ctx, clients.String()))
	for _, pod := range w.pods("plain", "app=client", cluster.Ended(6)) {
		want := "n1"
		if pod.Node == "n1" {
			want = "n2"
		}
		if said := w.kubectl("logs", "-n=plain", pod.Name); said != want {
			w.Errorf("%s on %s got %q, want %q", pod.Name, pod.Node, said, want)
		}
	}
	w.kubectl("delete", "pods", "-n=plain", "-l=app=client", "--now")
}

// again accepts the pods of before, ready once more, those of n2 in new containers.
func again(before []cluster.Pod) func([]cluster.Pod) error {
	return func(pods []cluster.Pod) error {
		if err := cluster.Ready(len(before))(pods); err != nil {
			return err
		}
		for i, pod := range pods {
			if pod.UID != before[i].UID || pod.Node == "n2" && pod.Restarts == before[i].Restarts {
				return fmt.Errorf("it is not back: %+v", pod)
			}
		}
		return nil
	}
}

// servers are a pod on each node, and a Service of that on n2.
const servers = `
apiVersion: v1
kind: Pod
metadata: {name: server-n1, namespace: plain, labels: {app: server, at: n1}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: "%[1]s", imagePullPolicy: Never, args: [serve, "8080", n1], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {name: server-n2, namespace: plain, labels: {app: server, at: n2}}
spec:
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers:
  - {name: server, image: "%[1]s", imagePullPolicy: Never, args: [serve, "8080", n2], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: plain}
spec:
  clusterIP: 198.19.7.7
  clusterIPs: [198.19.7.7, "fd98:19::707"]
  ipFamilyPolicy: RequireDualStack
  selector: {at: n2}
  ports: [{port: 80, targetPort: 8080}]
`
