// Package apiserver is a real API server for a node of package testnet: etcd,
// kube-apiserver and what is wanted of kube-controller-manager, as real processes in a pod
// of the node. There is no kubelet and no scheduler: pods are told to it by the tests.
//
// The binary comes from the folder that `make e2e-k8s` builds; etcd is Debian's. What is
// made ends with the node.
//
//	the node's pod "control"
//	    127.0.0.1:2379           etcd, its data in the node's state directory
//	    POD:6443                 kube-apiserver
package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// KubernetesEnv is the folder of the built binary, as `make e2e-k8s` says it.
const KubernetesEnv = "DUBWAY_E2E_K8S"

const (
	// token lets everything in here ask the API server: nobody else reaches it.
	token   = "e2e"
	apiPort = 6443
	// starting is how long a process may take until it is ready: 7 s where the machine
	// is idle, 93 s were seen.
	starting = 4 * time.Minute
)

// Server is a running API server. Its methods fail the test; they are for the test's own
// goroutine.
type Server struct {
	API *API
	Pod *testnet.Pod // that everything runs in

	mesh       *meshtest.Mesh
	dir        string // of keys, configurations and etcd's data
	kubernetes string // folder of the binary
	server     *testnet.Process
}

// Start starts an API server on a mesh's node, with controllers by their names, and waits
// until it is ready. It ends with the node.
func Start(m *meshtest.Mesh, controllers string) *Server {
	m.T.Helper()
	s := &Server{mesh: m, kubernetes: os.Getenv(KubernetesEnv), dir: filepath.Join(m.StateDir(), "control")}
	if s.kubernetes == "" {
		m.T.Fatalf("%s does not say where the API server is: run make e2e-kube or make e2e-istiod", KubernetesEnv)
	}
	pod, err := m.AddPod("control", nil)
	m.Must(err)
	s.Pod = pod
	m.Must(s.prepare())
	s.startEtcd()
	s.StartAPI()
	s.Run("controllers", filepath.Join(s.dir, "kube-controller-manager"),
		"--kubeconfig="+s.File("kubeconfig"), "--leader-elect=false",
		"--service-account-private-key-file="+s.File("accounts.key"), "--root-ca-file="+s.certificate(),
		"--controllers="+controllers)
	return s
}

// prepare writes what the processes read.
func (s *Server) prepare() error {
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	files := map[string]string{
		"accounts.key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv":   token + ",e2e,e2e,system:masters\n",
		"kubeconfig":   kubeconfig(s, token),
	}
	for name, text := range files {
		if err := os.WriteFile(s.File(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	// One binary is both, by the name that it is started under.
	for _, name := range []string{"kube-apiserver", "kube-controller-manager"} {
		if err := os.Symlink(filepath.Join(s.kubernetes, "k8s"), s.File(name)); err != nil {
			return fmt.Errorf("name binary: %w", err)
		}
	}
	return nil
}

func (s *Server) startEtcd() {
	s.mesh.T.Helper()
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		s.mesh.T.Fatalf("%v: install Debian's package etcd-server, as make e2e-kube does", err)
	}
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	s.Run("etcd", etcd, "--data-dir", s.File("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
}

// StartAPI starts the API server, at first or again, and waits until it is ready.
func (s *Server) StartAPI() {
	s.mesh.T.Helper()
	s.server = s.Run("apiserver", filepath.Join(s.dir, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379", "--secure-port="+fmt.Sprint(apiPort), "--cert-dir="+s.dir,
		"--advertise-address="+s.Pod.Addresses[0].String(), "--service-cluster-ip-range=198.19.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+s.File("accounts.key"),
		"--service-account-signing-key-file="+s.File("accounts.key"),
		"--token-auth-file="+s.File("tokens.csv"), "--authorization-mode=RBAC",
		// There is no disk to be safe on, and nobody to look at events.
		"--watch-cache=true", "--event-ttl=10m", "--profiling=false")
	s.Wait(s.server, "an answer", func(ctx context.Context) bool {
		if s.API == nil {
			api, err := newAPI(s.Pod, s.base(), s.certificate())
			if err != nil {
				return false // it has not made its certificate yet
			}
			s.API = api
		}
		_, err := s.API.do(ctx, request{method: http.MethodGet, path: "/readyz"})
		return err == nil
	})
}

// KillAPI ends the API server as kill -9 does.
func (s *Server) KillAPI() {
	s.mesh.T.Helper()
	s.mesh.Must(s.server.Kill())
}

// Kubeconfig writes a file by which whoever has a token asks the API server.
func (s *Server) Kubeconfig(name, token string) string {
	s.mesh.T.Helper()
	s.mesh.Must(os.WriteFile(s.File(name), []byte(kubeconfig(s, token)), 0o600))
	return s.File(name)
}

func kubeconfig(s *Server, token string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: e2e,
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}], users: [{name: e2e, user: {token: %s}}],
clusters: [{name: e2e, cluster: {server: "%s", certificate-authority: %s}}]}
`, token, s.base(), s.certificate())
}

// Run starts a process beside the API server.
func (s *Server) Run(name, path string, args ...string) *testnet.Process {
	s.mesh.T.Helper()
	process, err := s.Pod.Start(testnet.Command{Name: name, Path: path, Args: args})
	s.mesh.Must(err)
	return process
}

// Wait waits until a process is as it should be, and fails the test when it ends before.
func (s *Server) Wait(process *testnet.Process, what string, ready func(context.Context) bool) {
	s.mesh.T.Helper()
	ctx, cancel := context.WithTimeout(s.mesh.Ctx, starting)
	defer cancel()
	s.mesh.Must(process.WaitFor(ctx, what, func() bool {
		if ready(ctx) {
			return true
		}
		time.Sleep(100 * time.Millisecond) // the starting process needs the CPU more
		return false
	}))
}

// File is where something of the server's is kept.
func (s *Server) File(name string) string { return filepath.Join(s.dir, name) }

// certificate is what the API server makes for itself.
func (s *Server) certificate() string { return s.File("apiserver.crt") }

func (s *Server) base() string {
	return "https://" + netip.AddrPortFrom(s.Pod.Addresses[0], apiPort).String()
}
