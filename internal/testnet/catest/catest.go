// Package catest is a certificate authority as istiod is one, for tests: real TLS, tokens,
// impersonation, and on demand every answer that a client must not believe.
package catest

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	securityv1alpha1 "istio.io/api/security/v1alpha1"
)

// What a CA wants to hear.
const (
	ServerName = "istiod.istio-system.svc"
	ClusterID  = "Kubernetes"
	Token      = "a-token-of-the-agent"
)

// CA is a certificate authority. Its fields may be changed between two questions, by Set.
type CA struct {
	securityv1alpha1.UnimplementedIstioCertificateServiceServer

	RootFile  string // its root in PEM
	TokenFile string // of the token that it believes

	t    Owner
	root *x509.Certificate
	mid  *x509.Certificate // signs; nil: the root does
	key  crypto.Signer     // of who signs

	mu      sync.Mutex
	how     How
	asked   []Asked
	pending int
	streams []string
}

// Owner is a test, or what measures and fails like one.
type Owner interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
	TempDir() string
}

// How a CA answers.
type How struct {
	Refuse      codes.Code    // in place of an answer
	Times       int           // how often it does; 0: always
	TrustDomain string        // in place of the one that was asked for
	Account     string        // "/ns/a/sa/b" in place of the one that was asked for
	Lives       time.Duration // in place of what was asked for, or of 24 h
	Begins      time.Duration // from now; usually two minutes ago
	OtherKey    bool          // signs a key of its own
	NoRoot      bool          // answers with the leaf alone
	Names       int           // more identities
	Raw         []string      // in place of the chain
}

// Asked is a question that was believed, or was not.
type Asked struct {
	Identity string
	Token    string
	Cluster  string
	Seconds  int64
	Key      any // the public one
}

// New makes a CA that signs by its root, or by what is between if there is one.
func New(t Owner, between bool) *CA {
	t.Helper()
	dir := t.TempDir()
	_ = os.Chmod(dir, 0o755) // the proxy is another user
	_ = os.Chmod(filepath.Dir(dir), 0o755)
	c := &CA{t: t, RootFile: filepath.Join(dir, "root-cert.pem"), TokenFile: filepath.Join(dir, "token")}
	key := newKey(t)
	c.root = c.certificate(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key.Public(), nil, key)
	c.key = key
	if between {
		key = newKey(t)
		c.mid = c.certificate(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key.Public(), c.root, c.key)
		c.key = key
	}
	for path, text := range map[string]string{c.RootFile: text(c.root), c.TokenFile: Token + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Set changes how it answers from now on.
func (c *CA) Set(h How) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.how, c.pending = h, h.Times
}

// Asked returns what it was asked.
func (c *CA) Asked() []Asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Asked(nil), c.asked...)
}

// TLS is what a server of the mesh's own has: a certificate for name, and clients that
// prove who they are by one of the CA's, or do not say.
func (c *CA) TLS(name string) *tls.Config {
	c.t.Helper()
	key := newKey(c.t)
	leaf := c.certificate(&x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		key.Public(), c.issuer(), c.key)
	clients := x509.NewCertPool()
	clients.AddCert(c.root)
	own := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	if c.mid != nil {
		own.Certificate = append(own.Certificate, c.mid.Raw)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{own}, ClientCAs: clients, ClientAuth: tls.VerifyClientCertIfGiven, MinVersion: tls.VersionTLS12,
	}
}

// Serve answers at a listener until the test or the returned function ends it. Whatever
// else is asked there has no answer, but it is noted who asks.
func (c *CA) Serve(l net.Listener) (stop func()) {
	c.t.Helper()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(c.TLS(ServerName))), grpc.UnknownServiceHandler(c.note))
	securityv1alpha1.RegisterIstioCertificateServiceServer(server, c)
	go func() { _ = server.Serve(l) }()
	c.t.Cleanup(server.Stop)
	return server.Stop
}

// note notes who asks for something else.
func (c *CA) note(_ any, stream grpc.ServerStream) error {
	who := ""
	if from, ok := peer.FromContext(stream.Context()); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			who = info.State.PeerCertificates[0].URIs[0].String()
		}
	}
	method, _ := grpc.MethodFromServerStream(stream)
	c.mu.Lock()
	c.streams = append(c.streams, who+" "+method)
	c.mu.Unlock()
	<-stream.Context().Done()
	return stream.Context().Err()
}

// Streams are what else was asked for: the identity of who asked, "" for none, and the
// method.
func (c *CA) Streams() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.streams...)
}

// Listen serves at a port of loopback and returns its address.
func (c *CA) Listen() (address string, stop func()) {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	return l.Addr().String(), c.Serve(l)
}

// CreateCertificate answers as istiod does.
func (c *CA) CreateCertificate(
	ctx context.Context, r *securityv1alpha1.IstioCertificateRequest,
) (*securityv1alpha1.IstioCertificateResponse, error) {
	said, _ := metadata.FromIncomingContext(ctx)
	a := Asked{
		Identity: r.GetMetadata().GetFields()["ImpersonatedIdentity"].GetStringValue(),
		Seconds:  r.GetValidityDuration(), Token: first(said.Get("authorization")), Cluster: first(said.Get("clusterid")),
	}
	block, _ := pem.Decode([]byte(r.GetCsr()))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, status.Error(codes.InvalidArgument, "CSR is not PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		return nil, status.Error(codes.InvalidArgument, "CSR is not valid")
	}
	a.Key = request.PublicKey
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, a)
	h := c.how
	if h.Refuse != codes.OK {
		if c.pending > 0 {
			if c.pending--; c.pending == 0 {
				c.how.Refuse = codes.OK
			}
		}
		return nil, status.Error(h.Refuse, "request impersonation authentication failure")
	}
	if a.Token != "Bearer "+Token || a.Cluster != ClusterID {
		return nil, status.Error(codes.Unauthenticated, "request impersonation authentication failure")
	}
	return c.answer(a, h)
}

// Sign signs what it likes: the chain and the roots, in PEM.
func (c *CA) Sign(key any, identity string, lives time.Duration) (chain, roots []string) {
	c.t.Helper()
	id, err := url.Parse(identity)
	if err != nil {
		c.t.Fatal(err)
	}
	leaf := c.leaf(id, How{Lives: lives})
	chain = []string{text(c.certificate(leaf, key, c.issuer(), c.key))}
	if c.mid != nil {
		chain = append(chain, text(c.mid))
	}
	return chain, []string{text(c.root)}
}

// Write puts what a neighbour proves an identity with into a folder: NAME.pem, NAME.key and
// the root, ca.pem.
func (c *CA) Write(dir, name, identity string) {
	c.t.Helper()
	key := newKey(c.t)
	chain, roots := c.Sign(key.Public(), identity, 24*time.Hour)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	for file, content := range map[string]string{
		"ca.pem": roots[0], name + ".pem": strings.Join(chain, ""),
		name + ".key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *CA) leaf(id *url.URL, h How) *x509.Certificate {
	leaf := &x509.Certificate{
		URIs: []*url.URL{id}, NotBefore: time.Now().Add(h.Begins - 2*time.Minute), NotAfter: time.Now().Add(h.Begins + h.Lives),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for range h.Names {
		leaf.URIs = append(leaf.URIs, id)
	}
	return leaf
}

func (c *CA) answer(a Asked, h How) (*securityv1alpha1.IstioCertificateResponse, error) {
	id, err := url.Parse(a.Identity)
	if err != nil || id.Scheme != "spiffe" {
		return nil, status.Error(codes.Unauthenticated, "request impersonation authentication failure")
	}
	if h.TrustDomain != "" {
		id.Host = h.TrustDomain
	}
	if h.Account != "" {
		id.Path = h.Account
	}
	if h.Raw != nil {
		return &securityv1alpha1.IstioCertificateResponse{CertChain: h.Raw}, nil
	}
	if h.Lives == 0 {
		h.Lives = cmp.Or(time.Duration(a.Seconds)*time.Second, 24*time.Hour)
	}
	key := a.Key
	if h.OtherKey {
		key = newKey(c.t).Public()
	}
	chain := []string{text(c.certificate(c.leaf(id, h), key, c.issuer(), c.key))}
	if c.mid != nil {
		chain = append(chain, text(c.mid))
	}
	if !h.NoRoot {
		chain = append(chain, text(c.root))
	}
	return &securityv1alpha1.IstioCertificateResponse{CertChain: chain}, nil
}

func (c *CA) issuer() *x509.Certificate {
	if c.mid != nil {
		return c.mid
	}
	return c.root
}

// certificate signs; with no parent by itself.
func (c *CA) certificate(what *x509.Certificate, public any, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		c.t.Fatal(err)
	}
	what.SerialNumber = serial
	if what.NotAfter.IsZero() {
		what.NotBefore, what.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(10*365*24*time.Hour)
	}
	if what.IsCA {
		what.Subject.Organization = []string{fmt.Sprintf("mesh %d", serial)}
	}
	if parent == nil {
		parent = what
	}
	der, err := x509.CreateCertificate(rand.Reader, what, parent, public, by)
	if err != nil {
		c.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

func newKey(t Owner) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func text(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
