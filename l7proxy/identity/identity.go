// Package identity is who a workload is to its peers: its SPIFFE ID, and the key and
// certificate that prove it. Both are kept in memory only.
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// DefaultTrustDomain is Istio's.
const DefaultTrustDomain = "cluster.local"

// Account is the service account that a workload runs as. All pods of one have one
// identity.
type Account struct {
	Namespace string
	Name      string
}

// ID is a SPIFFE ID in Istio's form.
type ID struct {
	TrustDomain string
	Account     Account
}

// String returns spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT.
func (id ID) String() string {
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Account.Namespace + "/sa/" + id.Account.Name
}

// Parse reads what String writes.
func Parse(uri string) (ID, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return ID{}, fmt.Errorf("parse identity: %w", err)
	}
	parts := strings.Split(u.Path, "/")
	if u.Scheme != "spiffe" || len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, fmt.Errorf("identity %q is not spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT", uri)
	}
	id := ID{TrustDomain: u.Host, Account: Account{Namespace: parts[2], Name: parts[4]}}
	if id.String() != uri || id.TrustDomain == "" || id.Account.Namespace == "" || id.Account.Name == "" {
		return ID{}, fmt.Errorf("identity %q is not spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT", uri)
	}
	return id, nil
}

// Bundle is what an identity proves itself with, and whom it trusts. Immutable: a renewed
// one is another.
type Bundle struct {
	ID          ID
	Certificate *tls.Certificate // with its key and its Leaf
	Roots       *x509.CertPool
	Expires     time.Time
}

// Source has the bundles of this node's accounts. Safe for concurrent use.
type Source interface {
	// Bundle returns the current bundle of an account, or nil and why there is none.
	Bundle(a Account) (*Bundle, error)
	// Changed returns a channel that is closed when an account's bundle is not any more what
	// Bundle returned before; nil if it has none and will have none.
	Changed(a Account) <-chan struct{}
	// TrustDomain returns that of the bundle that came last, of whatever account;
	// DefaultTrustDomain before there was any.
	TrustDomain() string
}
