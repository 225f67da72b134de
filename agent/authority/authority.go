// Package authority asks the mesh's certificate authority, istiod or what speaks like it,
// for certificates of the service accounts of this node's pods. The keys are the proxy's;
// the right to ask, a token of the agent's own pod, is here.
//
// The authority believes the agent whose pods run on its node, and signs an identity of
// any trust domain that it is asked for. So the identity is put together here, from the
// agent's own trust domain and an account that a pod of this node has, and what comes back
// is held against it.
package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Options say whom to ask, and as whom.
type Options struct {
	Address     string // HOST:PORT, istiod's 15012
	ServerName  string // whom its certificate is for
	RootFile    string // PEM: who signed that; read at each question
	TokenFile   string // the agent's own token, bound to its pod; read at each question
	TrustDomain string // of every identity that is asked for
	ClusterID   string // as which istiod knows this cluster
	Logger      *slog.Logger
}

// The defaults of Options are Istio's own.
const (
	DefaultServerName  = "istiod.istio-system.svc"
	DefaultRootFile    = "/var/run/secrets/istio/root-cert.pem"
	DefaultTokenFile   = "/var/run/secrets/tokens/istio-token" // #nosec G101 -- where a token is, not one
	DefaultTrustDomain = "cluster.local"
	DefaultClusterID   = "Kubernetes"
)

// maxValidity is how long a certificate may be asked for.
const maxValidity = 90 * 24 * time.Hour

// A pod that is new here may be unknown to istiod yet: so each question is asked a few
// times, after waits that double from the first.
const (
	tries     = 5
	firstWait = 200 * time.Millisecond
	tryTime   = 5 * time.Second
)

// Question is what a certificate is asked for.
type Question struct {
	Namespace      string
	ServiceAccount string
	Request        []byte        // PKCS #10, DER, of an ECDSA key on P-256
	Validity       time.Duration // 0: as long as the authority likes
}

// Signed is an answer that was checked.
type Signed struct {
	Chain [][]byte // DER: the leaf and what is between it and a root
	Roots [][]byte // DER
}

// ErrRequest is returned for a question that no authority is asked.
var ErrRequest = errors.New("the request is no good")

// Client asks the authority. Safe for concurrent use.
type Client struct {
	opts Options
	wait time.Duration // before the second try
}

// New checks the options. It asks and reads nothing yet.
func New(opts Options) (*Client, error) {
	host, port, err := net.SplitHostPort(opts.Address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("certificate authority %q is not HOST:PORT", opts.Address)
	}
	if opts.TrustDomain == "" || strings.ContainsAny(opts.TrustDomain, "/?#@:% ") {
		return nil, fmt.Errorf("%q is no trust domain", opts.TrustDomain)
	}
	for _, one := range []struct{ what, value string }{
		{"server name", opts.ServerName}, {"root file", opts.RootFile}, {"token file", opts.TokenFile}, {"cluster id", opts.ClusterID},
	} {
		if one.value == "" {
			return nil, fmt.Errorf("the %s of the certificate authority is missing", one.what)
		}
	}
	return &Client{opts: opts, wait: firstWait}, nil
}

// Sign asks until there is a certificate, a few times at most. ErrRequest says that it
// did not ask.
func (c *Client) Sign(ctx context.Context, q Question) (*Signed, error) {
	key, err := check(q)
	if err != nil {
		return nil, err
	}
	id, err := c.identity(q)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		signed, err := c.try(ctx, q, id, key)
		if err == nil {
			return signed, nil
		}
		if n == tries || !passing(err) {
			return nil, fmt.Errorf("ask %s for %s: %w%s", c.opts.Address, id, errors.Join(ctx.Err(), err), remedy(err))
		}
		c.opts.Logger.Debug("certificate authority", "identity", id, "try", n, "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("ask %s for %s: %w", c.opts.Address, id, errors.Join(ctx.Err(), err))
		case <-time.After(c.wait << (n - 1)):
		}
	}
}

// try asks once.
func (c *Client) try(ctx context.Context, q Question, id string, key *ecdsa.PublicKey) (*Signed, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	answer, err := c.ask(ctx, q, id)
	if err != nil {
		return nil, err
	}
	return accept(answer, id, key)
}

// identity puts the SPIFFE ID together. What is not a name of Kubernetes' could make
// another one of it.
func (c *Client) identity(q Question) (string, error) {
	for _, name := range []string{q.Namespace, q.ServiceAccount} {
		if !isName(name) {
			return "", fmt.Errorf("%w: %q is no name of a namespace or an account", ErrRequest, name)
		}
	}
	return "spiffe://" + c.opts.TrustDomain + "/ns/" + q.Namespace + "/sa/" + q.ServiceAccount, nil
}

// isName tells whether s has the letters of a DNS subdomain (RFC 1123), which namespaces
// and service accounts are called by.
func isName(s string) bool {
	wrong := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' }
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, wrong) && strings.Trim(s, "-.") == s
}

// check reads a request and returns its key. It comes from the proxy, so it may be
// anything.
func check(q Question) (*ecdsa.PublicKey, error) {
	if q.Validity < 0 || q.Validity > maxValidity {
		return nil, fmt.Errorf("%w: it is to live %s, at most %s may be asked for", ErrRequest, q.Validity, maxValidity)
	}
	request, err := x509.ParseCertificateRequest(q.Request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	key, ok := request.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: its key is not ECDSA on P-256", ErrRequest)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return key, nil
}
