package identity

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/testnet/catest"
)

// agent signs as dubway-agent does, or says why not.
type agent struct {
	t  *testing.T
	ca *catest.CA

	mu     sync.Mutex
	err    error
	lives  time.Duration
	asked  []handoff.Sign
	spoil  func(*handoff.SignResult)
	domain string // "": cluster.local
}

func (a *agent) Sign(ctx context.Context, s *handoff.Sign) (*handoff.SignResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a.asked = append(a.asked, *s)
	if a.err != nil {
		return nil, a.err
	}
	request, err := x509.ParseCertificateRequest(s.Request)
	if err != nil || request.CheckSignature() != nil {
		a.t.Errorf("request: %v", err)
		return nil, err
	}
	chain, roots := a.ca.Sign(request.PublicKey, ID{cmp.Or(a.domain, "cluster.local"), Account{s.Namespace, s.ServiceAccount}}.String(), a.lives)
	r := &handoff.SignResult{Chain: ders(chain), Roots: ders(roots)}
	if a.spoil != nil {
		a.spoil(r)
	}
	return r, nil
}

func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *agent) questions() []handoff.Sign {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

func (a *agent) count() int { return len(a.questions()) }

func ders(texts []string) (all [][]byte) {
	for _, text := range texts {
		block, _ := pem.Decode([]byte(text))
		all = append(all, block.Bytes)
	}
	return all
}

var consumer, provider = Account{"shop", "consumer"}, Account{"shop", "provider"}

// inTime runs a test in a time of its own, with a Holder.
func inTime(t *testing.T, between bool, test func(t *testing.T, a *agent, h *Holder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &agent{t: t, ca: catest.New(t, between), lives: 24 * time.Hour}
		h := NewHolder(a, slog.New(slog.DiscardHandler))
		defer h.Close()
		test(t, a, h)
	})
}

func must(t *testing.T, h *Holder, a Account) *Bundle {
	t.Helper()
	b, err := h.Bundle(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHolds: an account has a bundle as soon as a pod of it is there, one for all its pods,
// until the last has gone.
func TestHolds(t *testing.T) {
	inTime(t, true, func(t *testing.T, a *agent, h *Holder) {
		if _, err := h.Bundle(consumer); err == nil || !strings.Contains(err.Error(), "no pod of this node") {
			t.Error(err)
		}
		h.Put("u0", Account{"shop", ""})
		h.Put("u1", consumer)
		h.Put("u1", consumer)
		h.Put("u2", consumer)
		if _, err := h.Bundle(consumer); !errors.Is(err, ErrPending) {
			t.Error(err)
		}
		changed := h.Changed(consumer)
		synctest.Wait()
		b := must(t, h, consumer)
		if b.ID != (ID{"cluster.local", consumer}) || len(b.Certificate.Certificate) != 2 || b.Certificate.Leaf == nil ||
			b.Expires != b.Certificate.Leaf.NotAfter {
			t.Errorf("%+v", b)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		if a.count() != 1 || a.questions()[0].Seconds != 86400 {
			t.Errorf("asked %+v", a.questions())
		}
		h.Put("u1", provider) // it was replaced
		synctest.Wait()
		if must(t, h, consumer) != b {
			t.Error("another bundle")
		}
		must(t, h, provider)
		changed = h.Changed(consumer)
		h.Remove("u2")
		h.Remove("u2")
		h.Remove("nobody")
		if _, err := h.Bundle(consumer); err == nil || len(h.Status()) != 1 {
			t.Errorf("it is kept without pods: %v, %+v", err, h.Status())
		}
		<-changed
		if h.Changed(consumer) != nil {
			t.Error("it may change")
		}
		time.Sleep(48 * time.Hour)
		for _, s := range a.questions()[2:] {
			if s.ServiceAccount == "consumer" {
				t.Error("it is renewed without pods")
			}
		}
	})
}

// TestRenews: at half of its life, with another key, while the old one holds.
func TestRenews(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		h.Put("u1", consumer)
		synctest.Wait()
		first := must(t, h, consumer)
		time.Sleep(9*time.Hour + 30*time.Minute) // half, less a tenth at most
		synctest.Wait()
		if must(t, h, consumer) != first || a.count() != 1 {
			t.Errorf("renewed too early; asked %d times", a.count())
		}
		time.Sleep(2*time.Hour + 31*time.Minute)
		synctest.Wait()
		second := must(t, h, consumer)
		if second == first || a.count() != 2 || !second.Expires.After(first.Expires) {
			t.Errorf("not renewed; asked %d times", a.count())
		}
		if bytes.Equal(a.questions()[0].Request, a.questions()[1].Request) ||
			second.Certificate.PrivateKey.(*ecdsa.PrivateKey).Equal(first.Certificate.PrivateKey) {
			t.Error("the key is the same")
		}
		if n, failed := h.Renewals(); n != 2 || failed != 0 {
			t.Errorf("%d, %d failed", n, failed)
		}
	})
}

// TestTrustDomain: it is that of the bundle that came last, and stays when all have gone.
func TestTrustDomain(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		a.domain = "corp.example"
		if got := h.TrustDomain(); got != "cluster.local" {
			t.Errorf("before there is any: %q", got)
		}
		h.Put("u1", consumer)
		synctest.Wait()
		h.Remove("u1")
		if got := h.TrustDomain(); got != "corp.example" {
			t.Errorf("%q", got)
		}
	})
}

// TestSpread: accounts that came at the same moment are not renewed at the same moment.
func TestSpread(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		for name := range strings.FieldsSeq("a b c d e f g h i j") {
			h.Put(name, Account{"shop", name})
		}
		synctest.Wait()
		times := make(map[time.Duration]bool)
		start := time.Now()
		for a.count() < 20 {
			n := a.count()
			time.Sleep(time.Second)
			synctest.Wait()
			if a.count() > n {
				times[time.Since(start)] = true
			}
		}
		if len(times) < 5 {
			t.Errorf("10 accounts were renewed at %d moments", len(times))
		}
	})
}

// TestFails: what is held goes on until it expires, and is asked for meanwhile, less and
// less often.
func TestFails(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		h.Put("u1", consumer)
		synctest.Wait()
		b := must(t, h, consumer)
		a.set(func() { a.err = &handoff.SignError{Code: handoff.SignFailed, Text: "no route to istiod"} })
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if must(t, h, consumer) != b {
			t.Error("another one")
		}
		if s := h.Status()[0]; s.Err == nil || s.Bundle != b || !strings.Contains(s.Err.Error(), "no route") {
			t.Errorf("%+v", s)
		}
		if n := a.count(); n < 11*60 || n > 14*2*60 {
			t.Errorf("asked %d times in about twelve hours", n)
		}
		time.Sleep(time.Hour + time.Second)
		if _, err := h.Bundle(consumer); err == nil || !strings.Contains(err.Error(), "expired at") || !strings.Contains(err.Error(), "no route") {
			t.Error(err)
		}
		a.set(func() { a.err = nil })
		time.Sleep(latest + time.Second)
		synctest.Wait()
		if s := h.Status()[0]; s.Err != nil || must(t, h, consumer) == b {
			t.Errorf("%+v", s)
		}
	})
}

// TestFirstFails: a pod that istiod does not know yet has its identity soon after.
func TestFirstFails(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		a.err = &handoff.SignError{Code: handoff.SignFailed, Text: "request impersonation authentication failure"}
		h.Put("u1", consumer)
		synctest.Wait()
		if _, err := h.Bundle(consumer); err == nil || errors.Is(err, ErrPending) || !strings.Contains(err.Error(), "impersonation") {
			t.Error(err)
		}
		a.set(func() { a.err = nil })
		time.Sleep(soonest)
		synctest.Wait()
		must(t, h, consumer)
	})
}

// TestOff: without an authority there is nothing wrong, and one that comes is found.
func TestOff(t *testing.T) {
	inTime(t, false, func(t *testing.T, a *agent, h *Holder) {
		a.err = &handoff.SignError{Code: handoff.SignOff}
		h.Put("u1", consumer)
		time.Sleep(time.Hour)
		if _, err := h.Bundle(consumer); !errors.Is(err, ErrOff) {
			t.Error(err)
		}
		if _, failed := h.Renewals(); failed != 0 || a.count() > 61 {
			t.Errorf("%d failed, asked %d times", failed, a.count())
		}
		a.set(func() { a.err = nil })
		time.Sleep(latest + time.Second)
		must(t, h, consumer)
	})
}

// TestSpoiled: what is not for the key or the account is not held.
func TestSpoiled(t *testing.T) {
	inTime(t, true, func(t *testing.T, a *agent, h *Holder) {
		key := newKey(t)
		other, _ := a.Sign(t.Context(), &handoff.Sign{Namespace: "shop", ServiceAccount: "provider", Request: csr(t, key)})
		for name, c := range map[string]struct {
			spoil func(*handoff.SignResult)
			want  string
		}{
			"another's leaf": {func(r *handoff.SignResult) { r.Chain[0] = other.Chain[0] }, "another key"},
			"no identity":    {func(r *handoff.SignResult) { r.Chain[0] = r.Chain[1] }, "another key"},
			"garbage":        {func(r *handoff.SignResult) { r.Chain[1] = []byte{1} }, "read certificate"},
			"garbage roots":  {func(r *handoff.SignResult) { r.Roots[0] = []byte{1} }, "read root certificate"},
		} {
			a.set(func() { a.spoil = c.spoil })
			h.Put(name, consumer)
			synctest.Wait()
			if _, err := h.Bundle(consumer); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			h.Remove(name)
		}
		a.set(func() { a.spoil, a.lives = nil, -time.Minute })
		h.Put("expired", consumer)
		synctest.Wait()
		if _, err := h.Bundle(consumer); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("expired: %v", err)
		}
		a.set(func() { a.lives = time.Hour })
		signed, err := a.Sign(t.Context(), &handoff.Sign{Namespace: "shop", ServiceAccount: "provider", Request: csr(t, key)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle(signed, key, consumer); err == nil || !strings.Contains(err.Error(), "not for shop/consumer") {
			t.Errorf("another account: %v", err)
		}
	})
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func csr(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestProves: two accounts' bundles make mutual TLS, over a real connection.
func TestProves(t *testing.T) {
	a := &agent{t: t, ca: catest.New(t, true), lives: time.Hour}
	h := NewHolder(a, slog.New(slog.DiscardHandler))
	defer h.Close()
	h.Put("u1", consumer)
	h.Put("u2", provider)
	bundles := make(map[Account]*Bundle)
	for deadline := time.Now().Add(30 * time.Second); len(bundles) < 2; {
		for _, account := range []Account{consumer, provider} {
			if b, err := h.Bundle(account); err == nil {
				bundles[account] = b
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err.Error()
			return
		}
		defer c.Close()
		b := bundles[provider]
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*b.Certificate}, ClientCAs: b.Roots, ClientAuth: tls.RequireAndVerifyClientCert})
		if err := s.Handshake(); err != nil {
			served <- err.Error()
			return
		}
		served <- s.ConnectionState().PeerCertificates[0].URIs[0].String()
	}()
	b := bundles[consumer]
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{
		Certificates: []tls.Certificate{*b.Certificate}, InsecureSkipVerify: true, // a SPIFFE ID is no host name
		VerifyConnection: func(s tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, one := range s.PeerCertificates[1:] {
				between.AddCert(one)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: b.Roots, Intermediates: between})
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.ReadAll(c)
	if got := <-served; got != "spiffe://cluster.local/ns/shop/sa/consumer" {
		t.Error(got)
	}
}
