package authority

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// errForeign is the mark of an answer that is not what was asked for.
var errForeign = errors.New("the answer is not accepted")

// accept holds an answer against what was asked for: the leaf, what is between, roots;
// each of them is one or more certificates in PEM.
func accept(answer []string, id string, key *ecdsa.PublicKey) (*Signed, error) {
	if len(answer) < 2 {
		return nil, fmt.Errorf("%w: it has %d parts, a leaf and a root are wanted", errForeign, len(answer))
	}
	chain, err := parse(strings.Join(answer[:len(answer)-1], "\n"))
	if err != nil {
		return nil, err
	}
	roots, err := parse(answer[len(answer)-1])
	if err != nil {
		return nil, err
	}
	if err := checkName(chain[0], id); err != nil {
		return nil, err
	}
	if !key.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: it is for another key than the one that was sent", errForeign)
	}
	if err := verify(chain, roots); err != nil {
		return nil, err
	}
	return &Signed{Chain: raw(chain), Roots: raw(roots)}, nil
}

// parse reads at least one certificate.
func parse(text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: it holds a %s", errForeign, block.Type)
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForeign, err)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no certificate in PEM", errForeign)
	}
	return all, nil
}

// checkName refuses a leaf of anybody else, of a foreign trust domain by its name.
func checkName(leaf *x509.Certificate, id string) error {
	if len(leaf.URIs) != 1 {
		return fmt.Errorf("%w: it names %d identities instead of %s", errForeign, len(leaf.URIs), id)
	}
	got := leaf.URIs[0]
	switch domain := strings.SplitN(id, "/", 4)[2]; {
	case got.String() == id:
		return nil
	case got.Host != domain:
		return fmt.Errorf("%w: it is of trust domain %q, not %q; fix: name the mesh's own in --trust-domain",
			errForeign, got.Host, domain)
	default:
		return fmt.Errorf("%w: it is of %s, not of %s", errForeign, got, id)
	}
}

// verify tells whether the roots stand for the leaf, now, as a client and as a server.
func verify(chain, roots []*x509.Certificate) error {
	between, trusted := x509.NewCertPool(), x509.NewCertPool()
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	for _, one := range roots {
		trusted.AddCert(one)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := chain[0].Verify(x509.VerifyOptions{
			Roots: trusted, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use},
		}); err != nil {
			return fmt.Errorf("%w: %w", errForeign, err)
		}
	}
	return nil
}

func raw(all []*x509.Certificate) [][]byte {
	ders := make([][]byte, len(all))
	for i, one := range all {
		ders[i] = one.Raw
	}
	return ders
}
