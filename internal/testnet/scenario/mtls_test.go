package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dubway/dubway/internal/testnet"
	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/internal/testnet/envoytest"
	"github.com/dubway/dubway/internal/testnet/meshtest"
)

// filled is a file of testdata/mtls with its words replaced.
func (m *mesh) filled(name string, words ...string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "mtls", name))
	m.must(err)
	words = append(words, "@NAMESPACE@", testnet.Namespace)
	return []byte(strings.NewReplacer(words...).Replace(string(b)))
}

// sidecar is a pod that the mesh does not know, with a real Envoy that the CA vouches for
// and a provider behind it; Envoy leads to peer.
func (m *mesh) sidecar(ca *catest.CA, peer *testnet.Pod) *testnet.Pod {
	m.t.Helper()
	binary, err := envoytest.Binary()
	m.must(err)
	p, err := m.AddPod("sidecar", nil)
	m.must(err)
	dir := m.t.TempDir()
	ca.Write(dir, "sidecar", "spiffe://cluster.local/ns/"+testnet.Namespace+"/sa/sidecar")
	config := filepath.Join(dir, "envoy.yaml")
	m.must(os.WriteFile(config, m.filled("sidecar.yaml", "@DIR@", dir, "@PROVIDER@", peer.Addr(0).Addr().String()), 0o600))
	m.server(p, "provider", "sidecar", 20881)
	_, err = p.Start(testnet.Command{Name: "envoy", Path: binary, Args: []string{
		"--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c", config,
	}})
	m.must(err)
	for _, port := range []uint16{20880, 20890} {
		m.eventually("Envoy listens", func() bool { return p.Listens(port) })
	}
	return p
}

// TestSidecarNeighbour: a pod with a sidecar and the node's pods call each other by mutual
// TLS, PeerAuthentication being STRICT. Nothing else is taken, certificates are renewed and
// connections made anew under load without a call that fails, and who has no certificate is
// told so.
func TestSidecarNeighbour(t *testing.T) {
	const lives, n = 30 * time.Second, 3000
	m := besides(t, "sc-sidecar")
	consumer, provider := m.pod("consumer"), m.pod("provider", 20880)
	m.provider(provider, "provider")
	ca, args := m.authority()
	ca.Set(catest.How{Lives: lives})
	neighbour := m.sidecar(ca, provider)
	m.must(m.PutXDS("mesh.yaml", m.filled("mesh.yaml", "@SERVICE@", vip4, "@SIDECAR@", neighbour.Addr(0).Addr().String())))
	_, err := m.StartAgent(m.ctx, args...)
	m.must(err)
	proxy, err := m.StartProxy(m.ctx, "--access-log", "stdout")
	m.must(err)
	m.must(m.WaitEnrolled(m.ctx, consumer, provider))
	m.eventually("certificates", func() bool { return m.proven("consumer", "provider") })
	m.eventually("the destinations", func() bool {
		s, err := m.AgentStatus(m.ctx)
		return err == nil && s.Generation > 0
	})

	// Each takes 45 s at least: certificates are renewed at half of their life, and a
	// connection ends within ten seconds after they have.
	load := callsOf{N: n, Pause: 15 * time.Millisecond, Timeout: 30 * time.Second}
	load.Target = vip4 + ":20880"
	out := m.launch(consumer, "calls", &load)
	load.Target = "127.0.0.1:20890"
	in := m.launch(neighbour, "calls", &load)
	var said callsResult
	if out(&said); said.Answers["sidecar"] != n {
		t.Errorf("to the sidecar: %v %v", said.Answers, said.Errors)
	}
	said = callsResult{}
	if in(&said); said.Answers["provider"] != n {
		t.Errorf("from the sidecar: %v %v", said.Answers, said.Errors)
	}
	if got := m.Sum("dubway_certificate_renewals_total{", `result="ok"`); got < 4 {
		t.Errorf("%d certificates for two accounts: none was renewed", got)
	}
	if got := m.Sum("dubway_tls_handshakes_total{", `side="client"`); got < 2 {
		t.Errorf("%d handshakes: the connection to the sidecar was not made anew", got)
	}
	us, them, provided := account("consumer"), account("sidecar"), account("provider")
	m.counted("istio_requests_total{", n, `reporter="source"`, `connection_security_policy="mutual_tls"`,
		`source_principal="`+us+`"`, `destination_principal="`+them+`"`, `response_code="20"`)
	m.counted("istio_requests_total{", n, `reporter="destination"`, `connection_security_policy="mutual_tls"`,
		`source_principal="`+them+`"`, `destination_principal="`+provided+`"`, `response_code="20"`)
	m.eventually("a line for each call to the sidecar", func() bool {
		return meshtest.CountLines(proxy.Output(), `"connection_security_policy":"mutual_tls"`, `"destination_principal":"`+them+`"`) == n
	})
	m.counted("dubway_tls_refused_total{", 0)
	m.refuses(ca, neighbour, provider)
}

// refuses checks what gets no mutual TLS: plaintext of the neighbour, and a pod that the CA
// refuses.
func (m *mesh) refuses(ca *catest.CA, neighbour, provider *testnet.Pod) {
	m.t.Helper()
	plain := m.calls(neighbour, callsOf{Target: provider.Addr(20880).String(), N: 1, Timeout: 30 * time.Second})
	if plain.Answers["error"] != 1 {
		m.t.Errorf("plaintext: %v", plain.Answers)
	}
	m.counted("dubway_tls_refused_total{", 1, `side="server"`, `reason="plaintext"`)

	ca.Set(catest.How{Refuse: codes.Unauthenticated})
	late := m.pod("late")
	m.must(m.WaitEnrolled(m.ctx, late))
	m.eventually("the refusal", func() bool { return m.identities()["late"].Error != "" })
	refused := m.calls(late, callsOf{Target: vip4 + ":20880", N: 3, Timeout: 30 * time.Second})
	if refused.Answers["status 80"] != 3 || !strings.Contains(strings.Join(refused.Errors, "\n"), "the workload has no certificate for mutual TLS") {
		m.t.Errorf("without a certificate: %v %v", refused.Answers, refused.Errors)
	}
	if m.Sum("dubway_tls_refused_total{", `side="client"`, `reason="no_identity"`) == 0 {
		m.t.Error("it is not counted")
	}
	m.eventually("the status says so", func() bool {
		s, err := m.ProxyStatus(m.ctx)
		return err == nil && slices.ContainsFunc(s.Problems, func(p string) bool {
			return strings.HasPrefix(p, "mutual TLS of "+testnet.Namespace+"/late is refused, ")
		})
	})
	ca.Set(catest.How{})
	m.eventually("it gets one", func() bool { return m.proven("late") })
	// The sidecar lets the consumer in, and nobody else: TLS is agreed, and the connection ends.
	other := m.calls(late, callsOf{Target: vip4 + ":20880", N: 1, Timeout: 30 * time.Second})
	if other.Answers["status 80"] != 1 || strings.Contains(strings.Join(other.Errors, "\n"), "no certificate") {
		m.t.Errorf("whom the sidecar refuses: %v %v", other.Answers, other.Errors)
	}
}

// account is the identity of a service account of the tests.
func account(name string) string {
	return "spiffe://cluster.local/ns/" + testnet.Namespace + "/sa/" + name
}
