// Package istiod is a real control plane for a node of package testnet: etcd,
// kube-apiserver, the controllers of kube-controller-manager that Services need, and
// istiod, as real processes in a pod of the node. There is no kubelet and no scheduler:
// pods of the node are told to the API with the addresses that they have (Publish).
//
// The binaries, and the definitions of Istio's and the Gateway API's kinds, come from the
// folders that `make e2e-istiod` builds; etcd is Debian's. What is made ends with the node.
//
//	the node's pod "control"
//	    127.0.0.1:2379           etcd, its data in the node's state directory
//	    POD:6443                 kube-apiserver
//	    POD:15010, POD:15012     istiod, plain and TLS; 127.0.0.1:8080 says whether it is ready
//
// The tests of this package have the build tag e2e: `make test` does not need what takes
// half an hour to build.
package istiod

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// The folders of the built binaries, as `make e2e-istiod` says them.
const (
	KubernetesEnv = "DUBWAY_E2E_K8S"
	IstiodEnv     = "DUBWAY_E2E_ISTIOD"
)

// Ports of the control plane.
const (
	PlainPort = 15010 // xDS without TLS
	TLSPort   = 15012 // xDS and certificates
	apiPort   = 6443
)

const (
	// token lets everything in here ask the API server: nobody else reaches it.
	token = "e2e"
	// starting is how long a process may take until it is ready: 7 s where the machine
	// is idle, 93 s were seen.
	starting = 4 * time.Minute
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
	API *API

	mesh       *meshtest.Mesh
	pod        *testnet.Pod
	dir        string // of keys, configurations and etcd's data
	kubernetes string // folder of the binaries
	istiod     string // the same
	discovery  *testnet.Process
}

// Start starts a control plane on a mesh's node, with Istio's kinds, the Gateway API's and
// the objects of a YAML text, and waits until istiod is ready. It ends with the node.
func Start(m *meshtest.Mesh, objects string) *Plane {
	m.T.Helper()
	p := &Plane{mesh: m, kubernetes: os.Getenv(KubernetesEnv), istiod: os.Getenv(IstiodEnv), dir: filepath.Join(m.StateDir(), "control")}
	if p.kubernetes == "" || p.istiod == "" {
		m.T.Fatalf("%s and %s do not say where the control plane is: run make e2e-istiod", KubernetesEnv, IstiodEnv)
	}
	pod, err := m.AddPod("control", nil)
	m.Must(err)
	p.pod = pod
	m.Must(p.prepare())
	p.startEtcd()
	p.startAPI()
	p.start("controllers", filepath.Join(p.dir, "kube-controller-manager"),
		"--kubeconfig="+p.file("kubeconfig"), "--leader-elect=false",
		"--service-account-private-key-file="+p.file("accounts.key"), "--root-ca-file="+p.certificate(),
		"--controllers=endpointslice-controller,serviceaccount-controller,namespace-controller,root-ca-certificate-publisher-controller")
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

// prepare writes what the processes read.
func (p *Plane) prepare() error {
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	files := map[string]string{
		"accounts.key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv":   token + ",e2e,e2e,system:masters\n",
		"mesh.yaml":    meshConfig,
		"kubeconfig": fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: e2e,
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}], users: [{name: e2e, user: {token: %s}}],
clusters: [{name: e2e, cluster: {server: "%s", certificate-authority: %s}}]}
`, token, p.base(), p.certificate()),
	}
	for name, text := range files {
		if err := os.WriteFile(p.file(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	// One binary is both, by the name that it is started under.
	for _, name := range []string{"kube-apiserver", "kube-controller-manager"} {
		if err := os.Symlink(filepath.Join(p.kubernetes, "k8s"), p.file(name)); err != nil {
			return fmt.Errorf("name binary: %w", err)
		}
	}
	return nil
}

func (p *Plane) startEtcd() {
	p.mesh.T.Helper()
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		p.mesh.T.Fatalf("%v: install Debian's package etcd-server, as make e2e-istiod does", err)
	}
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	p.start("etcd", etcd, "--data-dir", p.file("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
}

func (p *Plane) startAPI() {
	p.mesh.T.Helper()
	server := p.start("apiserver", filepath.Join(p.dir, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379", "--secure-port="+fmt.Sprint(apiPort), "--cert-dir="+p.dir,
		"--advertise-address="+p.pod.Addresses[0].String(), "--service-cluster-ip-range=198.19.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+p.file("accounts.key"),
		"--service-account-signing-key-file="+p.file("accounts.key"),
		"--token-auth-file="+p.file("tokens.csv"), "--authorization-mode=RBAC",
		// There is no disk to be safe on, and nobody to look at events.
		"--watch-cache=true", "--event-ttl=10m", "--profiling=false")
	p.wait(server, "an answer", func(ctx context.Context) bool {
		if p.API == nil {
			api, err := newAPI(p.pod, p.base(), p.certificate())
			if err != nil {
				return false // it has not made its certificate yet
			}
			p.API = api
		}
		_, err := p.API.do(ctx, request{method: http.MethodGet, path: "/readyz"})
		return err == nil
	})
}

// StartIstiod starts istiod, at first or again, and waits until it is ready.
func (p *Plane) StartIstiod() {
	p.mesh.T.Helper()
	any4 := func(port int) string { return fmt.Sprintf("%s:%d", p.pod.Addresses[0], port) }
	var err error
	p.discovery, err = p.pod.Start(testnet.Command{
		Name: "istiod", Path: filepath.Join(p.istiod, "istiod"),
		Args: []string{
			"discovery", "--kubeconfig", p.file("kubeconfig"), "--meshConfig", p.file("mesh.yaml"),
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
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: p.pod.DialContext, DisableKeepAlives: true}}
	p.wait(p.discovery, "readiness", func(ctx context.Context) bool {
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
	return net.JoinHostPort(p.pod.Addresses[0].String(), fmt.Sprint(port))
}

// start starts a process of the control plane.
func (p *Plane) start(name, path string, args ...string) *testnet.Process {
	p.mesh.T.Helper()
	process, err := p.pod.Start(testnet.Command{Name: name, Path: path, Args: args})
	p.mesh.Must(err)
	return process
}

// wait waits until a process is as it should be, and fails the test when it ends before.
func (p *Plane) wait(process *testnet.Process, what string, ready func(context.Context) bool) {
	p.mesh.T.Helper()
	ctx, cancel := context.WithTimeout(p.mesh.Ctx, starting)
	defer cancel()
	p.mesh.Must(process.WaitFor(ctx, what, func() bool {
		if ready(ctx) {
			return true
		}
		time.Sleep(100 * time.Millisecond) // the starting process needs the CPU more
		return false
	}))
}

func (p *Plane) file(name string) string { return filepath.Join(p.dir, name) }

// certificate is what the API server makes for itself.
func (p *Plane) certificate() string { return p.file("apiserver.crt") }

func (p *Plane) base() string {
	return "https://" + netip.AddrPortFrom(p.pod.Addresses[0], apiPort).String()
}
