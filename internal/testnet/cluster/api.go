package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dubway/dubway/internal/testnet/cluster/machine"
)

// api reads objects from the API server, in the administrator's name: what waits for them
// need not start kubectl a hundred times.
type api struct {
	control     *machine.Machine
	certificate string // a file, once the server has made it

	mu     sync.Mutex
	client *http.Client
}

// get returns what is at a path of the API.
func (a *api) get(ctx context.Context, path string) ([]byte, error) {
	client, err := a.ready()
	if err != nil {
		return nil, err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiAddress+":6443"+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	ask.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := client.Do(ask)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s: %s", path, answer.Status, text)
	}
	return text, nil
}

// read decodes what is at a path of the API.
func (a *api) read(ctx context.Context, path string, into any) error {
	text, err := a.get(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// ready returns a client, once the server has a certificate.
func (a *api) ready() (*http.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return a.client, nil
	}
	certificate, err := os.ReadFile(a.certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificate) {
		return nil, fmt.Errorf("read certificate: %s has none yet", a.certificate)
	}
	a.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext:     a.control.DialContext,
	}}
	return a.client, nil
}

// Read decodes an object, by its path in the API, as /api/v1/namespaces/shop/pods/a.
func (c *Cluster) Read(ctx context.Context, path string, into any) error {
	return c.api.read(ctx, path, into)
}

// Kubectl runs kubectl as the administrator and returns what it said.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.control.Run(ctx, c.program("kubectl"), append([]string{"--kubeconfig=" + c.conf("admin.kubeconfig")}, args...)...)
}

// Helm runs helm the same way. Its paths are those of every computer.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	return c.control.Run(ctx, filepath.Join(c.options.Programs.Helm, "helm"), append([]string{"--kubeconfig=" + c.conf("admin.kubeconfig")}, args...)...)
}

// Apply applies a text of YAML objects.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	file, err := os.CreateTemp(c.conf(""), "apply-*.yaml")
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := io.Copy(file, strings.NewReader(yaml)); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	// Validation asks for the whole schema; the server itself is strict.
	_, err = c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", file.Name())
	return err
}

// ImportImage imports an image's archive on every node.
func (c *Cluster) ImportImage(ctx context.Context, archive string) error {
	for _, n := range c.Nodes {
		if err := n.ImportImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}
