package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

// end is one end of a handshake.
type end struct {
	side    int
	make    func(net.Conn, *tls.Config) *tls.Conn
	account identity.Account
	names   mutual.Names // of the peer
	usage   x509.ExtKeyUsage
	config  tls.Config
}

// handshake makes c encrypted and finds out who the peer is.
func (e *Ends) handshake(ctx context.Context, c *sock.Conn, s *end) (Peer, error) {
	peer, err := e.try(ctx, c, s)
	if err == nil {
		e.stats.Handshakes[s.side].Add(1)
		return peer, nil
	}
	var refused *Error
	if !errors.As(err, &refused) {
		refused = &Error{Reason: Handshake, Err: err}
	}
	e.stats.Refused[s.side][refused.Reason].Add(1)
	if refused.Reason == NoIdentity {
		e.lacks(s.account, s.side, refused.Err)
	}
	return Peer{}, refused
}

func (e *Ends) try(ctx context.Context, c *sock.Conn, s *end) (Peer, error) {
	bundle, err := e.bundle(ctx, s.account)
	if err != nil {
		return Peer{}, &Error{Reason: NoIdentity, Err: err}
	}
	e.has(s.account)
	var leaf *x509.Certificate
	config := &s.config
	config.MinVersion, config.CipherSuites = tls.VersionTLS12, ciphers
	config.DynamicRecordSizingDisabled = true // records of 1.4 KiB would cost more than they hasten
	config.Certificates = []tls.Certificate{*bundle.Certificate}
	// Whatever authorities the peer names: there is but one certificate.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return bundle.Certificate, nil }
	config.VerifyConnection = func(state tls.ConnectionState) error {
		var refused *Error
		if leaf, refused = verify(bundle, s, state.PeerCertificates); refused != nil {
			return refused
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	if _, err := c.Secure(ctx, s.make, config); err != nil {
		return Peer{}, err
	}
	if leaf == nil {
		return Peer{}, &Error{Reason: NoCertificate}
	}
	until := leaf.NotAfter
	if bundle.Expires.Before(until) {
		until = bundle.Expires
	}
	return Peer{Principal: leaf.URIs[0].String(), Own: bundle.ID.String(), Until: until}, nil
}

// verify returns the certificate of a peer who may be here.
func verify(bundle *identity.Bundle, s *end, chain []*x509.Certificate) (*x509.Certificate, *Error) {
	if len(chain) == 0 {
		return nil, &Error{Reason: NoCertificate}
	}
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: bundle.Roots, Intermediates: between, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{s.usage},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return nil, &Error{Reason: Expired, Err: err}
	case err != nil:
		return nil, &Error{Reason: Untrusted, Err: err}
	case len(leaf.URIs) != 1: // as SPIFFE has it: which of two would be the principal?
		return nil, &Error{Reason: WrongName, Err: fmt.Errorf("the certificate has %d URIs, not one", len(leaf.URIs))}
	}
	if id := leaf.URIs[0].String(); !s.names.Has(id) {
		return nil, &Error{Reason: WrongName, Err: fmt.Errorf("the peer is %q, not one of %q", id, string(s.names))}
	}
	return leaf, nil
}
