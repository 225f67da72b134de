package ads_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/l7proxy/xds/ads"
)

// secured is a control plane that wants to know who asks.
type secured struct {
	*plane

	mu  sync.Mutex
	who []string // the identity of each stream, "" in plaintext
}

func (s *secured) DeltaAggregatedResources(wire discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	who := ""
	if from, ok := peer.FromContext(wire.Context()); ok {
		if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
			who = info.State.PeerCertificates[0].URIs[0].String()
		}
	}
	s.mu.Lock()
	s.who = append(s.who, who)
	s.mu.Unlock()
	return s.plane.DeltaAggregatedResources(wire)
}

func (s *secured) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.who, " ")
}

// listen serves at another port, over TLS if there is a configuration for it.
func (s *secured) listen(config *tls.Config) string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var options []grpc.ServerOption
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
	return l.Addr().String()
}

// ways says how to reach a control plane, and may be told otherwise.
type ways struct {
	mu  sync.Mutex
	way ads.Way
	err error
}

func (w *ways) get() (ads.Way, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.way, w.err
}

func (w *ways) set(way ads.Way, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.way, w.err = way, err
}

// proof is a client's side of mutual TLS.
func proof(t *testing.T, ca *catest.CA, trusts string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, _ := ca.Sign(key.Public(), "spiffe://cluster.local/ns/dubbo-demo/sa/consumer", time.Hour)
	block, _ := pem.Decode([]byte(chain[0]))
	text, err := os.ReadFile(trusts)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}},
		RootCAs:      roots, ServerName: catest.ServerName,
	}
}

// TestWays: there is no stream while there is no way, and none to somebody else; a
// better way is taken when it is there.
func TestWays(t *testing.T) {
	ca, other := catest.New(t, false), catest.New(t, false)
	s := &secured{plane: serve(t, plainScenario)}
	server := ca.TLS(catest.ServerName)
	server.ClientAuth = tls.RequireAndVerifyClientCert
	safe, plain := s.listen(server), s.listen(nil)
	w := &ways{err: errors.New("no certificate yet")}
	source, err := ads.New(ads.Options{
		Server: safe, Path: filepath.Join(t.TempDir(), "kept"), Logger: slog.New(slog.DiscardHandler),
		Node: ads.Node{ID: nodeID}, Way: w.get,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	reason := func(part string) {
		t.Helper()
		wait(t, part, func() bool { s := source.State(); return !s.Connected && strings.Contains(s.Reason, part) })
	}
	reason("no certificate yet")
	w.set(ads.Way{TLS: proof(t, ca, other.RootFile)}, nil)
	reason("unknown authority") // it is not whom we believe
	w.set(ads.Way{TLS: proof(t, other, ca.RootFile)}, nil)
	reason("certificate") // we are not whom it believes
	misnamed := proof(t, ca, ca.RootFile)
	misnamed.ServerName = "istiod.elsewhere.svc"
	w.set(ads.Way{TLS: misnamed}, nil)
	reason("istiod.elsewhere.svc")
	if got := s.seen(); got != "" {
		t.Errorf("streams by %q", got)
	}
	over := make(chan struct{})
	w.set(ads.Way{Server: plain, Over: over}, nil)
	wait(t, "plaintext", func() bool { return source.State().Connected && source.Snapshot().Generation > 0 })
	w.set(ads.Way{TLS: proof(t, ca, ca.RootFile)}, nil)
	close(over)
	wait(t, "the better way", func() bool { return s.seen() == " spiffe://cluster.local/ns/dubbo-demo/sa/consumer" })
	wait(t, "its answer", func() bool { s := source.State(); return s.Connected && s.Reconnects == 1 })
}
