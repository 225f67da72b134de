package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

// fine stands for no error in tables.
const fine = mtls.Reason(mtls.Reasons)

// limit bounds one exchange.
const limit = 30 * time.Second

// wanted is what istiod tells the provider's consumers.
var wanted = mutual.TLS{On: true, SNI: sni, Names: providerID}

// endsOf are the ends of a node that has one bundle.
func endsOf(b *identity.Bundle) *mtls.Ends {
	s := new(identitytest.Source)
	s.Put(b)
	return mtls.New(s, slog.New(slog.DiscardHandler))
}

func reasonOf(err error) mtls.Reason {
	var told *mtls.Error
	switch {
	case err == nil:
		return fine
	case errors.As(err, &told):
		return told.Reason
	}
	return mtls.Handshake
}

// dial connects to a port, in plaintext.
func dial(t *testing.T, port int) *sock.Conn {
	t.Helper()
	c, err := net.Dial("tcp", local(port))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sock.New(c.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// comesBack sends bytes of many records and ends; it tells whether all came back.
func comesBack(t *testing.T, c *sock.Conn) bool {
	t.Helper()
	sent := make([]byte, 1<<20)
	_, _ = rand.Read(sent)
	go func() {
		if c.Send(sent[:1]) == nil && c.Send(slices.Collect(slices.Chunk(sent[1:], 777))...) == nil {
			_ = c.CloseWrite()
		}
	}()
	var got []byte
	for {
		c.Within(limit)
		err := c.Fill()
		if err != nil {
			return errors.Is(err, io.EOF) && bytes.Equal(got, sent)
		}
		got = append(got, c.Bytes()...)
		c.Discard(len(c.Bytes()))
	}
}

// TestToEnvoy: we are the consumer's side, Envoy is the provider's sidecar.
func TestToEnvoy(t *testing.T) {
	ours, theirs := identitytest.New(t), identitytest.New(t)
	tests := []struct {
		name     string
		by       *identitytest.Authority // of Envoy's certificate and of what it trusts
		provider *identity.Bundle
		consumer *identity.Bundle
		want     mutual.TLS
		reason   mtls.Reason // of the handshake
		passes   bool
		says     string // Envoy's log of a connection that it refuses
	}{
		{"as it should be", ours, ours.Issue(provider, later()), ours.Issue(consumer, later()), wanted, fine, true, ""},
		{"the provider is another", ours, ours.Issue(provider, later()), ours.Issue(consumer, later()),
			mutual.TLS{On: true, SNI: sni, Names: consumerID}, mtls.WrongName, false, ""},
		{"the provider is of another mesh", theirs, theirs.Issue(provider, later()), ours.Issue(consumer, later()), wanted, mtls.Untrusted, false, ""},
		{"the provider has expired", ours, ours.Issue(provider, time.Now().Add(-time.Minute)), ours.Issue(consumer, later()), wanted, mtls.Expired, false, ""},
		// In TLS 1.3 what a server thinks of a client shows at the first read.
		{"the consumer has expired", ours, ours.Issue(provider, later()), ours.Issue(consumer, time.Now().Add(-time.Minute)), wanted, fine, false, "CERTIFICATE_VERIFY_FAILED"},
		{"the consumer is of another trust domain", ours, ours.Issue(provider, later()),
			ours.IssueNames(identity.ID{Account: consumer}, later(), "spiffe://evil.example/ns/dubbo-demo/sa/consumer"), wanted, fine, false, "CERTIFICATE_VERIFY_FAILED"},
		{"the consumer may not", ours, ours.Issue(provider, later()), ours.IssueNames(identity.ID{Account: consumer}, later(), providerID), wanted, fine, false, "rbac_access_denied"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ports := free(t, "ADMIN", "INBOUND", "INBOUND_STRICT")
			ports["APP"] = echo(t)
			e := startEnvoy(t, "inbound_mtls.yaml", "provider", test.by, test.provider, ports)
			for _, port := range []string{"INBOUND", "INBOUND_STRICT"} {
				c := dial(t, ports[port])
				s := new(identitytest.Source)
				test.consumer.ID.Account = consumer
				s.Put(test.consumer)
				peer, err := mtls.New(s, slog.New(slog.DiscardHandler)).Client(t.Context(), c, consumer, test.want)
				if got := reasonOf(err); got != test.reason {
					t.Fatalf("%s: %v, want reason %s", port, err, test.reason)
				}
				if err != nil {
					continue
				}
				if peer.Principal != providerID {
					t.Errorf("%s: the provider is %q", port, peer.Principal)
				}
				if got := comesBack(t, c); got != test.passes {
					t.Errorf("%s: everything came back: %v, want %v", port, got, test.passes)
				}
			}
			if test.passes {
				e.says(t, "from="+consumerID, "tls=TLSv1.3", "sni="+sni, "chain=mtls")
				if !comesBack(t, dial(t, ports["INBOUND"])) { // PERMISSIVE; its RBAC names a principal: see below
					e.says(t, "chain=plaintext", "rbac_access_denied")
				}
				if comesBack(t, dial(t, ports["INBOUND_STRICT"])) {
					t.Error("plaintext passed where mTLS alone is taken: this peer is no peer")
				}
			} else if test.says != "" {
				e.says(t, test.says)
			}
		})
	}
}

// serve accepts for a provider as the inbound side does, and passes on to the application.
func serve(t *testing.T, e *mtls.Ends, app int) (port int, results <-chan error, peers <-chan mtls.Peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	errs, who := make(chan error, 100), make(chan mtls.Peer, 100)
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c, err := sock.New(a.(*net.TCPConn))
				if err != nil {
					errs <- err
					return
				}
				defer c.Close()
				offers, ok := mtls.Offers(c)
				if !ok || !slices.Contains(offers, "istio") {
					errs <- errors.New("no TLS of the mesh")
					return
				}
				peer, err := e.Server(context.Background(), c, provider, mtls.Client{Names: "spiffe://cluster.local/*", Offers: offers})
				if errs <- err; err != nil {
					return
				}
				who <- peer
				to, err := net.Dial("tcp", local(app))
				if err != nil {
					return
				}
				s, err := sock.New(to.(*net.TCPConn))
				if err != nil {
					return
				}
				defer s.Close()
				done := make(chan struct{})
				go func() { defer close(done); sock.Pipe(c, s) }()
				sock.Pipe(s, c)
				<-done
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, errs, who
}

// TestFromEnvoy: Envoy is the consumer's sidecar, we are the provider's side.
func TestFromEnvoy(t *testing.T) {
	ours, theirs := identitytest.New(t), identitytest.New(t)
	tests := []struct {
		name     string
		by       *identitytest.Authority // of Envoy's certificate and of what it trusts
		consumer *identity.Bundle
		provider *identity.Bundle
		reason   mtls.Reason
		says     string
	}{
		{"as it should be", ours, ours.Issue(consumer, later()), ours.Issue(provider, later()), fine, "to=" + providerID},
		{"the consumer is of another mesh", theirs, theirs.Issue(consumer, later()), ours.Issue(provider, later()), mtls.Handshake, "CERTIFICATE_VERIFY_FAILED"},
		{"the consumer has expired", ours, ours.Issue(consumer, time.Now().Add(-time.Minute)), ours.Issue(provider, later()), mtls.Expired, "fail="},
		{"the consumer is of another trust domain", ours, ours.IssueNames(identity.ID{Account: consumer}, later(), "spiffe://evil.example/ns/a/sa/b"),
			ours.Issue(provider, later()), mtls.WrongName, "fail="},
		{"we are another", ours, ours.Issue(consumer, later()), ours.IssueNames(identity.ID{Account: provider}, later(), consumerID), mtls.Handshake, "CERTIFICATE_VERIFY_FAILED"},
		{"we have expired", ours, ours.Issue(consumer, later()), ours.Issue(provider, time.Now().Add(-time.Minute)), mtls.Handshake, "CERTIFICATE_VERIFY_FAILED"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			upstream, results, peers := serve(t, endsOf(test.provider), echo(t))
			ports := free(t, "ADMIN", "OUTBOUND", "OUTBOUND_PX")
			ports["UPSTREAM"] = upstream
			e := startEnvoy(t, "outbound_mtls.yaml", "consumer", test.by, test.consumer, ports)
			// OUTBOUND offers what we do, OUTBOUND_PX what a real sidecar does.
			for _, port := range []string{"OUTBOUND", "OUTBOUND_PX"} {
				if got := comesBack(t, dial(t, ports[port])); got != (test.reason == fine) {
					t.Errorf("%s: everything came back: %v", port, got)
				}
				select {
				case err := <-results:
					if got := reasonOf(err); got != test.reason {
						t.Errorf("%s: %v, want reason %s", port, err, test.reason)
					}
				case <-time.After(limit):
					t.Fatalf("%s: nobody came", port)
				}
				if test.reason == fine {
					if peer := <-peers; peer.Principal != consumerID {
						t.Errorf("%s: the consumer is %q", port, peer.Principal)
					}
				}
			}
			e.says(t, test.says)
		})
	}
}

// TestOpenSSL is a second opinion on our server.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	ours := identitytest.New(t)
	dir := t.TempDir()
	ours.Write(dir, "consumer", ours.Issue(consumer, later()))
	port, _, _ := serve(t, endsOf(ours.Issue(provider, later())), echo(t))
	own := []string{"-cert", filepath.Join(dir, "consumer.pem"), "-key", filepath.Join(dir, "consumer.key")}
	for _, test := range []struct {
		name   string
		more   []string
		says   []string
		passes bool
	}{
		{"TLS 1.3", own, []string{"TLSv1.3", "Verify return code: 0 (ok)", "ALPN protocol: istio", "No client certificate CA names sent"}, true},
		{"TLS 1.2", append([]string{"-tls1_2"}, own...), []string{"TLSv1.2", "Cipher is ECDHE-ECDSA-AES", "GCM-SHA", "Verify return code: 0 (ok)", "Secure Renegotiation IS supported"}, true},
		{"no certificate", nil, []string{"alert bad certificate"}, false},
		{"TLS 1.1", append([]string{"-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"}, own...), []string{"alert protocol version"}, false},
		{"an old cipher", append([]string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"}, own...), []string{"handshake failure"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := ask(t, append([]string{"s_client", "-connect", local(port), "-CAfile", filepath.Join(dir, "ca.pem"),
				"-verify_return_error", "-servername", sni, "-alpn", "istio-peer-exchange,istio"}, test.more...)...)
			for _, part := range test.says {
				if !strings.Contains(text, part) {
					t.Errorf("openssl does not say %q:\n%s", part, text)
				}
			}
			if got := strings.Contains(text, "are you there"); got != test.passes {
				t.Errorf("the application answered: %v, want %v:\n%s", got, test.passes, text)
			}
		})
	}
}

// ask runs OpenSSL until it has printed an answer of the application, or ends.
func ask(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "are you there\n")
	var text []byte
	b := make([]byte, 4096)
	for {
		n, err := out.Read(b)
		text = append(text, b[:n]...)
		if bytes.Contains(text, []byte("are you there")) {
			_ = in.Close() // which ends it
		}
		if err != nil {
			_ = cmd.Wait()
			return string(text)
		}
	}
}
