package ratelimit_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/ratelimit"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// service is a rate limit service that does what a test says.
type service struct {
	ratelimitv3.UnimplementedRateLimitServiceServer

	addr   netip.AddrPort
	server *grpc.Server
	answer atomic.Int32 // of ratelimitv3.RateLimitResponse_Code; -1: an error; -2: never
	quiet  bool         // it does not remember what it was asked
	left   atomic.Int64 // questions whose asker left
	conns  atomic.Int64 // accepted

	mu   sync.Mutex
	said []string // what was asked
}

const (
	fails = -1
	never = -2
)

func (s *service) ShouldRateLimit(ctx context.Context, r *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	if s.quiet {
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}, nil
	}
	var text strings.Builder
	text.WriteString(r.GetDomain())
	for _, d := range r.GetDescriptors() {
		text.WriteString(" (")
		for _, e := range d.GetEntries() {
			fmt.Fprintf(&text, "%s=%s,", e.GetKey(), e.GetValue())
		}
		text.WriteString(")")
	}
	if meta, ok := metadata.FromIncomingContext(ctx); ok {
		fmt.Fprintf(&text, " at %s", strings.Join(meta.Get(":authority"), ","))
	}
	s.mu.Lock()
	s.said = append(s.said, text.String())
	s.mu.Unlock()
	switch code := s.answer.Load(); code {
	case fails:
		return nil, status.Error(codes.Internal, "redis is away")
	case never:
		<-ctx.Done()
		s.left.Add(1)
		return nil, ctx.Err()
	default:
		return &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_Code(code)}, nil
	}
}

// counting counts the connections that a listener accepts.
type counting struct {
	net.Listener

	n *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// serve starts a service at an address; ":0" is any.
func serve(tb testing.TB, address string) *service {
	tb.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	s := &service{addr: netip.MustParseAddrPort(l.Addr().String()), server: grpc.NewServer()}
	s.answer.Store(int32(ratelimitv3.RateLimitResponse_OK))
	ratelimitv3.RegisterRateLimitServiceServer(s.server, s)
	go func() { _ = s.server.Serve(counting{l, &s.conns}) }()
	tb.Cleanup(s.server.Stop)
	return s
}

// rig is a client with one cluster.
type rig struct {
	*ratelimit.Client

	t        testing.TB
	clusters *cluster.Manager
	logs     *logs
	filter   *snapshot.Global
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func newRig(tb testing.TB, endpoints ...netip.AddrPort) *rig {
	tb.Helper()
	l := &logs{}
	log := slog.New(slog.NewTextHandler(l, nil))
	r := &rig{t: tb, clusters: cluster.NewManager(log, cluster.Options{}), logs: l}
	r.filter = &snapshot.Global{Name: "f", Service: snapshot.RateService{Cluster: "outbound|8081||ratelimit.infra.svc.cluster.local"}}
	r.Client = ratelimit.New(r.clusters, log)
	tb.Cleanup(func() {
		r.Close()
		r.clusters.Close()
	})
	r.use(endpoints...)
	return r
}

// use publishes a snapshot whose service has these endpoints.
func (r *rig) use(endpoints ...netip.AddrPort) {
	c := &snapshot.Cluster{Name: r.filter.Service.Cluster, Overprovision: 140, PanicThreshold: 50, ConnectTimeout: time.Second}
	one := &snapshot.Locality{Weight: 1}
	for _, e := range endpoints {
		one.Endpoints = append(one.Endpoints, &snapshot.Endpoint{Address: e, Weight: 1, Healthy: true})
	}
	c.Localities = []*snapshot.Locality{one}
	r.keep(c, r.filter)
}

func (r *rig) keep(c *snapshot.Cluster, filters ...*snapshot.Global) {
	s := &snapshot.Snapshot{Clusters: map[string]*snapshot.Cluster{c.Name: c}, Listeners: []*snapshot.Listener{{Name: "l", Globals: filters}}}
	r.clusters.Update(s)
	r.Keep(s)
}

func (r *rig) ask(timeout time.Duration) global.Answer {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return r.Ask(ctx, &global.Question{
		Filter: r.filter, Domain: "shop", Descriptors: []rate.Descriptor{{{Key: "method", Value: "place"}}, {{Key: "a", Value: "1"}, {Key: "b"}}},
	})
}

// eventually waits for an answer.
func (r *rig) eventually(want global.Answer) {
	r.t.Helper()
	waitFor(r.t, fmt.Sprint("answer ", want), func() bool { return r.ask(time.Second) == want })
}

func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: not in time", what)
		}
	}
}

const long = 30 * time.Second

func TestAnswers(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := newRig(t, s.addr)
	for _, tt := range []struct {
		code int32
		want global.Answer
	}{
		{int32(ratelimitv3.RateLimitResponse_OK), global.WithinLimit},
		{int32(ratelimitv3.RateLimitResponse_OVER_LIMIT), global.OverLimit},
		{int32(ratelimitv3.RateLimitResponse_UNKNOWN), global.NoAnswer},
		{fails, global.NoAnswer},
		{int32(ratelimitv3.RateLimitResponse_OK), global.WithinLimit},
	} {
		s.answer.Store(tt.code)
		if got := r.ask(long); got != tt.want { // it waits for the connection too
			t.Errorf("code %d: answer %d, want %d", tt.code, got, tt.want)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const want = "shop (method=place,) (a=1,b=,) at ratelimit.infra.svc.cluster.local"
	for _, said := range s.said {
		if said != want {
			t.Errorf("the service was asked %q, want %q", said, want)
		}
	}
	if n := s.conns.Load(); n != 1 || len(s.said) != 5 {
		t.Errorf("%d questions over %d connections", len(s.said), n)
	}
}

func TestAuthority(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := newRig(t)
	r.filter.Service.Authority = "limits.example"
	r.use(s.addr)
	if got := r.ask(long); got != global.WithinLimit {
		t.Fatalf("answer %d", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.said) != 1 || !strings.HasSuffix(s.said[0], " at limits.example") {
		t.Errorf("the service was asked %q", s.said)
	}
}

// TestSlow: nobody waits longer than he wants to, and the service hears that he left.
func TestSlow(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := newRig(t, s.addr)
	r.eventually(global.WithinLimit)
	s.answer.Store(never)
	if got := r.ask(20 * time.Millisecond); got != global.NoAnswer {
		t.Errorf("answer %d", got)
	}
	waitFor(t, "the service hears of it", func() bool { return s.left.Load() == 1 })
	s.answer.Store(int32(ratelimitv3.RateLimitResponse_OVER_LIMIT))
	if got := r.ask(long); got != global.OverLimit {
		t.Errorf("the next answer is %d", got)
	}
}

// TestAway: a service that is away costs nobody time, and is asked again when it is back;
// the log says each once.
func TestAway(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := newRig(t, s.addr)
	r.eventually(global.WithinLimit)
	s.server.Stop()
	waitFor(t, "a line of the log", func() bool { return r.logs.count("cannot be reached") == 1 })
	start := time.Now()
	for range 20 {
		if got := r.ask(long); got != global.NoAnswer {
			t.Errorf("answer %d of a service that is away", got)
		}
	}
	if took := time.Since(start); took > long/2 { // each waits for no more than a connect that is refused
		t.Errorf("20 questions to a service that is away took %s", took)
	}
	serve(t, s.addr.String())
	r.eventually(global.WithinLimit)
	if n := r.logs.count("cannot be reached"); n != 1 {
		t.Errorf("%d lines of the log", n)
	}
	waitFor(t, "a line of the log", func() bool { return r.logs.count("is reached again") == 1 })
}

// refusing returns an address at which nobody listens, and that nobody else gets: another
// test's service would answer there.
func refusing(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	here := [4]byte{127, 0, 0, 1}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: here}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(here), uint16(name.(*syscall.SockaddrInet4).Port))
}

// TestEndpoints: what cannot be reached is passed over, and what is no endpoint any more
// is asked no more, without a question that gets no answer for it.
func TestEndpoints(t *testing.T) {
	first, second := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	r := newRig(t, refusing(t), first.addr)
	if got := r.ask(long); got != global.WithinLimit {
		t.Errorf("answer %d with an endpoint that is away", got)
	}
	second.answer.Store(int32(ratelimitv3.RateLimitResponse_OVER_LIMIT))
	r.use(second.addr)
	r.eventually(global.OverLimit)
	first.mu.Lock()
	defer first.mu.Unlock()
	if n := first.conns.Load(); n != 1 {
		t.Errorf("%d connections to the first", n)
	}
}

// TestConnectsAhead: before anybody asks, and again after a connection that ended.
func TestConnectsAhead(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	newRig(t, s.addr)
	waitFor(t, "a connection", func() bool { return s.conns.Load() == 1 })
	address := s.addr.String()
	s.server.Stop()
	again := serve(t, address)
	waitFor(t, "another one", func() bool { return again.conns.Load() >= 1 })
}

// TestFollowsSnapshots: without a cluster nobody is asked, with it the service is, and
// its connection goes when no filter names it.
func TestFollowsSnapshots(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := newRig(t)
	other := &snapshot.Cluster{Name: "other", Overprovision: 140, PanicThreshold: 50}
	r.keep(other, r.filter)
	if got := r.ask(long); got != global.NoAnswer {
		t.Errorf("answer %d of a cluster that is not there", got)
	}
	waitFor(t, "the log says so", func() bool { return r.logs.count("no such cluster") > 0 })
	r.use(s.addr)
	r.eventually(global.WithinLimit)
	r.keep(other)
	if got := r.ask(long); got != global.NoAnswer {
		t.Errorf("answer %d of a service that no filter names", got)
	}
	stopped := make(chan struct{})
	go func() {
		s.server.GracefulStop() // waits for connections
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(long):
		t.Error("the connection is still open")
	}
	r.Close()
	r.use(s.addr)
	if got := r.ask(long); got != global.NoAnswer {
		t.Errorf("answer %d of a closed client", got)
	}
}

// BenchmarkAsk is what a question costs that a service over loopback answers at once,
// both ends together.
func BenchmarkAsk(b *testing.B) {
	s := serve(b, "127.0.0.1:0")
	s.quiet = true
	r := newRig(b, s.addr)
	r.eventually(global.WithinLimit)
	b.ReportAllocs()
	for b.Loop() {
		if r.ask(long) != global.WithinLimit {
			b.Fatal("no answer")
		}
	}
}
