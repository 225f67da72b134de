package downstream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// web is the account of every rig's pod.
var web = identity.Account{Namespace: "shop", Name: "web"}

const webID = "spiffe://cluster.local/ns/shop/sa/web"

// hop is a provider behind a proxy of its own, which ends the mesh's TLS.
type hop struct {
	*rig

	app *provider
	ca  *identitytest.Authority
}

// newHop returns a provider whose port takes what mutual says.
func newHop(t *testing.T, mutual *mutual.Port, known *snapshot.Listener) *hop {
	t.Helper()
	h := &hop{app: newProvider(t), ca: identitytest.New(t)}
	h.rig = newRig(t, h.app.addr)
	h.in.Store(true)
	h.dst.Store(&h.app.addr)
	h.ids.Put(h.ca.Issue(web, time.Now().Add(time.Hour)))
	h.snap.Store((&snapshot.Snapshot{Inbounds: []*snapshot.Inbound{{
		Workload: "shop/consumer", Known: known, Plain: &snapshot.Listener{}, TLS: &snapshot.Listener{}, Mutual: mutual,
	}}}).Seal())
	return h
}

// consumer returns the proxy of a consumer of the hop, who finds the provider by name.
func (h *hop) consumer(t *testing.T, name mutual.Names) *rig {
	t.Helper()
	r := newRig(t)
	r.ids.Put(h.ca.Issue(web, time.Now().Add(time.Hour)))
	r.configureWith(func(s *snapshot.Snapshot) {
		c := s.Clusters["c"]
		c.Sockets = []mutual.Socket{{
			Match: snapshot.Metadata{"tlsMode": "istio"}, TLS: mutual.TLS{On: true, SNI: "outbound_.1_._.c", Names: name},
		}}
		for _, e := range c.Localities[0].Endpoints {
			e.Socket = snapshot.Metadata{"tlsMode": "istio"}
		}
	}, addrPortOf(h.ln))
	return r
}

// permissive and strict are ports as istiod makes them.
func permissive() *mutual.Port {
	return &mutual.Port{Offers: []string{"istio", "istio-peer-exchange"}, Names: "spiffe://cluster.local/*"}
}

func strict() *mutual.Port {
	return &mutual.Port{Names: "spiffe://cluster.local/*", Strict: true}
}

// only lets one principal in.
func only(principal string) *snapshot.Listener {
	return &snapshot.Listener{Name: "in", RouteName: "r", RBAC: []*snapshot.RBAC{{Name: "only", Rules: &snapshot.Rules{
		Policies: []snapshot.RBACPolicy{{
			Name: "one", Permission: snapshot.Term{Kind: snapshot.TermAny},
			Principal: snapshot.Term{Kind: snapshot.TermPrincipal, Header: &snapshot.HeaderMatch{Value: principal}},
		}},
	}}}}
}

// secured checks what telemetry was told of the last request.
func (r *rig) secured(t *testing.T, want rpc.Security, source, destination string) {
	t.Helper()
	r.rec.mu.Lock()
	defer r.rec.mu.Unlock()
	if c := &r.rec.last; c.Security != want || c.SourcePrincipal != source || c.DestinationPrincipal != destination {
		t.Errorf("%s from %q to %q, want %s from %q to %q", c.Security, c.SourcePrincipal, c.DestinationPrincipal, want, source, destination)
	}
}

// TestMutual: calls of every size pass two proxies by mutual TLS; both know who calls.
func TestMutual(t *testing.T) {
	for name, mutual := range map[string]*mutual.Port{"permissive": permissive(), "strict": strict()} {
		t.Run(name, func(t *testing.T) {
			h := newHop(t, mutual, only(webID))
			r := h.consumer(t, webID)
			converse(t, r.dial(), exchangeOf{n: 300, inFlight: 32, sizes: []int{0, 100, 3000, 20_000, 400 << 10}})
			r.expect(rpc.ResultValue, rpc.WhyNone, 300)
			h.expect(rpc.ResultValue, rpc.WhyNone, 300)
			r.secured(t, rpc.SecurityMutual, webID, webID)
			h.secured(t, rpc.SecurityMutual, webID, webID)
			if n := h.env.Ends.Stats().Handshakes[mtls.ServerSide].Load(); n == 0 || r.env.Ends.Stats().Handshakes[mtls.ClientSide].Load() != n {
				t.Errorf("%d handshakes of the server, another number of the client", n)
			}
		})
	}
}

// TestMutualDenied: a policy on principals is held against the certificate's.
func TestMutualDenied(t *testing.T) {
	h := newHop(t, strict(), only("spiffe://cluster.local/ns/shop/sa/other"))
	r := h.consumer(t, webID)
	if got := calls(t, r.dial(), 3, "org.x.S", "echo"); got[dubbo.StatusOK] != 3 { // an exception
		t.Errorf("answers %v", got)
	}
	h.expect(rpc.ResultLocal, rpc.WhyDenied, 3)
	saw(t, "the application", h.app, 0)
}

// TestMutualRefused: who cannot agree on TLS says why, and sends nothing in plaintext.
func TestMutualRefused(t *testing.T) {
	tests := []struct {
		name string
		set  func(h *hop, r *rig)
		want rpc.Why
	}{
		{"no identity", func(_ *hop, r *rig) { r.ids.Forget() }, rpc.WhyNoIdentity},
		{"another provider", func(h *hop, _ *rig) {
			h.ids.Put(h.ca.IssueNames(identity.ID{Account: web}, time.Now().Add(time.Hour), webID+"x"))
		}, rpc.WhyUntrusted},
		{"another mesh", func(h *hop, _ *rig) {
			h.ids.Put(identitytest.New(h.t).Issue(web, time.Now().Add(time.Hour)))
		}, rpc.WhyUntrusted},
		{"the provider has none", func(h *hop, _ *rig) { h.ids.Forget() }, rpc.WhyUntrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHop(t, permissive(), &snapshot.Listener{})
			r := h.consumer(t, webID)
			test.set(h, r)
			if got := calls(t, r.dial(), 2, "org.x.S", "echo"); got[dubbo.StatusServerError] != 2 {
				t.Errorf("answers %v, want two refusals", got)
			}
			r.expect(rpc.ResultLocal, test.want, 2)
			saw(t, "the application", h.app, 0)
		})
	}
}

// TestNoIdentityBlamesNobody: a consumer without a certificate does not have its endpoints
// left alone, which others call too, and calls again as soon as it has one.
func TestNoIdentityBlamesNobody(t *testing.T) {
	h := newHop(t, permissive(), &snapshot.Listener{})
	r := h.consumer(t, webID)
	r.ids.Forget()
	c := r.dial()
	if got := calls(t, c, 20, "org.x.S", "echo"); got[dubbo.StatusServerError] != 20 {
		t.Errorf("answers %v, want refusals", got)
	}
	r.expect(rpc.ResultLocal, rpc.WhyNoIdentity, 20)
	if e := r.mgr.Of(r.snap.Load().Clusters["c"]).At(addrPortOf(h.ln), nil); e == nil || e.Failures() != 0 {
		t.Errorf("the endpoint is avoided: %+v", e)
	}
	if got := r.env.Ends.Problems(); len(got) != 1 || !strings.Contains(got[0], "mutual TLS of shop/web is refused") || !strings.Contains(got[0], "--ca-address") {
		t.Errorf("problems %q", got)
	}
	r.ids.Put(h.ca.Issue(web, time.Now().Add(time.Hour)))
	if got := calls(t, c, 3, "org.x.S", "echo"); got[dubbo.StatusOK] != 3 {
		t.Errorf("answers %v, want calls", got)
	}
	if got := r.env.Ends.Problems(); len(got) > 0 {
		t.Errorf("problems %q", got)
	}
}

// TestPlainNeedsNoIdentity: without a certificate at the provider, the mesh's TLS is refused
// at a port that takes both, and plaintext passes as before.
func TestPlainNeedsNoIdentity(t *testing.T) {
	h := newHop(t, permissive(), &snapshot.Listener{})
	h.ids.Forget()
	converse(t, h.dial(), exchangeOf{n: 20, inFlight: 4, sizes: []int{100}})
	h.expect(rpc.ResultValue, rpc.WhyNone, 20)
	if err := h.mesh(t, webID).Handshake(); err == nil {
		t.Error("TLS is agreed without a certificate")
	}
	waitFor(t, "the record", func() bool {
		h.rec.mu.Lock()
		defer h.rec.mu.Unlock()
		return len(h.rec.conns) == 1 && h.rec.conns[0].Why == rpc.WhyNoIdentity
	})
	if n := h.env.Ends.Stats().Refused[mtls.ServerSide][mtls.NoIdentity].Load(); n != 1 || len(h.env.Ends.Problems()) != 1 {
		t.Errorf("counted %d times, problems %q", n, h.env.Ends.Problems())
	}
}

// TestStrictPlaintext: a port that takes mutual TLS alone closes what is not, whatever it
// speaks, and counts it; a port that takes both takes both.
func TestStrictPlaintext(t *testing.T) {
	for _, first := range []string{string(request(1, twoWay, nil)), "GET / HTTP/1.1\r\n\r\n", "hello, is anybody in?"} {
		h := newHop(t, strict(), &snapshot.Listener{})
		c := h.dial()
		_, _ = c.Write([]byte(first))
		if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: read %q, %v, want a reset", first, b, err)
		}
		waitFor(t, "the record", func() bool {
			h.rec.mu.Lock()
			defer h.rec.mu.Unlock()
			return len(h.rec.conns) == 1 && h.rec.conns[0].Why == rpc.WhyPlaintext
		})
		if n := h.env.Ends.Stats().Refused[mtls.ServerSide][mtls.Plaintext].Load(); n != 1 {
			t.Errorf("%q: counted %d times", first, n)
		}
		saw(t, "the application", h.app, 0)
	}
	h := newHop(t, permissive(), &snapshot.Listener{})
	converse(t, h.dial(), exchangeOf{n: 20, inFlight: 4, sizes: []int{100}})
	h.expect(rpc.ResultValue, rpc.WhyNone, 20)
	h.secured(t, rpc.SecurityNone, "", "")
}

// TestStrangersTLS: the application's own TLS passes a port that takes both, unread; where
// all TLS is the mesh's, a client without a certificate is refused.
func TestStrangersTLS(t *testing.T) {
	ca := identitytest.New(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*ca.Issue(web, time.Now().Add(time.Hour)).Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.WriteString(c, "from the application"); _ = c.Close() }()
		}
	}()
	for mutual, want := range map[*mutual.Port]string{permissive(): "from the application", strict(): ""} {
		h := newHop(t, mutual, &snapshot.Listener{})
		at := addrPortOf(l)
		h.dst.Store(&at)
		c := tls.Client(h.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"my-own"}})
		b, _ := io.ReadAll(c)
		if string(b) != want {
			t.Errorf("strict %v: read %q, want %q", mutual.Strict, b, want)
		}
		refused := &h.env.Ends.Stats().Refused[mtls.ServerSide][mtls.NoCertificate]
		if mutual.Strict {
			waitFor(t, "the client without a certificate", func() bool { return refused.Load() == 1 })
		} else if n := refused.Load(); n > 0 {
			t.Errorf("%d clients without a certificate at a port that takes all", n)
		}
	}
}

// TestMutualOpaque: what is no Dubbo inside the TLS is relayed, each end with its own.
func TestMutualOpaque(t *testing.T) {
	h := newHop(t, strict(), &snapshot.Listener{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}()
	at := addrPortOf(l)
	h.dst.Store(&at)
	r := h.consumer(t, webID)
	c := r.dial()
	text := "GET / HTTP/1.1\r\n\r\n" + strings.Repeat("0123456789", 50_000)
	go func() {
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if b, err := io.ReadAll(c); string(b) != text || err != nil {
		t.Errorf("%d bytes came back, %v; want %d", len(b), err, len(text))
	}
	for _, side := range []*rig{r, h.rig} {
		waitFor(t, "the record", func() bool {
			side.rec.mu.Lock()
			defer side.rec.mu.Unlock()
			for _, rec := range side.rec.conns {
				if rec.Closed && rec.Call.Security == rpc.SecurityMutual && rec.Call.SourcePrincipal == webID && rec.Call.DestinationPrincipal == webID {
					return true
				}
			}
			return false
		})
	}
}

// TestRotation: certificates are renewed on both sides, and connections made anew, under
// load: no call fails.
func TestRotation(t *testing.T) {
	const consumers, each = 6, 400
	h := newHop(t, strict(), only(webID))
	r := h.consumer(t, webID)
	done := make(chan struct{})
	var rotating sync.WaitGroup
	rotating.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				if n < 3 {
					t.Errorf("only %d renewals", n)
				}
				return
			case <-time.After(10 * time.Millisecond):
			}
			h.ids.Put(h.ca.Issue(web, time.Now().Add(time.Hour)))
			r.ids.Put(h.ca.Issue(web, time.Now().Add(time.Hour)))
			r.env.Pool.Rotate(func(upstream.Key) bool { return true })
		}
	})
	var calling sync.WaitGroup
	for i := range consumers {
		calling.Go(func() {
			converse(t, r.dial(), exchangeOf{seed: uint64(i), n: each, inFlight: 8, sizes: []int{0, 100, 5000, 100 << 10}})
		})
	}
	calling.Wait()
	close(done)
	rotating.Wait()
	r.expect(rpc.ResultValue, rpc.WhyNone, consumers*each)
	if n := r.env.Ends.Stats().Handshakes[mtls.ClientSide].Load(); n < 3 {
		t.Errorf("%d connections, want one for each renewal at least", n)
	}
}

// TestMutualServerFirst: an application that speaks first does so inside the TLS too.
func TestMutualServerFirst(t *testing.T) {
	h := newHop(t, strict(), &snapshot.Listener{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, "220 ready\r\n")
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	at := addrPortOf(l)
	h.dst.Store(&at)
	c := h.mesh(t, webID)
	b := make([]byte, 11)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 ready\r\n" {
		t.Fatalf("read %q, %v", b, err)
	}
	_, _ = io.WriteString(c, "HELO\r\n")
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "HELO\r\n" {
		t.Errorf("read %q, %v", rest, err)
	}
}

// mesh is a connection of a sidecar to the hop, as who has a name.
func (h *hop) mesh(t *testing.T, name string) *tls.Conn {
	t.Helper()
	b := h.ca.IssueNames(identity.ID{Account: web}, time.Now().Add(time.Hour), name)
	return tls.Client(h.dial(), &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"istio-peer-exchange", "istio"}, Certificates: []tls.Certificate{*b.Certificate},
	})
}

// TestMutualInside: whatever is inside the mesh's TLS, TLS too, is held against what is for
// consumers whom mutual TLS vouches for.
func TestMutualInside(t *testing.T) {
	nobody := &snapshot.Gate{RBAC: []*snapshot.RBAC{{Name: "nobody", Rules: &snapshot.Rules{}}}}
	for _, first := range []string{"hello, is anybody in?", "\x16\x03\x01\x00\x05\x01hey"} {
		h := newHop(t, permissive(), &snapshot.Listener{TCPGate: nobody})
		c := h.mesh(t, webID)
		_, _ = io.WriteString(c, first)
		if b, err := io.ReadAll(c); len(b) > 0 || err == nil {
			t.Errorf("%q: read %q, %v, want a reset", first, b, err)
		}
		waitFor(t, "the record", func() bool {
			h.rec.mu.Lock()
			defer h.rec.mu.Unlock()
			return len(h.rec.conns) == 1 && h.rec.conns[0].Why == rpc.WhyDenied && h.rec.conns[0].Call.SourcePrincipal == webID
		})
	}
}
