package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/dubway/dubway/internal/handoff"
)

// ask makes a new key and has it signed. The key never leaves this process's memory: not
// even the agent sees it.
func ask(ctx context.Context, signer Signer, a Account) (*Bundle, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	// Who it is for, the agent says: nothing but the key is of use in it.
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	signed, err := signer.Sign(ctx, &handoff.Sign{
		Namespace: a.Namespace, ServiceAccount: a.Name, Request: request, Seconds: int64(validity / time.Second),
	})
	if refused, ok := errors.AsType[*handoff.SignError](err); ok && refused.Code == handoff.SignOff {
		return nil, ErrOff
	}
	if err != nil {
		return nil, err
	}
	return bundle(signed, key, a)
}

// bundle puts together what was signed. The agent has verified it; whether it is for this
// key and this account is seen here, too.
func bundle(signed *handoff.SignResult, key *ecdsa.PrivateKey, a Account) (*Bundle, error) {
	b := &Bundle{Certificate: &tls.Certificate{Certificate: signed.Chain, PrivateKey: key}, Roots: x509.NewCertPool()}
	for i, der := range signed.Chain {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		if i == 0 {
			b.Certificate.Leaf = one
		}
		if i == 0 || one.NotAfter.Before(b.Expires) {
			b.Expires = one.NotAfter
		}
	}
	for _, der := range signed.Roots {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read root certificate: %w", err)
		}
		b.Roots.AddCert(one)
	}
	leaf := b.Certificate.Leaf
	if leaf == nil || !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("read certificate: it is for another key")
	}
	if len(leaf.URIs) != 1 {
		return nil, fmt.Errorf("read certificate: %d identities", len(leaf.URIs))
	}
	var err error
	if b.ID, err = Parse(leaf.URIs[0].String()); err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	switch {
	case b.ID.Account != a:
		return nil, fmt.Errorf("read certificate: it is for %s, not for %s/%s", b.ID, a.Namespace, a.Name)
	case !time.Now().Before(b.Expires):
		return nil, fmt.Errorf("read certificate: it expired at %s", b.Expires.Format(time.RFC3339))
	}
	return b, nil
}
