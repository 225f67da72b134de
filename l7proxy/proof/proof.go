// Package proof is how the identities of the node's pods are proved to the control plane,
// and what operators are told of them. Whose they are and how they are renewed is package
// identity's business.
package proof

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// Secured is how the control plane is asked over TLS, with the certificate of the account
// whose pods' view it is.
type Secured struct {
	TLS         bool   // it is; the other fields are for that alone
	ServerName  string // whom the control plane's certificate is for
	RootFile    string // PEM: who signed that; "": the mesh's own roots, which come with each certificate
	PlainServer string // HOST:PORT that is asked in plaintext for accounts that get no certificate; "": they wait
}

// The ways that an account's view is asked for, as the status calls them.
const (
	byCertificate = "certificate"
	byPlaintext   = "plaintext"
)

// check refuses what would mean nothing.
func (s *Secured) check() error {
	if s.PlainServer == "" {
		return nil
	}
	if !s.TLS {
		return errors.New("a server that is asked in plaintext for want of a certificate (--xds-plain-server) goes with --xds-tls")
	}
	return ads.CheckServer(s.PlainServer)
}

// Proof has the identities of the node's pods, and the ways that they are proved by. Safe
// for concurrent use.
type Proof struct {
	*identity.Holder

	secured Secured
	teller  teller   // nil: nobody is to hear
	ways    sync.Map // string by identity.Account: how its view was asked for last
}

// New makes a Proof without identities. Close ends it.
func New(signer identity.Signer, secured Secured, log *slog.Logger) (*Proof, error) {
	if err := secured.check(); err != nil {
		return nil, err
	}
	p := &Proof{Holder: identity.NewHolder(signer, log), secured: secured}
	p.teller, _ = signer.(teller)
	p.Tell(p.certified)
	return p, nil
}

// teller hears for which accounts there are certificates; *handoff.Client does.
type teller interface {
	Certified(one *handoff.Certified) error
}

var _ teller = (*handoff.Client)(nil)

// certified tells the agent of a certificate. An agent that is away is told when it is
// back (TellAll).
func (p *Proof) certified(a identity.Account, expires time.Time) {
	if p.teller != nil {
		_ = p.teller.Certified(&handoff.Certified{Namespace: a.Namespace, ServiceAccount: a.Name, Expires: expires.Unix()})
	}
}

// TellAll tells the agent, which may be a new one, of all certificates that are held.
func (p *Proof) TellAll() {
	for _, s := range p.Status() {
		if s.Bundle != nil && time.Now().Before(s.Bundle.Expires) {
			p.certified(s.Account, s.Bundle.Expires)
		}
	}
}

// Remove tells that a pod has gone.
func (p *Proof) Remove(uid string) {
	p.Holder.Remove(uid)
	p.ways.Range(func(key, _ any) bool {
		if a, ok := key.(identity.Account); ok && p.Changed(a) == nil {
			p.ways.Delete(key)
		}
		return true
	})
}

// Way chooses how the control plane is asked for what an account's pods see: with the
// account's certificate; where that was refused, and only where the operator says so, in
// plaintext, until there is one. A secured port that does not answer is no reason: whoever
// can disturb it would get what it guards.
func (p *Proof) Way(a identity.Account) (ads.Way, error) {
	secured := &p.secured
	if !secured.TLS {
		p.ways.Store(a, byPlaintext)
		return ads.Way{}, nil
	}
	changed := p.Changed(a)
	b, err := p.Bundle(a)
	switch {
	case err == nil:
	case secured.PlainServer != "" && !errors.Is(err, identity.ErrPending):
		p.ways.Store(a, byPlaintext)
		return ads.Way{Server: secured.PlainServer, Over: changed}, nil
	default:
		return ads.Way{}, err
	}
	config, err := secured.config(b)
	if err != nil {
		return ads.Way{}, err
	}
	p.ways.Store(a, byCertificate)
	return ads.Way{TLS: config}, nil
}

// config proves a bundle's identity, and believes the control plane by its name.
func (s *Secured) config(b *identity.Bundle) (*tls.Config, error) {
	roots := b.Roots
	if s.RootFile != "" {
		text, err := os.ReadFile(s.RootFile)
		if err != nil {
			return nil, fmt.Errorf("read the control plane's root certificate: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the control plane's root certificate: %s holds none", s.RootFile)
		}
	}
	return &tls.Config{
		RootCAs: roots, ServerName: s.ServerName, MinVersion: tls.VersionTLS12,
		// Also to a server that names other roots than ours: it shall say what it dislikes.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return b.Certificate, nil },
	}, nil
}

// List tells of the node's accounts; of none where the agent knows no authority.
func (p *Proof) List() []admin.Identity {
	var list []admin.Identity
	for _, s := range p.Status() {
		if s.Off() {
			continue
		}
		one := admin.Identity{Namespace: s.Account.Namespace, ServiceAccount: s.Account.Name, Pods: s.Pods}
		if s.Bundle != nil {
			one.ID, one.Expires, one.Renewed = s.Bundle.ID.String(), &s.Bundle.Expires, &s.Renewed
		}
		if s.Err != nil && !errors.Is(s.Err, identity.ErrPending) {
			one.Error = s.Err.Error()
		}
		if way, ok := p.ways.Load(s.Account); ok {
			one.ControlPlane, _ = way.(string)
		}
		list = append(list, one)
	}
	return list
}

var (
	_           prometheus.Collector = (*Proof)(nil)
	expiresDesc                      = prometheus.NewDesc("dubway_certificate_expires_timestamp_seconds",
		"When the certificate of a service account expires, in Unix time; 0: there was none yet.",
		[]string{"namespace", "service_account"}, nil)
	missingDesc = prometheus.NewDesc("dubway_certificate_missing",
		"Service accounts of the node's pods that have no certificate that is valid.", nil, nil)
	renewalsDesc = prometheus.NewDesc("dubway_certificate_renewals_total",
		"Certificates that were asked for, the first ones too, by result.", []string{"result"}, nil)
)

// Describe is part of prometheus.Collector.
func (p *Proof) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{expiresDesc, missingDesc, renewalsDesc} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (p *Proof) Collect(ch chan<- prometheus.Metric) {
	missing, now := 0, time.Now()
	for _, s := range p.Status() {
		if s.Off() {
			continue
		}
		expires := int64(0)
		if s.Bundle != nil {
			expires = s.Bundle.Expires.Unix()
		}
		if expires <= now.Unix() {
			missing++
		}
		ch <- prometheus.MustNewConstMetric(expiresDesc, prometheus.GaugeValue, float64(expires), s.Account.Namespace, s.Account.Name)
	}
	answered, failed := p.Renewals()
	ch <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, float64(missing))
	ch <- prometheus.MustNewConstMetric(renewalsDesc, prometheus.CounterValue, float64(answered), "ok")
	ch <- prometheus.MustNewConstMetric(renewalsDesc, prometheus.CounterValue, float64(failed), "failed")
}
