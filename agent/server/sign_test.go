package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/testnet/catest"
)

// TestSigns: over the real socket, from a real authority, for accounts of enrolled pods,
// of those that were and still run, and no others.
func TestSigns(t *testing.T) {
	ca := catest.New(t, false)
	address, _ := ca.Listen()
	client, err := authority.New(authority.Options{
		Address: address, ServerName: catest.ServerName, RootFile: ca.RootFile, TokenFile: ca.TokenFile,
		TrustDomain: "mesh.example", ClusterID: catest.ClusterID, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, os.Getuid(), func(o *office) {
		o.server.Desk = authority.NewDesk(client, o.pods.Runs, slog.New(slog.DiscardHandler))
	})
	ns := netnstest.New(t)
	pod := describe("a", ns, "10.97.0.1")
	pod.ServiceAccount, pod.Netns = "consumer", ns.Link()
	nameless := describe("b", netnstest.New(t), "10.97.0.2")
	o.apply(pod, nameless)
	p := newProxy()
	proxy, _ := connect(t, o.path, p)
	for range 3 {
		<-p.log
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(namespace, account string) (*handoff.SignResult, error) {
		return proxy.Sign(t.Context(), &handoff.Sign{Namespace: namespace, ServiceAccount: account, Request: request, Seconds: 3600})
	}
	signed, err := ask("shop", "consumer")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(signed.Chain[0])
	if err != nil || leaf.URIs[0].String() != "spiffe://mesh.example/ns/shop/sa/consumer" || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("%v, %v", leaf.URIs, err)
	}
	denied := func(namespace, account string) {
		t.Helper()
		var refused *handoff.SignError
		if _, err := ask(namespace, account); !errors.As(err, &refused) || refused.Code != handoff.SignDenied {
			t.Errorf("%s/%s: %v", namespace, account, err)
		}
	}
	denied("shop", "provider")
	denied("bank", "consumer")
	denied("mesh-system", "dubway-agent")
	o.apply(nameless)
	p.expect(t, "shop/a gone")
	if _, err := ask("shop", "consumer"); err != nil {
		t.Error("for the connections of a pod that left, and runs: ", err)
	}
	if err := os.Remove(pod.Netns); err != nil {
		t.Fatal(err)
	}
	o.apply(nameless)
	denied("shop", "consumer") // it has ended
	if n := len(ca.Asked()); n != 2 {
		t.Errorf("the authority was asked %d times", n)
	}
}

// hangs is an authority that does not answer.
type hangs struct{ asked chan struct{} }

func (h hangs) Sign(ctx context.Context, _ authority.Question) (*authority.Signed, error) {
	h.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestSignHoldsNothingUp: an authority that does not answer holds neither other messages
// up nor the session's end.
func TestSignHoldsNothingUp(t *testing.T) {
	signer := hangs{make(chan struct{}, 10)}
	o := open(t, os.Getuid(), func(o *office) {
		o.server.Desk = authority.NewDesk(signer, func(string, string) bool { return true }, slog.New(slog.DiscardHandler))
	})
	p := newProxy()
	proxy, _ := connect(t, o.path, p)
	p.expect(t, "end")
	done := make(chan error, 1)
	go func() {
		_, err := proxy.Sign(t.Context(), &handoff.Sign{Namespace: "shop", ServiceAccount: "consumer", Request: []byte{1}})
		done <- err
	}()
	<-signer.asked
	if err := proxy.Destinations(t.Context(), 1, handoff.DestinationTable{}); err != nil {
		t.Error(err)
	}
	next := newProxy()
	connect(t, o.path, next)
	next.expect(t, "end")
	if err := <-done; !errors.Is(err, handoff.ErrNotConnected) {
		t.Error(err)
	}
}
