package mtls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/sock"
)

var (
	consumer = identity.Account{Namespace: "shop", Name: "web"}
	provider = identity.Account{Namespace: "shop", Name: "orders"}
)

const (
	consumerID = "spiffe://cluster.local/ns/shop/sa/web"
	providerID = "spiffe://cluster.local/ns/shop/sa/orders"
)

// connected returns both ends of a connection over loopback.
func connected(t *testing.T) (near, far *sock.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ends := make([]*sock.Conn, 2)
	for i, open := range []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, l.Accept,
	} {
		c, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if ends[i], err = sock.New(c.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

// ends are a consumer's and a provider's.
type ends struct {
	near, far *sock.Conn
	nearEnds  *mtls.Ends
	farEnds   *mtls.Ends
	want      mutual.TLS
	names     mutual.Names
}

// shake makes both ends agree.
func (e *ends) shake(t *testing.T) (nearPeer, farPeer mtls.Peer, nearErr, farErr error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		offers, ok := mtls.Offers(e.far)
		if !ok || strings.Join(offers, " ") != "istio" {
			t.Errorf("offers %q, %v, want istio alone", offers, ok)
		}
		if farPeer, farErr = e.farEnds.Server(context.Background(), e.far, provider, mtls.Client{Names: e.names, Offers: offers}); farErr != nil {
			_ = e.far.Close()
		}
	}()
	if nearPeer, nearErr = e.nearEnds.Client(t.Context(), e.near, consumer, e.want); nearErr != nil {
		_ = e.near.Close()
	}
	<-done
	return nearPeer, farPeer, nearErr, farErr
}

func source(bundles ...*identity.Bundle) *mtls.Ends {
	s := new(identitytest.Source)
	for _, b := range bundles {
		s.Put(b)
	}
	return mtls.New(s, slog.New(slog.DiscardHandler))
}

// TestPending: a connection waits for a certificate that is being asked for, on both sides.
func TestPending(t *testing.T) {
	ca, later := identitytest.New(t), time.Now().Add(time.Hour)
	e := ends{names: "spiffe://cluster.local/*", want: mutual.TLS{On: true, Names: providerID}}
	sources := [2]identitytest.Source{}
	var ends [2]*mtls.Ends
	for i, b := range []*identity.Bundle{ca.Issue(consumer, later), ca.Issue(provider, later)} {
		sources[i].Await()
		ends[i] = mtls.New(&sources[i], slog.New(slog.DiscardHandler))
		defer time.AfterFunc(100*time.Millisecond, func() { sources[i].Put(b) }).Stop()
	}
	e.near, e.far = connected(t)
	e.nearEnds, e.farEnds = ends[0], ends[1]
	if _, _, near, far := e.shake(t); near != nil || far != nil {
		t.Errorf("consumer: %v; provider: %v", near, far)
	}
}

// TestNeverComes: it does not wait for ever, and nothing is sent.
func TestNeverComes(t *testing.T) {
	s := new(identitytest.Source)
	s.Await()
	e := mtls.New(s, slog.New(slog.DiscardHandler))
	near, far := connected(t)
	if _, err := e.Client(t.Context(), near, consumer, mutual.TLS{On: true}); reasonOf(err) != mtls.NoIdentity || !errors.Is(err, identity.ErrPending) {
		t.Errorf("%v", err)
	}
	_ = near.Close()
	if n, err := far.Peek(make([]byte, 1), 0, 30*time.Second); n > 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := e.Problems(); len(got) != 1 || !strings.Contains(got[0], "shop/web is refused, 1 connections to providers and 0 from consumers") {
		t.Errorf("%q", got)
	}
}

func TestPeers(t *testing.T) {
	ours, theirs := identitytest.New(t), identitytest.New(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	id := func(a identity.Account) identity.ID { return identity.ID{TrustDomain: "cluster.local", Account: a} }
	two := ours.IssueNames(id(provider), later, providerID, consumerID)
	none := ours.IssueNames(id(provider), later)
	foreign := ours.IssueNames(id(consumer), later, "spiffe://evil.example/ns/shop/sa/web")
	const fine = mtls.Reason(mtls.Reasons)
	tests := []struct {
		name      string
		near, far *identity.Bundle
		want      mutual.Names   // of the provider; "" for the usual
		reason    [2]mtls.Reason // at the consumer, at the provider
	}{
		{"as it should be", ours.Issue(consumer, later), ours.Issue(provider, later), "", [2]mtls.Reason{fine, fine}},
		{"one of several", ours.Issue(consumer, later), ours.Issue(provider, later), "spiffe://a " + providerID, [2]mtls.Reason{fine, fine}},
		{"by its beginning", ours.Issue(consumer, later), ours.Issue(provider, later), "spiffe://cluster.local/ns/shop/*", [2]mtls.Reason{fine, fine}},
		{"another provider", ours.Issue(consumer, later), ours.Issue(provider, later), "spiffe://cluster.local/ns/shop/sa/order", [2]mtls.Reason{mtls.WrongName, mtls.Handshake}},
		{"a provider of another mesh", ours.Issue(consumer, later), theirs.Issue(provider, later), "", [2]mtls.Reason{mtls.Untrusted, mtls.Handshake}},
		{"an expired provider", ours.Issue(consumer, later), ours.Issue(provider, past), "", [2]mtls.Reason{mtls.Expired, mtls.Handshake}},
		{"a provider of two names", ours.Issue(consumer, later), two, "", [2]mtls.Reason{mtls.WrongName, mtls.Handshake}},
		{"a provider without a name", ours.Issue(consumer, later), none, "", [2]mtls.Reason{mtls.WrongName, mtls.Handshake}},
		{"an expired consumer", ours.Issue(consumer, past), ours.Issue(provider, later), "", [2]mtls.Reason{fine, mtls.Expired}},
		{"a consumer of another trust domain", foreign, ours.Issue(provider, later), "", [2]mtls.Reason{fine, mtls.WrongName}},
		{"a consumer without a certificate", nil, ours.Issue(provider, later), "", [2]mtls.Reason{mtls.NoIdentity, mtls.Handshake}},
		{"a provider without a certificate", ours.Issue(consumer, later), nil, "", [2]mtls.Reason{mtls.Handshake, mtls.NoIdentity}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := ends{names: "spiffe://cluster.local/*", want: mutual.TLS{On: true, SNI: "outbound_.20880_._.orders.shop", Names: providerID}}
			if test.want != "" {
				e.want.Names = test.want
			}
			e.nearEnds, e.farEnds = source(), source()
			if test.near != nil {
				e.nearEnds = source(test.near)
			}
			if test.far != nil {
				e.farEnds = source(test.far)
			}
			e.near, e.far = connected(t)
			if test.near == nil { // nothing is said at all
				if _, err := e.nearEnds.Client(t.Context(), e.near, consumer, e.want); reasonOf(err) != mtls.NoIdentity {
					t.Errorf("error %v, want %s", err, mtls.NoIdentity)
				}
				return
			}
			nearPeer, farPeer, nearErr, farErr := e.shake(t)
			if got := [2]mtls.Reason{reasonOf(nearErr), reasonOf(farErr)}; got != test.reason {
				t.Fatalf("the consumer got %v, the provider %v; want %s and %s", nearErr, farErr, test.reason[0], test.reason[1])
			}
			if nearErr == nil && (nearPeer.Principal != providerID || nearPeer.Own == "" || nearPeer.Until.IsZero()) {
				t.Errorf("the consumer sees %+v", nearPeer)
			}
			if farErr == nil && (farPeer.Principal != consumerID || farPeer.Own != providerID) {
				t.Errorf("the provider sees %+v", farPeer)
			}
			counted(t, e.nearEnds, mtls.ClientSide, nearErr)
			counted(t, e.farEnds, mtls.ServerSide, farErr)
		})
	}
}

// reasonOf is mtls.Reasons for no error.
func reasonOf(err error) mtls.Reason {
	var told *mtls.Error
	switch {
	case err == nil:
		return mtls.Reason(mtls.Reasons)
	case errors.As(err, &told):
		return told.Reason
	}
	return mtls.Handshake
}

// counted checks the counters of one handshake.
func counted(t *testing.T, e *mtls.Ends, side int, err error) {
	t.Helper()
	var want, got uint64
	if err == nil {
		want = 1
	}
	if n := e.Stats().Handshakes[side].Load(); n != want {
		t.Errorf("side %d: %d handshakes, want %d", side, n, want)
	}
	for r := range e.Stats().Refused[side] {
		n := e.Stats().Refused[side][r].Load()
		got += n
		if n > 0 && mtls.Reason(r) != reasonOf(err) {
			t.Errorf("side %d: counted as %s, got %v", side, mtls.Reason(r), err)
		}
	}
	if got != 1-want {
		t.Errorf("side %d: %d refusals, want %d", side, got, 1-want)
	}
}

// TestPlaintextClient: who does not speak TLS gets nothing out of a Server, and no certificate
// is as little.
func TestStrangers(t *testing.T) {
	ca := identitytest.New(t)
	e := source(ca.Issue(provider, time.Now().Add(time.Hour)))
	for name, test := range map[string]struct {
		config *tls.Config
		want   mtls.Reason
	}{
		"no certificate": {&tls.Config{InsecureSkipVerify: true}, mtls.NoCertificate},
		"old TLS":        {&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, mtls.Handshake},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := connected(t)
			go func() {
				c := tls.Client(near.TCP(), test.config)
				if c.Handshake() == nil {
					_, _ = io.ReadAll(c)
				}
			}()
			if _, err := e.Server(t.Context(), far, provider, mtls.Client{}); reasonOf(err) != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	near, far := connected(t)
	if err := near.Send([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if offers, ok := mtls.Offers(far); ok {
		t.Errorf("plaintext offers %q", offers)
	}
}

// TestVersions: each version that a sidecar may choose, and the protocols of each of
// Istio's clients.
func TestVersions(t *testing.T) {
	ca := identitytest.New(t)
	later := time.Now().Add(time.Hour)
	server, client := source(ca.Issue(provider, later)), ca.Issue(consumer, later)
	for _, test := range []struct {
		version uint16
		offers  []string
		chosen  string
	}{
		{tls.VersionTLS12, []string{"istio-peer-exchange", "istio"}, "istio"},
		{tls.VersionTLS13, []string{"istio-peer-exchange", "istio"}, "istio"},
		{tls.VersionTLS13, []string{"istio-h2", "istio", "h2"}, "h2"},
		{tls.VersionTLS13, []string{"istio-http/1.1", "istio", "http/1.1"}, "http/1.1"},
		{tls.VersionTLS13, []string{"something"}, ""},
		{tls.VersionTLS13, nil, ""},
	} {
		near, far := connected(t)
		c := tls.Client(near.TCP(), &tls.Config{
			InsecureSkipVerify: true, MaxVersion: test.version, NextProtos: test.offers,
			Certificates: []tls.Certificate{*client.Certificate},
		})
		done := make(chan error, 1)
		go func() { done <- c.Handshake() }()
		offers, ok := mtls.Offers(far)
		if !ok || strings.Join(offers, " ") != strings.Join(test.offers, " ") {
			t.Errorf("Offers = %q, %v, want %q", offers, ok, test.offers)
		}
		peer, err := server.Server(t.Context(), far, provider, mtls.Client{Offers: offers})
		if err != nil || peer.Principal != consumerID {
			t.Fatalf("%q: %+v, %v", test.offers, peer, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s := c.ConnectionState(); s.NegotiatedProtocol != test.chosen || s.Version != test.version {
			t.Errorf("%q: %q by %s, want %q by %s", test.offers, s.NegotiatedProtocol, tls.VersionName(s.Version), test.chosen, tls.VersionName(test.version))
		}
	}
}

// TestOffersInPieces: a ClientHello comes byte by byte, or ends inside.
func TestOffersInPieces(t *testing.T) {
	recorder := &recording{}
	_ = tls.Client(recorder, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"istio"}}).Handshake()
	near, far := connected(t)
	found := make(chan []string, 1)
	go func() { offers, _ := mtls.Offers(far); found <- offers }()
	for _, b := range recorder.wrote {
		if err := near.Send([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if offers := <-found; strings.Join(offers, " ") != "istio" {
		t.Errorf("offers %q, want istio", offers)
	}
	near, far = connected(t)
	if err := near.Send(recorder.wrote[:len(recorder.wrote)/2]); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	if offers, ok := mtls.Offers(far); ok {
		t.Errorf("half a ClientHello offers %q", offers)
	}
}

// recording is a connection that keeps what is written and answers nothing.
type recording struct {
	net.Conn
	wrote []byte
}

func (r *recording) Write(b []byte) (int, error) { r.wrote = append(r.wrote, b...); return len(b), nil }
func (r *recording) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recording) Close() error                { return nil }

func TestReasons(t *testing.T) {
	seen := make(map[string]bool)
	for r := range mtls.Reason(mtls.Reasons) {
		if s := r.String(); s == "unknown" || seen[s] {
			t.Errorf("reason %d is %q", r, s)
		}
		seen[r.String()] = true
		if text := (&mtls.Error{Reason: r}).Error(); strings.Contains(text, "unknown") {
			t.Errorf("reason %s reads %q", r, text)
		}
	}
	for r, want := range map[mtls.Reason]rpc.Why{
		mtls.NoIdentity: rpc.WhyNoIdentity, mtls.Plaintext: rpc.WhyPlaintext, mtls.Expired: rpc.WhyUntrusted, mtls.Handshake: rpc.WhyUntrusted,
	} {
		if got := (&mtls.Error{Reason: r}).Why(); got != want {
			t.Errorf("%s: why %d, want %d", r, got, want)
		}
	}
}
