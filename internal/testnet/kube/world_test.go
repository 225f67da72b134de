//go:build e2e

package kube

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/apiserver"
	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// world is a node with an API server and an agent that takes its pods from there.
type world struct {
	*meshtest.Mesh

	server *apiserver.Server
	config string // the agent's kubeconfig
	uid    string // of the agent's own pod
	ca     []string
	agent  *testnet.Process
	starts int
}

func begin(t *testing.T) *world {
	t.Helper()
	w := &world{Mesh: meshtest.New(t, "ku", 1, 12*time.Minute)}
	started := time.Now()
	w.server = apiserver.Start(w.Mesh, "serviceaccount-controller,namespace-controller")
	t.Logf("the API server is ready after %v", time.Since(started).Round(time.Millisecond))
	w.apply(w.read("base.yaml"))
	w.Must(w.server.API.Status(w.Ctx, "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 198.18.0.11}]}}"))
	w.config = w.server.Kubeconfig("agent.kubeconfig", w.token())
	ca := catest.New(t, true)
	at := w.System().Addr(15012).String()
	l, err := w.System().Listen(at)
	w.Must(err)
	ca.Serve(l)
	w.ca = []string{"--ca-address", at, "--ca-root-file", ca.RootFile, "--ca-token-file", ca.TokenFile}
	return w
}

func (w *world) read(name string) string {
	w.T.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	w.Must(err)
	return string(text)
}

func (w *world) apply(text string) {
	w.T.Helper()
	w.Must(w.server.API.Apply(w.Ctx, text))
}

// token is one as a kubelet gets it for the agent's pod: it names the node.
func (w *world) token() string {
	w.T.Helper()
	w.uid = w.get("mesh-system", "agent").Metadata.UID
	answer, err := w.server.API.Post(w.Ctx, "/api/v1/namespaces/mesh-system/serviceaccounts/dubway-agent/token",
		fmt.Appendf(nil, `{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200,
"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "agent", "uid": %q}}}`, w.uid))
	w.Must(err)
	var made struct{ Status struct{ Token string } }
	w.Must(json.Unmarshal(answer, &made))
	return made.Status.Token
}

// start starts the agent, and waits until it answers.
func (w *world) start() {
	w.T.Helper()
	w.starts++
	var err error
	w.agent, err = w.System().Start(testnet.Command{
		Name: "agent", Path: filepath.Join(meshtest.Binaries, "dubway-agent"),
		Args: append([]string{
			"run", "--kubeconfig", w.config, "--state-dir", w.StateDir(), "--cgroup", w.Cgroup(), "--pin-path", w.PinPath(),
			"--proxy-uid", fmt.Sprint(testnet.ProxyUID), "--check-interval", "2s",
		}, w.ca...),
		Env: []string{"NODE_NAME=n1", "POD_NAMESPACE=mesh-system", "POD_NAME=agent", "POD_UID=" + w.uid},
	})
	w.Must(err)
	w.Must(w.agent.WaitFor(w.Ctx, "an answer", func() bool {
		s, err := w.AgentStatus(w.Ctx)
		return err == nil && s.PID == w.agent.Pid()
	}))
}

// document is what a test reads of a pod in the API.
type document struct {
	Metadata struct {
		UID         string
		Labels      map[string]string
		Annotations map[string]string
	}
	Status struct {
		Conditions []struct{ Type, Status, Reason, Message string }
	}
}

func (w *world) get(namespace, name string) (d document) {
	w.T.Helper()
	w.Must(w.server.API.Get(w.Ctx, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}}", name, namespace), &d))
	return d
}

// condition returns what a pod's status says of the mesh, "" for nothing.
func (w *world) condition(namespace, name string) string {
	w.T.Helper()
	for _, c := range w.get(namespace, name).Status.Conditions {
		if c.Type == "dubway.io/enrolled" {
			return c.Status + " " + c.Reason + ": " + c.Message
		}
	}
	return ""
}

// pod is one of the cluster.
type pod struct {
	*testnet.Pod

	namespace, uid string
	process        *testnet.Process
}

// made says what a pod is like.
type made struct {
	namespace, name string
	labels          string // YAML of its labels
	spec            string // YAML of more fields of its spec, and a comma
	ports           string // YAML of its containers' ports
	listens         []string
}

// create tells the API of a pod that has no network yet.
func (w *world) create(m made) *pod {
	w.T.Helper()
	if m.labels == "" {
		m.labels = "{}"
	}
	if m.ports == "" {
		m.ports = "[]"
	}
	w.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: %s}
spec: {nodeName: n1, %s automountServiceAccountToken: false, containers: [{name: app, image: app, ports: %s}]}
`, m.name, m.namespace, m.labels, m.spec, m.ports))
	return &pod{namespace: m.namespace, uid: w.get(m.namespace, m.name).Metadata.UID}
}

// run makes a pod that runs.
func (w *world) run(m made) *pod {
	w.T.Helper()
	p := w.create(m)
	var err error
	p.Pod, err = w.AddPod(m.name, nil)
	w.Must(err)
	p.Cgroup = filepath.Join(w.Cgroup(), "kubepods", "burstable", "pod"+p.uid, "sandbox")
	w.Must(os.MkdirAll(p.Cgroup, 0o755))
	p.process, err = p.StartHelper("app", m.listens...)
	w.Must(err)
	w.phase(p, "Running", p.Addresses[0].String())
	return p
}

// phase writes what a kubelet would.
func (w *world) phase(p *pod, phase, address string) {
	w.T.Helper()
	w.Must(w.server.API.Status(w.Ctx, fmt.Sprintf(
		"{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, status: {phase: %s, podIP: %s, podIPs: [{ip: %s}]}}",
		p.Name, p.namespace, phase, address, address)))
}

// label changes a label of an object; null takes it away.
func (w *world) label(kind, namespace, name, value string) {
	w.T.Helper()
	if namespace != "" {
		namespace = "/namespaces/" + namespace
	}
	w.Must(w.server.API.Merge(w.Ctx, "/api/v1"+namespace+"/"+kind+"/"+name, `{"metadata": {"labels": {"dubway.io/mesh": `+value+`}}}`))
}

// workload returns what the agent says of a pod; nil if it does not know it.
func (w *world) workload(p *pod) *admin.WorkloadStatus {
	all, err := w.Workloads(w.Ctx)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(all, func(s admin.WorkloadStatus) bool { return s.UID == p.uid })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// enrolled waits until a pod is, and says so.
func (w *world) enrolled(p *pod) *admin.WorkloadStatus {
	w.T.Helper()
	w.Eventually(p.Name+" is enrolled", func() bool { s := w.workload(p); return s != nil && s.Enrolled })
	return w.workload(p)
}

// absent waits until the agent does not know a pod.
func (w *world) absent(p *pod) {
	w.T.Helper()
	w.Eventually(p.Name+" is not in the mesh", func() bool {
		_, err := w.AgentStatus(w.Ctx)
		return err == nil && w.workload(p) == nil
	})
}

// problem waits until the agent's status has a problem with a text.
func (w *world) problem(text string) {
	w.T.Helper()
	w.Eventually("a problem: "+text, func() bool {
		s, err := w.AgentStatus(w.Ctx)
		return err == nil && slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, text) })
	})
}
