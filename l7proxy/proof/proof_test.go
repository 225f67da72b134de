package proof

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/testnet/catest"
	"github.com/dubway/dubway/l7proxy/identity"
)

var consumer = identity.Account{Namespace: "shop", Name: "consumer"}

// signer is an agent that signs, or says why not.
type signer struct {
	ca *catest.CA

	mu   sync.Mutex
	err  error
	gate chan struct{} // nil: open
}

func (s *signer) Sign(ctx context.Context, q *handoff.Sign) (*handoff.SignResult, error) {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	request, err := x509.ParseCertificateRequest(q.Request)
	if err != nil {
		return nil, err
	}
	id := identity.ID{TrustDomain: "cluster.local", Account: identity.Account{Namespace: q.Namespace, Name: q.ServiceAccount}}
	chain, roots := s.ca.Sign(request.PublicKey, id.String(), time.Hour)
	r := &handoff.SignResult{}
	for _, text := range chain {
		block, _ := pem.Decode([]byte(text))
		r.Chain = append(r.Chain, block.Bytes)
	}
	block, _ := pem.Decode([]byte(roots[0]))
	r.Roots = [][]byte{block.Bytes}
	return r, nil
}

func (s *signer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// bearer has identities.
func bearer(t *testing.T, s *signer, secured Secured) *Proof {
	t.Helper()
	p, err := New(s, secured, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestWay is the ladder: the certificate, then plaintext where the operator says so and
// the certificate was refused; and up again when it comes.
func TestWay(t *testing.T) {
	s := &signer{ca: catest.New(t, false), gate: make(chan struct{})}
	p := bearer(t, s, Secured{TLS: true, ServerName: catest.ServerName, PlainServer: "istiod:15010"})
	strict := bearer(t, s, Secured{TLS: true, ServerName: catest.ServerName})
	for _, one := range []*Proof{p, strict} {
		if one == strict {
			if _, err := one.Way(consumer); err == nil || !strings.Contains(err.Error(), "no pod of this node") {
				t.Error(err)
			}
		}
		one.Put("uid", consumer)
		if _, err := one.Way(consumer); !errors.Is(err, identity.ErrPending) {
			t.Errorf("while the first is asked for: %v", err)
		}
	}
	s.fail(&handoff.SignError{Code: handoff.SignFailed, Text: "impersonation"})
	close(s.gate)
	for _, one := range []*Proof{p, strict} {
		until(t, "refusal", func() bool { _, err := one.Bundle(consumer); return !errors.Is(err, identity.ErrPending) })
	}
	plain, err := p.Way(consumer)
	if err != nil || plain.TLS != nil || plain.Server != "istiod:15010" || plain.Over == nil {
		t.Errorf("%+v, %v", plain, err)
	}
	if list := p.List(); len(list) != 1 || list[0].ControlPlane != byPlaintext || !strings.Contains(list[0].Error, "impersonation") {
		t.Errorf("%+v", list)
	}
	if _, err := strict.Way(consumer); err == nil || !strings.Contains(err.Error(), "impersonation") {
		t.Errorf("without leave for plaintext: %v", err)
	}
	s.fail(nil)
	<-plain.Over
	way, err := p.Way(consumer)
	if err != nil || way.TLS == nil || way.Server != "" || way.Over != nil || way.TLS.ServerName != catest.ServerName {
		t.Fatalf("%+v, %v", way, err)
	}
	if proof, err := way.TLS.GetClientCertificate(nil); err != nil || proof.Leaf.URIs[0].String() != "spiffe://cluster.local/ns/shop/sa/consumer" {
		t.Errorf("%+v, %v", proof, err)
	}
	if list := p.List(); list[0].ControlPlane != byCertificate || list[0].Error != "" || list[0].Problem(time.Now()) != "" {
		t.Errorf("%+v", list)
	}
}

// TestWayByDefault: nothing is secured that nobody asked for.
func TestWayByDefault(t *testing.T) {
	p := bearer(t, &signer{err: &handoff.SignError{Code: handoff.SignOff}}, Secured{})
	p.Put("uid", consumer)
	until(t, "answer", func() bool { _, err := p.Bundle(consumer); return errors.Is(err, identity.ErrOff) })
	if way, err := p.Way(consumer); err != nil || way.TLS != nil || way.Server != "" || way.Over != nil {
		t.Errorf("%+v, %v", way, err)
	}
	if list := p.List(); list != nil {
		t.Errorf("%+v: without an authority there is nothing to tell", list)
	}
	p.Remove("uid")
	p.ways.Range(func(key, way any) bool { t.Errorf("%v by %v is kept", key, way); return true })
}

// TestRootFile: whom the control plane is believed by may differ from whom the mesh trusts.
func TestRootFile(t *testing.T) {
	s := &signer{ca: catest.New(t, false)}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "", s.ca.RootFile: "", empty: "holds none", empty + ".none": "no such file"} {
		p := bearer(t, s, Secured{TLS: true, RootFile: file})
		p.Put("uid", consumer)
		until(t, "certificate", func() bool { _, err := p.Bundle(consumer); return err == nil })
		if _, err := p.Way(consumer); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestSecuredCheck(t *testing.T) {
	for _, c := range []struct {
		secured Secured
		want    string
	}{
		{Secured{}, ""},
		{Secured{TLS: true}, ""},
		{Secured{TLS: true, PlainServer: "istiod:15010"}, ""},
		{Secured{TLS: true, PlainServer: "istiod"}, "not HOST:PORT"},
		{Secured{PlainServer: "istiod:15010"}, "goes with --xds-tls"},
	} {
		if _, err := New(nil, c.secured, slog.New(slog.DiscardHandler)); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.secured, err)
		}
	}
}
