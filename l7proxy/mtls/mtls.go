// Package mtls speaks the mesh's mutual TLS on connections that others made or accepted,
// so that a neighbouring sidecar of Istio cannot tell it from one: with the workload's own
// certificate, and a peer that is who he must be by his certificate alone. It decides
// neither which connections are encrypted nor what a peer may do.
package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

// handshakeLimit bounds a handshake, its first bytes included.
const handshakeLimit = 10 * time.Second

// ciphers are those of TLS 1.2 that Istio's sidecars speak and Go does; TLS 1.3 has its own.
var ciphers = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
}

// offer is the one protocol that we offer. With istio-peer-exchange a sidecar would expect
// bytes in front of the application's.
const offer = "istio"

// choices are the protocols that we take as a server, the first before the others: those
// of a sidecar's list that have nothing in front of the application's bytes, and istio,
// which keeps who offers istio-peer-exchange too from waiting for it.
var choices = []string{"h2", "http/1.1", offer}

// Peer is whom a handshake has shown, and as whom.
type Peer struct {
	Principal string    // his SPIFFE ID
	Own       string    // ours
	Until     time.Time // the earlier end of the two certificates
}

// Ends makes the ends of TLS connections, by the identities of this node's workloads.
// Safe for concurrent use.
type Ends struct {
	source identity.Source
	log    *slog.Logger
	stats  Stats

	mu      sync.Mutex
	lacking map[identity.Account]*lack
}

// Stats are counters, for metrics.
type Stats struct {
	Handshakes [2]atomic.Uint64             // as the client, and as the server
	Refused    [2][numReasons]atomic.Uint64 // the same, by reason
}

// The sides of Stats.
const (
	ClientSide = iota
	ServerSide
)

// New returns Ends for a source of identities.
func New(source identity.Source, log *slog.Logger) *Ends {
	return &Ends{source: source, log: log, lacking: make(map[identity.Account]*lack)}
}

// Stats returns the counters.
func (e *Ends) Stats() *Stats { return &e.stats }

// Refuse counts a connection that is refused because it is not TLS, as a server.
func (e *Ends) Refuse() { e.stats.Refused[ServerSide][Plaintext].Add(1) }

// Client makes c encrypted, as an account's client of a provider. An error is an *Error;
// then c is to be closed.
func (e *Ends) Client(ctx context.Context, c *sock.Conn, a identity.Account, t mutual.TLS) (Peer, error) {
	return e.handshake(ctx, c, &end{
		side: ClientSide, make: tls.Client, account: a, names: t.Names, usage: x509.ExtKeyUsageServerAuth,
		config: tls.Config{
			ServerName: t.SNI, NextProtos: []string{offer},
			InsecureSkipVerify: true, //nolint:gosec // verified by names that no host has
		},
	})
}

// Client is what a Server knows of its client before.
type Client struct {
	Names  mutual.Names // whom it may be
	Offers []string     // what it offers, as the function Offers tells
}

// Server ends the TLS of c for an account's provider. An error is as of Client.
func (e *Ends) Server(ctx context.Context, c *sock.Conn, a identity.Account, client Client) (Peer, error) {
	// Without one in common Go refuses; a sidecar answers without a protocol.
	common := slices.DeleteFunc(slices.Clone(choices), func(one string) bool { return !slices.Contains(client.Offers, one) })
	return e.handshake(ctx, c, &end{
		side: ServerSide, make: tls.Server, account: a, names: client.Names, usage: x509.ExtKeyUsageClientAuth,
		// Tickets would outlive the identities that they were given for.
		config: tls.Config{NextProtos: common, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true},
	})
}
