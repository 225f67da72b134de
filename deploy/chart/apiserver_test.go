//go:build e2e

package chart_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// kubernetesEnv says where tools/k8s is built, as in package istiod.
const kubernetesEnv = "DUBWAY_E2E_K8S"

const (
	// starting is how long a process may take until it is ready: 7 s where the machine is idle,
	// 93 s were seen.
	starting = 4 * time.Minute
	// settling is how long the API server may take to learn what it was told.
	settling = 90 * time.Second
)

// server is a real API server on loopback, with an etcd of its own: no node, no controller.
type server struct {
	dir, base string
	client    *http.Client
}

// startServer starts one; it ends with the test.
func startServer(t *testing.T) *server {
	t.Helper()
	kubernetes := os.Getenv(kubernetesEnv)
	if kubernetes == "" {
		t.Fatalf("%s does not say where kube-apiserver is: run make chart-check", kubernetesEnv)
	}
	s := &server{dir: t.TempDir()}
	etcd, peer, secure := port(t), port(t), port(t)
	s.base = "https://127.0.0.1:" + secure
	s.prepare(t, filepath.Join(kubernetes, "k8s"))
	client, other := "http://127.0.0.1:"+etcd, "http://127.0.0.1:"+peer
	s.start(t, "etcd", "etcd", "--data-dir", s.file("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", other, "--initial-advertise-peer-urls", other, "--initial-cluster", "default="+other)
	s.start(t, "apiserver", s.file("kube-apiserver"),
		"--etcd-servers="+client, "--bind-address=127.0.0.1", "--secure-port="+secure, "--cert-dir="+s.dir,
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=198.19.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+s.file("accounts.key"),
		"--service-account-signing-key-file="+s.file("accounts.key"),
		"--token-auth-file="+s.file("tokens.csv"), "--authorization-mode=RBAC", "--event-ttl=10m", "--profiling=false")
	eventually(t, starting, "the API server is ready", func() error {
		if s.client == nil {
			text, err := os.ReadFile(s.file("apiserver.crt"))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(text) {
				return fmt.Errorf("no certificate in %q", text)
			}
			s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			}}
		}
		_, err := s.do(t.Context(), ask{method: http.MethodGet, path: "/readyz"})
		return err
	})
	return s
}

// prepare writes what the processes and Helm read.
func (s *server) prepare(t *testing.T, binary string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"accounts.key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"tokens.csv":   administrator + ",e2e,e2e,system:masters\n",
		"kubeconfig": fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: e2e,
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}], users: [{name: e2e, user: {token: %s}}],
clusters: [{name: e2e, cluster: {server: "%s", certificate-authority: %s}}]}
`, administrator, s.base, s.file("apiserver.crt")),
	}
	for name, text := range files {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It is the program that it is called as.
	if err := os.Symlink(binary, s.file("kube-apiserver")); err != nil {
		t.Fatal(err)
	}
}

// start starts a process, which ends before the test's directory goes. What it said is told if the
// test fails.
func (s *server) start(t *testing.T, name, path string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before the cleanups
	log, err := os.Create(s.file(name + ".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second // then it is killed
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: is what make chart-check installs there?", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was told to end
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the end of %s's log:\n%s", name, text[max(0, len(text)-1000):])
		}
		_ = log.Close()
	})
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// port is one that was free a moment ago.
func port(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, number, _ := net.SplitHostPort(l.Addr().String())
	return number
}

// eventually waits until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(200 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}

// administrator is the token of whoever may do everything.
const administrator = "e2e"

// ask is one request.
type ask struct {
	method, path, kind, body string
	token                    string // empty for the administrator's
}

// refusal is what the API server says that does not do what it was asked.
type refusal struct {
	status int
	text   string
}

// Error returns its words.
func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.text) }

// do asks.
func (s *server) do(ctx context.Context, a ask) ([]byte, error) {
	sent, err := http.NewRequestWithContext(ctx, a.method, s.base+a.path, bytes.NewReader([]byte(a.body)))
	if err != nil {
		return nil, err
	}
	if a.token == "" {
		a.token = administrator
	}
	sent.Header.Set("Authorization", "Bearer "+a.token)
	sent.Header.Set("Content-Type", a.kind)
	answer, err := s.client.Do(sent)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		var said struct{ Message string }
		if json.Unmarshal(text, &said) == nil && said.Message != "" {
			text = []byte(said.Message)
		}
		return nil, &refusal{answer.StatusCode, string(text)}
	}
	return text, nil
}

// create makes an object of JSON below a path.
func (s *server) create(t *testing.T, path, object string) []byte {
	t.Helper()
	var made []byte
	eventually(t, settling, "making "+object, func() (err error) {
		made, err = s.do(t.Context(), ask{method: http.MethodPost, path: path, kind: "application/json", body: object})
		return err
	})
	return made
}
