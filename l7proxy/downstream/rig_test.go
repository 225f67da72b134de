package downstream

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/codec/thrift"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/mirror"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/mtls"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/relay"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// vip is what the test's consumers dial.
var vip = netip.MustParseAddrPort("198.51.100.1:20880")

// rig is the proxy's inside without eBPF and agent: consumers and providers are
// real connections over loopback, whose original destination the test gives.
type rig struct {
	t   *testing.T
	env *Env
	rec *recorder
	pod *workload.Workload
	// quota is every connection's.
	quota     atomic.Pointer[quota.Workload]
	ln        net.Listener
	snap      atomic.Pointer[snapshot.Snapshot]
	mgr       *cluster.Manager
	dst       atomic.Pointer[netip.AddrPort]
	in        atomic.Bool
	held      atomic.Pointer[chan struct{}] // dials wait for it
	endpoints []netip.AddrPort              // that were configured last
	ids       *identitytest.Source
	// live is what can be ticked.
	mu   sync.Mutex
	live []Live
}

func (r *rig) started(l Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = append(r.live, l)
}

// recorder counts records by result and why.
type recorder struct {
	mu      sync.Mutex
	results [rpc.Results]int
	whys    [rpc.Whys]int
	delayed int           // records of delayed requests
	spent   time.Duration // the longest overhead
	conns   []rpc.Connection
	calls   map[string]int
	last    rpc.Call
}

func (r *recorder) Prepare(c *rpc.Call) rpc.Observer { return observer{r, c} }

func (r *recorder) Value(_ *rpc.Peer, _, value string) string { return value }

func (r *recorder) Connection(c *rpc.Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, *c)
}

type observer struct {
	r *recorder
	c *rpc.Call
}

func (o observer) Observe(rec *rpc.Record) {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	o.r.results[rec.Result]++
	o.r.whys[rec.Why]++
	if rec.Delayed {
		o.r.delayed++
	}
	o.r.spent = max(o.r.spent, rec.Overhead)
	o.r.calls[rec.Call.Endpoint.String()]++
	o.r.last = *rec.Call
}

// netDialer dials as the proxy would through the agent.
type netDialer struct {
	held *atomic.Pointer[chan struct{}]
}

func (d netDialer) Dial(ctx context.Context, key upstream.Key, _ netip.AddrPort) (upstream.Way, error) {
	if held := d.held.Load(); held != nil {
		<-*held
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", key.Endpoint.String())
	if err != nil {
		return upstream.Way{}, fmt.Errorf("dial: %w", err)
	}
	return upstream.Way{TCP: c.(*net.TCPConn)}, nil
}

// accountOf tells which account a pod runs as.
func accountOf(pods *workload.Registry) func(uid string) identity.Account {
	return func(uid string) identity.Account {
		if w := pods.ByUID(uid); w != nil {
			return w.Account()
		}
		return identity.Account{}
	}
}

func newRig(t *testing.T, endpoints ...netip.AddrPort) *rig {
	t.Helper()
	r := &rig{t: t, rec: &recorder{calls: make(map[string]int)}, ids: new(identitytest.Source)}
	r.dst.Store(&vip)
	log := slog.New(slog.DiscardHandler)
	r.mgr = cluster.NewManager(log, cluster.Options{})
	ends, pods := mtls.New(r.ids, log), workload.NewRegistry()
	dialer := &mtls.Dialer{Dialer: netDialer{&r.held}, Ends: ends, Account: accountOf(pods)}
	pool := upstream.NewPool(dialer, upstream.Limits{MaxFrame: 16 << 20})
	r.env = &Env{
		Env: relay.Env{
			Env: plan.Env{
				View: func(string) func() *snapshot.Snapshot { return r.snap.Load }, Clusters: r.mgr, Pool: pool, Recorder: r.rec,
				Workloads: pods, Stale: &stale.List{}, Inverted: &inverted.List{}, Breakers: &breaker.Breakers{},
				Policies: new(filter.Policies), Modes: new(mode.Table),
				Identities: r.ids,
			},
			Dialer: dialer, Logger: log,
		},
		Protocols: codec.Set{seam.Protocol(), thrift.Protocol()}, Mirror: &mirror.Mirror{}, MaxFrame: 16 << 20,
		Ends: ends,
	}
	r.pod = workload.New(handoff.Workload{UID: "shop/consumer", Name: "consumer", Namespace: "shop", ServiceAccount: "web"})
	pods.Put(r.pod)
	r.configure(endpoints...)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.ln = ln
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s, err := sock.New(c.(*net.TCPConn))
			if err != nil {
				return
			}
			mine := r.quota.Load()
			s.Limit(mine)
			serving.Go(func() {
				from := plan.Source{Workload: r.pod, Quota: mine, Inbound: r.in.Load(), Original: *r.dst.Load(), Remote: s.Remote()}
				Serve(r.env, &Accepted{Conn: s, Source: from}, r.started)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
		pool.Close()
		r.mgr.Close()
	})
	return r
}

// failing, throwing, dropping and silent are what a provider does instead of answering.
func failing(status byte) func(*provider) {
	return func(p *provider) {
		p.fail = func(_ net.Conn, w *bufio.Writer, h codec.Header) {
			_, _ = w.Write(dubbo.AppendError(nil, h, status, "as it is told"))
		}
	}
}

func throwing(class string) func(*provider) {
	return func(p *provider) {
		p.fail = func(_ net.Conn, w *bufio.Writer, h codec.Header) {
			body := "\x90C" + string(rune(len(class))) + class + "\x91\x07message\x60\x04busy"
			f := []byte{0xda, 0xbb, 2, dubbo.StatusOK}
			f = binary.BigEndian.AppendUint64(f, h.ID)
			_, _ = w.Write(append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...))
		}
	}
}

func dropping(p *provider) {
	p.fail = func(c net.Conn, _ *bufio.Writer, _ codec.Header) { _ = c.Close() }
}

func silent(p *provider) { p.fail = func(net.Conn, *bufio.Writer, codec.Header) {} }

// holdDials makes connections to providers wait until the channel is closed.
func holdDials(r *rig) chan struct{} {
	held := make(chan struct{})
	r.held.Store(&held)
	return held
}

// configure publishes a snapshot with one route to one cluster of endpoints.
func (r *rig) configure(endpoints ...netip.AddrPort) {
	r.configureWith(func(*snapshot.Snapshot) {}, endpoints...)
}

// change publishes what was configured last, changed.
func (r *rig) change(f func(*snapshot.Snapshot)) { r.configureWith(f, r.endpoints...) }

// configureWith lets it be changed before.
func (r *rig) configureWith(change func(*snapshot.Snapshot), endpoints ...netip.AddrPort) {
	r.endpoints = endpoints
	loc := &snapshot.Locality{Weight: 1}
	for _, e := range endpoints {
		loc.Endpoints = append(loc.Endpoints, &snapshot.Endpoint{Address: e, Weight: 1, Healthy: true})
	}
	route := &snapshot.RouteConfig{Name: "r", Static: true, VirtualHosts: []*snapshot.VirtualHost{{
		Name: "v", Domains: []string{"*"}, Routes: []*snapshot.Route{{
			Name: "all", Match: snapshot.Match{Path: "/", Fraction: 1_000_000},
			Action: snapshot.Action{Clusters: []snapshot.WeightedCluster{{Cluster: "c", Weight: 1}}, Total: 1},
		}},
	}}}
	s := &snapshot.Snapshot{
		Generation: 1,
		Listeners: []*snapshot.Listener{{
			Name: "l", Prefix: netip.PrefixFrom(vip.Addr(), 32), Port: vip.Port(), RouteName: "r", Route: route,
			TCP: []snapshot.WeightedCluster{{Cluster: "c", Weight: 1}},
		}},
		Routes: map[string]*snapshot.RouteConfig{"r": route},
		Clusters: map[string]*snapshot.Cluster{"c": {
			Name: "c", Overprovision: 140, PanicThreshold: 50, Localities: []*snapshot.Locality{loc},
		}},
	}
	change(s)
	s = s.Seal()
	r.mgr.Update(s)
	r.snap.Store(s)
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.ln.Addr().String(), 30*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

// provider answers each request with its own bytes after the answer's type.
type provider struct {
	ln       net.Listener
	addr     netip.AddrPort
	port     int // a socket that has the port of a killed one
	mu       sync.Mutex
	conns    []net.Conn
	killed   bool
	accepted atomic.Int64
	requests atomic.Int64
	mute     atomic.Bool                   // take requests, answer none
	delay    atomic.Int64                  // before each answer, in nanoseconds
	gate     atomic.Pointer[chan struct{}] // answers wait for it
	unknown  atomic.Bool                   // of the interface: answer as Java does
	failures atomic.Int64                  // how many requests fail from here on
	fail     func(c net.Conn, w *bufio.Writer, h codec.Header)
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{ln: ln, addr: sock.AddrPort(ln.Addr())}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			p.mu.Lock()
			if p.killed {
				_ = c.Close()
			}
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			go p.serve(c)
		}
	}()
	t.Cleanup(func() {
		p.kill()
		_ = syscall.Close(p.port)
	})
	return p
}

// kill closes the listener and every connection. Its port stays taken: another test's
// listener must not get it, and answer in its stead.
func (p *provider) kill() {
	if p.ln.Close() == nil {
		p.port, _ = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		_ = syscall.SetsockoptInt(p.port, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		_ = syscall.Bind(p.port, &syscall.SockaddrInet4{Addr: p.addr.Addr().As4(), Port: int(p.addr.Port())})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	for _, c := range p.conns {
		_ = c.Close()
	}
}

func (p *provider) serve(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	w := bufio.NewWriterSize(c, 64<<10)
	for {
		if !holdsFrame(r) {
			_ = w.Flush()
		}
		f, err := readFrame(r)
		if err != nil {
			_ = c.Close()
			return
		}
		h, _ := dubbo.ParseHeader(f)
		if h.Event() {
			continue
		}
		p.requests.Add(1)
		if p.fail != nil && p.failures.Add(-1) >= 0 {
			p.fail(c, w, h)
			_ = w.Flush()
			continue
		}
		if !h.TwoWay() || p.mute.Load() {
			continue
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if gate := p.gate.Load(); gate != nil {
			<-*gate
		}
		if p.unknown.Load() {
			_, _ = w.Write(dubbo.AppendError(nil, h, dubbo.StatusBadRequest, notKnown))
			_ = w.Flush()
			continue
		}
		f[2], f[3] = 2, dubbo.StatusOK
		binary.BigEndian.PutUint32(f[12:], uint32(len(f)-dubbo.HeaderLen+1))
		_, _ = w.Write(f[:dubbo.HeaderLen])
		_ = w.WriteByte(0x94)
		_, _ = w.Write(f[dubbo.HeaderLen:])
	}
}

// holdsFrame tells whether a whole frame can be read without waiting.
func holdsFrame(r *bufio.Reader) bool {
	head, err := r.Peek(min(r.Buffered(), dubbo.HeaderLen))
	return err == nil && len(head) == dubbo.HeaderLen &&
		r.Buffered() >= dubbo.HeaderLen+int(binary.BigEndian.Uint32(head[12:]))
}

func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, dubbo.HeaderLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[12:]))
	_, err := io.ReadFull(r, body)
	return slices.Concat(head, body), err
}

// request builds a two-way hessian2 request whose argument is payload.
func request(id uint64, flags byte, payload []byte) []byte {
	f := []byte{0xda, 0xbb, flags, 0}
	f = binary.BigEndian.AppendUint64(f, id)
	body := []byte("\x052.0.2\x07org.x.S\x050.0.0\x04echo\x12Ljava/lang/String;")
	f = binary.BigEndian.AppendUint32(f, uint32(len(body)+len(payload)))
	return append(append(f, body...), payload...)
}

func addrPortOf(ln net.Listener) netip.AddrPort { return sock.AddrPort(ln.Addr()) }
