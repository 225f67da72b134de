package istiod

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dubway/dubway/internal/testnet"
)

// The account that an agent runs as. istiod lets it ask for certificates of pods of its
// node.
const (
	AgentNamespace = "mesh-system"
	AgentAccount   = "dubway-agent"
)

// Credentials tells the API of an agent's pod on a Kubernetes node, and returns the files
// that such a pod has: the root of the mesh, and a token that is bound to the pod.
func (p *Plane) Credentials(agent *testnet.Pod, node string) (rootFile, tokenFile string) {
	p.mesh.T.Helper()
	p.mesh.Must(p.API.Apply(p.mesh.Ctx, fmt.Sprintf(`
{apiVersion: v1, kind: Namespace, metadata: {name: %[1]s}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: %[2]s, namespace: %[1]s}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: %[1]s}
spec:
  nodeName: %[3]s
  serviceAccountName: %[2]s
  automountServiceAccountToken: false
  containers: [{name: agent, image: agent}]
`, AgentNamespace, AgentAccount, node)))
	ip := agent.Addresses[0]
	p.mesh.Must(p.API.Status(p.mesh.Ctx, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: %s}
status: {phase: Running, podIP: %[2]s, podIPs: [{ip: %[2]s}], hostIP: 198.18.0.11}
`, AgentNamespace, ip)))
	return p.root(), p.token()
}

// root writes what istiod publishes in every namespace.
func (p *Plane) root() string {
	p.mesh.T.Helper()
	var published struct{ Data map[string]string }
	p.mesh.Eventually("istiod publishes its root", func() bool {
		err := p.API.Get(p.mesh.Ctx, "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio-ca-root-cert, namespace: "+AgentNamespace+"}}", &published)
		return err == nil && published.Data["root-cert.pem"] != ""
	})
	return p.write("root-cert.pem", published.Data["root-cert.pem"])
}

// token has the API server make one as a kubelet does for a projected volume.
func (p *Plane) token() string {
	p.mesh.T.Helper()
	var pod struct{ Metadata struct{ UID string } }
	p.mesh.Must(p.API.Get(p.mesh.Ctx, "{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: "+AgentNamespace+"}}", &pod))
	answer, err := p.API.Post(p.mesh.Ctx, "/api/v1/namespaces/"+AgentNamespace+"/serviceaccounts/"+AgentAccount+"/token",
		fmt.Appendf(nil, `{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["istio-ca"],
"expirationSeconds": 3600, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "agent", "uid": %q}}}`, pod.Metadata.UID))
	p.mesh.Must(err)
	var made struct{ Status struct{ Token string } }
	p.mesh.Must(json.Unmarshal(answer, &made))
	return p.write("token", made.Status.Token)
}

func (p *Plane) write(name, text string) string {
	p.mesh.T.Helper()
	file := filepath.Join(p.mesh.StateDir(), "agent-"+name)
	p.mesh.Must(os.WriteFile(file, []byte(text), 0o644))
	return file
}
