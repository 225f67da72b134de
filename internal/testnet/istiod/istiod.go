// Package istiod is a real control plane for a node of package testnet: etcd,
// kube-apiserver, the controllers of kube-controller-manager that Services need, and
// istiod, as real processes in a pod of the node. There is no kubelet and no scheduler:
// pods of the node are told to the API with the addresses that they have (Publish).
//
// The binaries, and the definitions of Istio's and the Gateway API's kinds, come from the
// folders that `make e2e-istiod` builds; etcd is Debian's. What is made ends with the node.
//
//	the node's pod "control"
//	    (see package apiserver)
//	    POD:15010, POD:15012     istiod, plain and TLS; 127.0.0.1:8080 says whether it is ready
//
// The tests of this package have the build tag e2e: `make test` does not need what takes
// half an hour to build.
package istiod

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/apiserver"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// IstiodEnv is the folder of the built binary, as `make e2e-istiod` says it.
const IstiodEnv = "DUBWAY_E2E_ISTIOD"

// Ports of the control plane.
const (
	PlainPort = 15010 // xDS without TLS
	TLSPort   = 15012 // xDS and certificates
)

// meshConfig is Istio's of the whole mesh. The providers do nothing until a Telemetry names
// them.
const meshConfig = `
trustDomain: cluster.local
rootNamespace: istio-system
accessLogFile: ""
extensionProviders:
- {name: text, envoyFileAccessLog: {path: /dev/stdout}}
- {name: otel-als, envoyOtelAls: {service: otel.istio-system.svc.cluster.local, port: 4317}}
- {name: otel, opentelemetry: {service: otel.istio-system.svc.cluster.local, port: 4317}}
- {name: prometheus, prometheus: {}}
`

// Plane is a running control plane. Its methods fail the test; they are for the test's own
// goroutine.
type Plane struct {
	*apiserver.Server

	mesh      *meshtest.Mesh
	istiod    string // folder of the binary
	discovery *testnet.Process
}

// Start starts a control plane on a mesh's node, with Istio's kinds, the Gateway API's and
// the objects of a YAML text, and waits until istiod is ready. It ends with the node.
func Start(m *meshtest.Mesh, objects string) *Plane {
	m.T.Helper()
	p := &Plane{mesh: m, istiod: os.Getenv(IstiodEnv)}
	if p.istiod == "" {
		m.T.Fatalf("%s does not say where the control plane is: run make e2e-istiod", IstiodEnv)
	}
	p.Server = apiserver.Start(m, "endpointslice-controller,serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller")
	m.Must(os.WriteFile(p.File("mesh.yaml"), []byte(meshConfig), 0o600))
	for _, file := range p.kinds() {
		text, err := os.ReadFile(file)
		m.Must(err)
		m.Must(p.API.Apply(m.Ctx, string(text)))
	}
	m.Must(p.API.Apply(m.Ctx, objects))
	p.StartIstiod()
	return p
}

// kinds are the files of definitions of kinds.
func (p *Plane) kinds() []string {
	p.mesh.T.Helper()
	files, err := filepath.Glob(filepath.Join(p.istiod, "kinds", "*.yaml"))
	p.mesh.Must(err)
	if len(files) == 0 {
		p.mesh.T.Fatalf("%s has no definitions of kinds: run make e2e-istiod", p.istiod)
	}
	return files
}

// StartIstiod starts istiod, at first or again, and waits until it is ready.
func (p *Plane) StartIstiod() {
	p.mesh.T.Helper()
	any4 := func(port int) string { return fmt.Sprintf("%s:%d", p.Pod.Addresses[0], port) }
	var err error
	p.discovery, err = p.Pod.Start(testnet.Command{
		Name: "istiod", Path: filepath.Join(p.istiod, "istiod"),
		Args: []string{
			"discovery", "--kubeconfig", p.File("kubeconfig"), "--meshConfig", p.File("mesh.yaml"),
			"--grpcAddr", any4(PlainPort), "--secureGRPCAddr", any4(TLSPort),
			"--httpAddr", "127.0.0.1:8080", "--httpsAddr", "127.0.0.1:15017",
			"--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0",
		},
		Env: []string{
			"POD_NAMESPACE=istio-system", "POD_NAME=istiod-0", "CLUSTER_ID=Kubernetes", "ENABLE_LEADER_ELECTION=false",
			"VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=", "INJECT_ENABLED=false", "PILOT_ENABLE_ANALYSIS=false",
			"CA_TRUSTED_NODE_ACCOUNTS=" + AgentNamespace + "/" + AgentAccount,
		},
	})
	p.mesh.Must(err)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: p.Pod.DialContext, DisableKeepAlives: true}}
	p.Wait(p.discovery, "readiness", func(ctx context.Context) bool {
		ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8080/ready", http.NoBody)
		if err != nil {
			return false
		}
		answer, err := client.Do(ask)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// KillIstiod ends istiod as kill -9 does.
func (p *Plane) KillIstiod() {
	p.mesh.T.Helper()
	p.mesh.Must(p.discovery.Kill())
}

// Address is where istiod speaks xDS on a port of it.
func (p *Plane) Address(port uint16) string {
	return net.JoinHostPort(p.Pod.Addresses[0].String(), fmt.Sprint(port))
}
