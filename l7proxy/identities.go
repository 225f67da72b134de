package l7proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
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
	if host, port, err := net.SplitHostPort(s.PlainServer); err != nil || host == "" || port == "" {
		return fmt.Errorf("control plane %q is not HOST:PORT", s.PlainServer)
	}
	return nil
}

// accountOf is who a pod is to its peers.
func accountOf(w *handoff.Workload) identity.Account {
	return identity.Account{Namespace: w.Namespace, Name: w.ServiceAccount}
}

// unidentify forgets a pod, and its account with the last of its pods.
func (p *Proxy) unidentify(uid string) {
	p.identities.Remove(uid)
	if w := p.workloads.ByUID(uid); w != nil && p.identities.Changed(accountOf(&w.Workload)) == nil {
		p.ways.Delete(accountOf(&w.Workload))
	}
}

// way chooses how the control plane is asked for what an account's pods see: with the
// account's certificate; where that was refused, and only where the operator says so, in
// plaintext, until there is one. A secured port that does not answer is no reason: whoever
// can disturb it would get what it guards.
func (p *Proxy) way(a identity.Account) (ads.Way, error) {
	secured := &p.opts.Secured
	if !secured.TLS {
		p.ways.Store(a, byPlaintext)
		return ads.Way{}, nil
	}
	changed := p.identities.Changed(a)
	b, err := p.identities.Bundle(a)
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

// viewed is the account of the pod whose view is asked for.
func (p *Proxy) viewed() (identity.Account, error) {
	parts := strings.Split(p.opts.XDSNode.ID, "~")
	for _, w := range p.workloads.All() {
		if len(parts) > 2 && parts[2] == w.Name+"."+w.Namespace {
			return accountOf(&w.Workload), nil
		}
	}
	return identity.Account{}, fmt.Errorf("no identity of %s: no such pod is on this node", p.opts.XDSNode.ID)
}

// identityList tells of the node's accounts; of none where the agent knows no authority.
func (p *Proxy) identityList() []admin.Identity {
	var list []admin.Identity
	for _, s := range p.identities.Status() {
		if errors.Is(s.Err, identity.ErrOff) && s.Bundle == nil {
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

// certificates are the metrics of the node's identities.
type certificates struct{ holder *identity.Holder }

var (
	_           prometheus.Collector = certificates{}
	expiresDesc                      = prometheus.NewDesc("dubway_certificate_expires_timestamp_seconds",
		"When the certificate of a service account expires, in Unix time; 0: there was none yet.", []string{"namespace", "service_account"}, nil)
	missingDesc = prometheus.NewDesc("dubway_certificate_missing",
		"Service accounts of the node's pods that have no certificate that is valid.", nil, nil)
	renewalsDesc = prometheus.NewDesc("dubway_certificate_renewals_total",
		"Certificates that were asked for, the first ones too, by result.", []string{"result"}, nil)
)

// Describe is part of prometheus.Collector.
func (c certificates) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{expiresDesc, missingDesc, renewalsDesc} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c certificates) Collect(ch chan<- prometheus.Metric) {
	missing, now := 0, time.Now()
	for _, s := range c.holder.Status() {
		if s.Bundle == nil && errors.Is(s.Err, identity.ErrOff) {
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
	answered, failed := c.holder.Renewals()
	ch <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, float64(missing))
	ch <- prometheus.MustNewConstMetric(renewalsDesc, prometheus.CounterValue, float64(answered), "ok")
	ch <- prometheus.MustNewConstMetric(renewalsDesc, prometheus.CounterValue, float64(failed), "failed")
}
