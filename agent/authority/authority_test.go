package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dubway/dubway/internal/testnet/catest"
)

const consumer = "spiffe://cluster.local/ns/shop/sa/consumer"

// rig is a client of a real authority.
type rig struct {
	*Client

	ca   *catest.CA
	stop func()
}

func newRig(t *testing.T, between bool) *rig {
	t.Helper()
	r := &rig{ca: catest.New(t, between)}
	var address string
	address, r.stop = r.ca.Listen()
	r.Client = newClient(t, r.ca, address)
	return r
}

func newClient(t *testing.T, ca *catest.CA, address string) *Client {
	t.Helper()
	c, err := New(Options{
		Address: address, ServerName: catest.ServerName, RootFile: ca.RootFile, TokenFile: ca.TokenFile,
		TrustDomain: "cluster.local", ClusterID: catest.ClusterID, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.wait = time.Millisecond
	return c
}

func question(t *testing.T) (Question, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Question{Namespace: "shop", ServiceAccount: "consumer", Request: request(t, key), Validity: time.Hour}, key
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestSign: what comes back is for the key that was sent, in the name that was put
// together here, and complete.
func TestSign(t *testing.T) {
	for name, between := range map[string]bool{"by the root": false, "by what is between": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, between)
			q, key := question(t)
			signed, err := r.Sign(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(signed.Chain[0])
			if err != nil || !key.PublicKey.Equal(leaf.PublicKey) || leaf.URIs[0].String() != consumer {
				t.Errorf("leaf %v, %v", leaf.URIs, err)
			}
			if want := map[bool]int{false: 1, true: 2}[between]; len(signed.Chain) != want || len(signed.Roots) != 1 {
				t.Errorf("%d in the chain, %d roots", len(signed.Chain), len(signed.Roots))
			}
			asked := r.ca.Asked()
			if len(asked) != 1 || asked[0].Identity != consumer || asked[0].Token != "Bearer "+catest.Token ||
				asked[0].Cluster != catest.ClusterID || asked[0].Seconds != 3600 {
				t.Errorf("asked %+v", asked)
			}
		})
	}
}

// TestAnswers: what is not what was asked for is refused, by name, and not asked for again.
func TestAnswers(t *testing.T) {
	other := catest.New(t, false)
	otherRoot, err := os.ReadFile(other.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		how  catest.How
		want string
	}{
		"a foreign trust domain": {catest.How{TrustDomain: "evil.example"}, `trust domain "evil.example", not "cluster.local"; fix: `},
		"another account":        {catest.How{Account: "/ns/shop/sa/admin"}, "of spiffe://cluster.local/ns/shop/sa/admin, not of " + consumer},
		"two identities":         {catest.How{Names: 1}, "2 identities"},
		"no identity":            {catest.How{Raw: []string{string(otherRoot), string(otherRoot)}}, "0 identities"},
		"another key":            {catest.How{OtherKey: true}, "another key"},
		"expired":                {catest.How{Begins: -2 * time.Hour, Lives: time.Hour}, "expired"},
		"not yet":                {catest.How{Begins: time.Hour}, "not yet valid"},
		"no root":                {catest.How{NoRoot: true}, "1 parts"},
		"nothing":                {catest.How{Raw: []string{}}, "0 parts"},
		"no PEM":                 {catest.How{Raw: []string{"a", "b"}}, "no certificate in PEM"},
		"a key":                  {catest.How{Raw: []string{"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", string(otherRoot)}}, "holds a PRIVATE KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.ca.Set(c.how)
			q, _ := question(t)
			if _, err := r.Sign(t.Context(), q); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
			if n := len(r.ca.Asked()); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestForeignRoot: a chain of one mesh does not stand on the root of another.
func TestForeignRoot(t *testing.T) {
	r, other := newRig(t, false), catest.New(t, false)
	_, key := question(t)
	chain, _ := r.ca.Sign(key.Public(), consumer, time.Hour)
	_, roots := other.Sign(key.Public(), consumer, time.Hour)
	for name, c := range map[string]struct {
		answer []string
		good   bool
	}{
		"its own": {slices.Concat(chain, r.roots(t)), true},
		"foreign": {append(slices.Clone(chain), roots...), false},
		"both":    {append(slices.Clone(chain), strings.Join(append(r.roots(t), roots...), "")), true},
	} {
		signed, err := accept(c.answer, consumer, &key.PublicKey)
		if (err == nil) != c.good || !c.good && !strings.Contains(err.Error(), "unknown authority") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "both" && len(signed.Roots) != 2 {
			t.Errorf("%d roots of two", len(signed.Roots))
		}
	}
}

func (r *rig) roots(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(r.ca.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	return []string{string(text)}
}

// TestTriesAgain: a pod that istiod does not know yet is asked for again.
func TestTriesAgain(t *testing.T) {
	r := newRig(t, false)
	r.ca.Set(catest.How{Refuse: codes.Unauthenticated, Times: tries - 1})
	q, _ := question(t)
	if _, err := r.Sign(t.Context(), q); err != nil {
		t.Error(err)
	}
	r.ca.Set(catest.How{Refuse: codes.Unauthenticated})
	if _, err := r.Sign(t.Context(), q); err == nil || !strings.Contains(err.Error(), "CA_TRUSTED_NODE_ACCOUNTS") {
		t.Error(err)
	}
	if n := len(r.ca.Asked()); n != 2*tries {
		t.Errorf("asked %d times, want %d", n, 2*tries)
	}
	r.ca.Set(catest.How{Refuse: codes.InvalidArgument})
	if _, err := r.Sign(t.Context(), q); err == nil || len(r.ca.Asked()) != 2*tries+1 {
		t.Errorf("%v after %d", err, len(r.ca.Asked()))
	}
	r.wait = time.Hour
	r.ca.Set(catest.How{Refuse: codes.Unavailable})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := r.Sign(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestRotation: a token and a root that change are read anew.
func TestRotation(t *testing.T) {
	r := newRig(t, false)
	q, _ := question(t)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(r.ca.TokenFile, "expired")
	if _, err := r.Sign(t.Context(), q); err == nil {
		t.Error("an expired token is believed")
	}
	write(r.ca.TokenFile, catest.Token)
	if _, err := r.Sign(t.Context(), q); err != nil {
		t.Error(err)
	}
	root := r.roots(t)[0]
	other, err := os.ReadFile(catest.New(t, false).RootFile)
	if err != nil {
		t.Fatal(err)
	}
	write(r.ca.RootFile, string(other))
	if _, err := r.Sign(t.Context(), q); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with another's root: %v", err)
	}
	write(r.ca.RootFile, string(other)+root)
	if _, err := r.Sign(t.Context(), q); err != nil {
		t.Error(err)
	}
}

// TestUnreachable: what is wrong at our side says what to do.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"nobody":     {func(o *Options) { o.Address = nobody }, "see that it runs"},
		"other name": {func(o *Options) { o.ServerName = "other" }, "not other"},
		"no root":    {func(o *Options) { o.RootFile = empty }, "holds none"},
		"no file":    {func(o *Options) { o.RootFile += ".none" }, "istio-ca-root-cert"},
		"no token":   {func(o *Options) { o.TokenFile += ".none" }, "audience istio-ca"},
		"cluster":    {func(o *Options) { o.ClusterID = "other" }, "--cluster-id"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			c.change(&r.opts)
			q, _ := question(t)
			if _, err := r.Sign(t.Context(), q); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestRequests: the proxy may say what it likes. Nobody is asked for what is no good.
func TestRequests(t *testing.T) {
	r := newRig(t, false)
	good, _ := question(t)
	_, strange, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(good.Request)
	forged[len(forged)-1] ^= 1
	for name, change := range map[string]func(*Question){
		"no request":       func(q *Question) { q.Request = []byte("hello") },
		"another key":      func(q *Question) { q.Request = request(t, strange) },
		"another curve":    func(q *Question) { q.Request = request(t, large) },
		"no proof of it":   func(q *Question) { q.Request = forged },
		"too long a life":  func(q *Question) { q.Validity = maxValidity + time.Second },
		"another's path":   func(q *Question) { q.ServiceAccount = "x/../../../ns/kube-system/sa/admin" },
		"a query":          func(q *Question) { q.ServiceAccount = "consumer?x" },
		"an escape":        func(q *Question) { q.Namespace = "sh%6Fp" },
		"an upper case":    func(q *Question) { q.Namespace = "Shop" },
		"a trailing dot":   func(q *Question) { q.Namespace = "shop." },
		"no namespace":     func(q *Question) { q.Namespace = "" },
		"a long namespace": func(q *Question) { q.Namespace = strings.Repeat("a", 254) },
	} {
		q := good
		change(&q)
		if _, err := r.Sign(t.Context(), q); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(r.ca.Asked()); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

func TestNew(t *testing.T) {
	good := Options{Address: "istiod:15012", ServerName: "a", RootFile: "b", TokenFile: "c", TrustDomain: "cluster.local", ClusterID: "d"}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"not HOST:PORT":         func(o *Options) { o.Address = "istiod" },
		"no trust domain":       func(o *Options) { o.TrustDomain = "a/b" },
		`"" is no trust domain`: func(o *Options) { o.TrustDomain = "" },
		"server name":           func(o *Options) { o.ServerName = "" },
		"root file":             func(o *Options) { o.RootFile = "" },
		"token file":            func(o *Options) { o.TokenFile = "" },
		"cluster id":            func(o *Options) { o.ClusterID = "" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
