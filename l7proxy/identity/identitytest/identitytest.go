// Package identitytest makes authorities and identities for tests, as istiod signs them:
// an ECDSA leaf without a subject, with one critical URI, for both sides of TLS.
package identitytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
)

// Authority signs identities.
type Authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// New returns an authority that nobody trusts yet.
func New(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{t: tb, key: newKey(tb)}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"cluster.local"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert = sign(tb, signing{template, template, a.key, a.key})
	return a
}

// Issue returns a bundle of an account, which trusts the authority. The certificate is
// valid for three hours, up to the given end.
func (a *Authority) Issue(account identity.Account, end time.Time) *identity.Bundle {
	a.t.Helper()
	id := identity.ID{TrustDomain: "cluster.local", Account: account}
	return a.IssueNames(id, end, id.String())
}

// IssueNames is Issue for a certificate that has other names than its ID.
func (a *Authority) IssueNames(id identity.ID, end time.Time, uris ...string) *identity.Bundle {
	a.t.Helper()
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: end.Add(-3 * time.Hour), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	leaf := sign(a.t, signing{template, a.cert, key, a.key})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &identity.Bundle{
		ID: id, Roots: roots, Expires: leaf.NotAfter,
		Certificate: &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf},
	}
}

// Write puts a bundle and the authority into a folder, as NAME.pem, NAME.key and ca.pem.
func (a *Authority) Write(dir, name string, b *identity.Bundle) {
	a.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(b.Certificate.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"ca.pem":      {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		name + ".pem": {Type: "CERTIFICATE", Bytes: b.Certificate.Certificate[0]},
		name + ".key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// Source is an identity.Source that a test fills. Its zero value has nothing.
type Source struct {
	mu      sync.Mutex
	bundles map[identity.Account]*identity.Bundle
	pending chan struct{} // nil: what is not here will not come
}

var _ identity.Source = (*Source)(nil)

// Put gives an account another bundle.
func (s *Source) Put(b *identity.Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundles == nil {
		s.bundles = make(map[identity.Account]*identity.Bundle)
	}
	s.bundles[b.ID.Account] = b
	if s.pending != nil {
		close(s.pending)
		s.pending = nil
	}
}

// Await has what is not here be asked for, until the next Put.
func (s *Source) Await() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = make(chan struct{})
}

// Changed tells of the next Put after Await. Part of identity.Source.
func (s *Source) Changed(identity.Account) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

// Forget takes every bundle.
func (s *Source) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles = nil
}

// Bundle returns what was Put. Part of identity.Source.
func (s *Source) Bundle(a identity.Account) (*identity.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.bundles[a]; b != nil {
		return b, nil
	}
	if s.pending != nil {
		return nil, identity.ErrPending
	}
	return nil, identity.ErrOff
}

// TrustDomain is part of identity.Source.
func (s *Source) TrustDomain() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.bundles {
		return b.ID.TrustDomain
	}
	return identity.DefaultTrustDomain
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// signing is what a certificate is made of.
type signing struct {
	template, parent *x509.Certificate
	key, by          *ecdsa.PrivateKey
}

func sign(tb testing.TB, s signing) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, s.template, s.parent, s.key.Public(), s.by)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return big.NewInt(1)
	}
	return n
}
