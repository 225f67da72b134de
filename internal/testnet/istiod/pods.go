package istiod

import (
	"encoding/json"
	"fmt"

	"github.com/dubway/dubway/internal/testnet"
)

// Publish tells the API of a pod, on a Kubernetes node of that name, that it runs at the
// address that it has and is ready, and makes its service account: what a kubelet and its
// user would do. The endpoints of Services follow by themselves.
func (p *Plane) Publish(pod *testnet.Pod, node string) {
	p.mesh.T.Helper()
	labels, err := json.Marshal(pod.Labels)
	p.mesh.Must(err)
	ports, err := json.Marshal(containerPorts(pod.Ports))
	p.mesh.Must(err)
	p.mesh.Must(p.API.Apply(p.mesh.Ctx, fmt.Sprintf(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[1]s, namespace: %[2]s}}
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[2]s, labels: %[3]s}
spec:
  nodeName: %[4]s
  serviceAccountName: %[1]s
  automountServiceAccountToken: false
  containers: [{name: app, image: app, ports: %[5]s}]
`, pod.Name, testnet.Namespace, labels, node, ports)))
	p.Ready(pod, true)
}

// Terminate tells the API that a pod is about to end: it still runs, and gets no new calls.
// Withdraw ends that.
func (p *Plane) Terminate(pod *testnet.Pod) {
	p.mesh.T.Helper()
	p.mesh.Must(p.API.End(p.mesh.Ctx, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}}", pod.Name, testnet.Namespace)))
}

// Withdraw deletes a pod from the API, with its service account. Its processes go on.
func (p *Plane) Withdraw(pod *testnet.Pod) {
	p.mesh.T.Helper()
	p.mesh.Must(p.API.Delete(p.mesh.Ctx, fmt.Sprintf(`
{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[1]s, namespace: %[2]s}}
---
{apiVersion: v1, kind: Pod, metadata: {name: %[1]s, namespace: %[2]s}}
`, pod.Name, testnet.Namespace)))
}

// Ready says in the API whether a pod is ready.
func (p *Plane) Ready(pod *testnet.Pod, ready bool) {
	p.mesh.T.Helper()
	is := map[bool]string{true: "True", false: "False"}[ready]
	p.mesh.Must(p.API.Status(p.mesh.Ctx, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
status:
  phase: Running
  podIP: %[3]s
  podIPs: [{ip: %[3]s}]
  hostIP: 198.18.0.11
  conditions:
  - {type: PodScheduled, status: "True"}
  - {type: Initialized, status: "True"}
  - {type: ContainersReady, status: "%[4]s"}
  - {type: Ready, status: "%[4]s"}
`, pod.Name, testnet.Namespace, pod.Addresses[0], is)))
}

type containerPort struct {
	Port uint16 `json:"containerPort"`
}

func containerPorts(ports []uint16) []containerPort {
	list := []containerPort{}
	for _, port := range ports {
		list = append(list, containerPort{port})
	}
	return list
}
