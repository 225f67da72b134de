package interop

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/envoytest"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
)

var (
	consumer = identity.Account{Namespace: "dubbo-demo", Name: "consumer"}
	provider = identity.Account{Namespace: "dubbo-demo", Name: "provider"}
)

const (
	consumerID = "spiffe://cluster.local/ns/dubbo-demo/sa/consumer"
	providerID = "spiffe://cluster.local/ns/dubbo-demo/sa/provider"
	sni        = "outbound_.20880_._.provider.dubbo-demo.svc.cluster.local"
)

// later is the end of certificates that are valid.
func later() time.Time { return time.Now().Add(time.Hour) }

// envoy is a running Envoy.
type envoy struct {
	mu  sync.Mutex
	log []string
}

// startEnvoy runs a configuration of testdata as who has a bundle, which it trusts the
// authority with. Ports replaces @NAME@; it returns when all that it listens on is open.
func startEnvoy(t *testing.T, config, name string, ca *identitytest.Authority, b *identity.Bundle, ports map[string]int) *envoy {
	t.Helper()
	binary, err := envoytest.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca.Write(dir, name, b)
	text, err := os.ReadFile(filepath.Join("testdata", config))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.ReplaceAll(string(text), "@CERTS@", dir)
	for key, port := range ports {
		filled = strings.ReplaceAll(filled, "@"+key+"@", strconv.Itoa(port))
	}
	path := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(path, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "--disable-hot-restart", "--concurrency", "1", "-l", "error", "-c", path)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := new(envoy)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			e.mu.Lock()
			e.log = append(e.log, s.Text())
			e.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-read
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Envoy said:\n%s", e.text())
		}
	})
	for key, port := range ports {
		if key != "UPSTREAM" && key != "APP" {
			e.open(t, port)
		}
	}
	return e
}

func (e *envoy) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.log, "\n")
}

// open waits until somebody listens on a port.
func (e *envoy) open(t *testing.T, port int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", local(port))
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("Envoy does not listen on %d: %s", port, e.text())
		}
	}
}

// says waits until Envoy's log has a line with all the parts.
func (e *envoy) says(t *testing.T, parts ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for line := range strings.SplitSeq(e.text(), "\n") {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(line, part)
			}
			if all {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no line with %q in\n%s", parts, e.text())
		}
	}
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// free returns as many ports that nobody uses.
func free(t *testing.T, names ...string) map[string]int {
	t.Helper()
	ports := make(map[string]int)
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[name] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// echo serves an application that sends back what it gets, and returns its port.
func echo(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				tcp := c.(*net.TCPConn)
				_, _ = tcp.ReadFrom(tcp)
				_ = tcp.CloseWrite()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
