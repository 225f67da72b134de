package downstream

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The services of the tests: each provider's address is an endpoint of one.
const (
	orders   = "shop.orders"
	stock    = "shop.stock"
	metadata = "org.apache.dubbo.metadata.MetadataService"
	notKnown = "Fail to decode request due to: RpcInvocation [methodName=echo, parameterTypes=null]"
)

// world is a snapshot in the making.
type world struct {
	listeners []*snapshot.Listener
	hosts     []*snapshot.VirtualHost
	clusters  map[string]*snapshot.Cluster
}

func newWorld() *world { return &world{clusters: map[string]*snapshot.Cluster{}} }

// listen adds a listener; all have the same routes.
func (w *world) listen(prefix string, port uint16) *world {
	w.listeners = append(w.listeners, &snapshot.Listener{
		Name: prefix, Prefix: netip.MustParsePrefix(prefix), Port: port, RouteName: "r",
	})
	return w
}

// host adds a virtual host that leads to clusters, equally.
func (w *world) host(domain string, clusters ...string) *world {
	r := &snapshot.Route{Name: domain, Match: snapshot.Match{Path: "/", Fraction: 1_000_000}}
	for _, c := range clusters {
		r.Action.Clusters = append(r.Action.Clusters, snapshot.WeightedCluster{Cluster: c, Weight: 1})
		r.Action.Total++
	}
	w.hosts = append(w.hosts, &snapshot.VirtualHost{Name: domain, Domains: []string{domain}, Routes: []*snapshot.Route{r}})
	return w
}

func (w *world) cluster(name string, b snapshot.Balancing, endpoints ...netip.AddrPort) *world {
	l := &snapshot.Locality{Weight: 1}
	for _, e := range endpoints {
		l.Endpoints = append(l.Endpoints, &snapshot.Endpoint{Address: e, Weight: 1, Healthy: true})
	}
	w.clusters[name] = &snapshot.Cluster{
		Name: name, Overprovision: 140, PanicThreshold: 50, Balancing: b, Localities: []*snapshot.Locality{l},
		Service: snapshot.Service{Host: name, Name: name},
	}
	return w
}

// put publishes the world.
func (r *rig) put(w *world) {
	rc := &snapshot.RouteConfig{Name: "r", Static: true, VirtualHosts: w.hosts}
	for _, l := range w.listeners {
		l.Route = rc
	}
	s := (&snapshot.Snapshot{
		Generation: 2, Listeners: w.listeners, Routes: map[string]*snapshot.RouteConfig{"r": rc}, Clusters: w.clusters,
	}).Seal()
	r.mgr.Update(s)
	r.snap.Store(s)
}

// to makes a connection whose consumer dialled dst.
func (r *rig) to(dst netip.AddrPort) net.Conn {
	r.dst.Store(&dst)
	c := r.dial()
	// The listener takes the destination when it accepts: a heartbeat's answer says
	// that it has.
	_, _ = c.Write(dubbo.AppendHeartbeat(nil, 1))
	if _, err := readFrame(c); err != nil {
		r.t.Fatalf("to %s: %v", dst, err)
	}
	return c
}

// ask builds a request.
func ask(id uint64, iface, method string) []byte {
	f := []byte{0xda, 0xbb, twoWay, 0}
	f = binary.BigEndian.AppendUint64(f, id)
	var body []byte
	for _, s := range []string{"2.0.2", iface, "0.0.0", method, "Ljava/lang/String;", "x"} {
		if len(s) > 31 {
			body = append(body, 0x30)
		}
		body = append(append(body, byte(len(s))), s...)
	}
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

// calls makes n calls and returns how often each status came.
func calls(t *testing.T, c net.Conn, n int, iface, method string) map[byte]int {
	t.Helper()
	got := make(map[byte]int)
	for i := range n {
		_, _ = c.Write(ask(uint64(i), iface, method))
		f, err := readFrame(c)
		if err != nil {
			t.Fatalf("call %d of %s: %v", i, iface, err)
		}
		h, _ := dubbo.ParseHeader(f)
		if h.ID != uint64(i) {
			t.Fatalf("answer to %d, want one to %d", h.ID, i)
		}
		got[h.Status]++
	}
	return got
}

// saw checks how many requests came to a provider since the last look.
func saw(t *testing.T, what string, p *provider, want int64) {
	t.Helper()
	if got := p.requests.Swap(0); got != want {
		t.Errorf("%s: the provider saw %d requests, want %d", what, got, want)
	}
}

// TestWhoChooses: whether a request keeps to the provider that was dialled.
func TestWhoChooses(t *testing.T) {
	const n = 20
	a, b, other := newProvider(t), newProvider(t), newProvider(t)
	for name, c := range map[string]struct {
		domain    string
		clusters  []string
		balancing snapshot.Balancing
		dialled   int64 // of n
	}{
		"a catch-all":              {"*", []string{orders}, snapshot.BalancingDefault, n},
		"a catch-all, mesh":        {"*", []string{orders}, snapshot.BalancingMesh, n / 2},
		"a domain":                 {orders, []string{orders}, snapshot.BalancingDefault, n / 2},
		"a domain, caller":         {orders, []string{orders}, snapshot.BalancingCaller, n},
		"two clusters":             {"*", []string{orders, orders + "2"}, snapshot.BalancingDefault, n / 2},
		"two clusters, caller":     {"*", []string{orders, orders + "2"}, snapshot.BalancingCaller, n},
		"another cluster":          {"*", []string{"elsewhere"}, snapshot.BalancingDefault, 0},
		"another cluster, caller":  {"*", []string{"elsewhere"}, snapshot.BalancingCaller, 0},
		"a service's own, mesh":    {"*", []string{orders}, snapshot.BalancingMesh, n / 2},
		"a service's own, default": {"*", []string{orders}, snapshot.BalancingDefault, n / 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := newWorld().listen("127.0.0.1/32", a.addr.Port()).listen("198.51.100.1/32", 20880).host(c.domain, c.clusters...).
				cluster(orders, c.balancing, a.addr, b.addr).cluster(orders+"2", c.balancing, a.addr, b.addr).
				cluster("elsewhere", c.balancing, other.addr)
			r.put(w)
			dst := a.addr
			if name[:3] == "a s" {
				dst = vip
			}
			conn := r.to(dst)
			if got := calls(t, conn, n, orders, "echo"); got[dubbo.StatusOK] != n {
				t.Errorf("statuses %v", got)
			}
			got, rest := a.requests.Swap(0), b.requests.Swap(0)+other.requests.Swap(0)
			spread := int64(0)
			if c.dialled == n/2 && len(c.clusters) > 1 {
				spread = n / 4 // two wheels, and chance between them
			}
			if got < c.dialled-spread || got > c.dialled+spread || got+rest != n {
				t.Errorf("%d requests at the dialled provider, %d elsewhere; want %d of %d", got, rest, c.dialled, n)
			}
			if len(r.env.Stale.All()) != 0 {
				t.Errorf("counted as stale: %+v", r.env.Stale.All())
			}
			if dst == vip {
				return
			}
			// What asks about the provider itself goes to it whatever the policy is.
			calls(t, conn, 3, metadata, "getMetadataInfo")
			calls(t, conn, 3, metadata+"V2", "getMetadataInfo")
			calls(t, conn, 3, orders, "$echo")
			saw(t, "pinned", a, 9)
			saw(t, "pinned, others", b, 0)
		})
	}
}

// TestPinnedFollowsAService: to a service's address, nothing is pinned.
func TestPinnedFollowsAService(t *testing.T) {
	a, b := newProvider(t), newProvider(t)
	r := newRig(t)
	r.put(newWorld().listen("198.51.100.1/32", 20880).host("*", orders).cluster(orders, 0, a.addr, b.addr))
	c := r.to(vip)
	calls(t, c, 10, metadata, "getMetadataInfo")
	calls(t, c, 10, orders, "$echo")
	saw(t, "one", a, 10)
	saw(t, "the other", b, 10)
}

// TestChoiceThatCannotBe: the dialled provider is not healthy, or cannot be
// connected to while a request waits for it: another one serves.
func TestChoiceThatCannotBe(t *testing.T) {
	a, b := newProvider(t), newProvider(t)
	r := newRig(t)
	w := newWorld().listen("127.0.0.0/8", 0).host("*", orders).cluster(orders, 0, a.addr, b.addr)
	w.clusters[orders].Localities[0].Endpoints[0].Healthy = false
	r.put(w)
	calls(t, r.to(a.addr), 4, orders, "echo")
	saw(t, "unhealthy", a, 0)
	saw(t, "healthy", b, 4)
	if r.env.Stale.Total() != 0 {
		t.Error("an endpoint that is not healthy is not stale")
	}
}

// TestStaleAddress: the address is nobody's, or a stranger's.
func TestStaleAddress(t *testing.T) {
	live, stranger := newProvider(t), newProvider(t)
	gone := newProvider(t)
	gone.kill()
	byDomain := func() *world {
		return newWorld().listen("127.0.0.0/8", 0).host(orders, orders).host(stock, stock)
	}
	for name, c := range map[string]struct {
		world *world
		dst   netip.AddrPort
	}{
		"gone, by domain":     {byDomain(), gone.addr},
		"re-used, by domain":  {byDomain(), stranger.addr},
		"gone, by catch-all":  {newWorld().listen("127.0.0.0/8", 0).host("*", orders), gone.addr},
		"re-used, own routes": {newWorld().listen("127.0.0.1/32", stranger.addr.Port()).host("*", stock), stranger.addr},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put(c.world.cluster(orders, 0, live.addr).cluster(stock, 0, stranger.addr))
			conn := r.to(c.dst)
			if got := calls(t, conn, 7, orders, "echo"); got[dubbo.StatusOK] != 7 {
				t.Errorf("statuses %v", got)
			}
			saw(t, "live", live, 7)
			saw(t, "stranger", stranger, 0)
			list := r.env.Stale.All()
			if r.env.Stale.Total() != 7 || len(list) != 1 {
				t.Fatalf("%d counted, %+v", r.env.Stale.Total(), list)
			}
			if got := list[0]; got.Key.Address != c.dst || got.Key.Interface != orders || got.Key.Consumer != "shop/consumer" || got.Count != 7 {
				t.Errorf("listed %+v", got)
			}
			if time.Since(list[0].Last) > time.Minute {
				t.Errorf("last at %s", list[0].Last)
			}
			if c.dst != stranger.addr {
				return
			}
			// The stranger's own callers are not disturbed.
			calls(t, conn, 3, stock, "echo")
			calls(t, conn, 3, metadata, "getMetadataInfo")
			saw(t, "the stranger's own", stranger, 6)
			if r.env.Stale.Total() != 7 {
				t.Error("the stranger's own calls are counted")
			}
		})
	}
}

// TestAddressGoes: the provider leaves the snapshot, then its listener, then dies,
// under a connection that goes on; and at last nobody is left.
func TestAddressGoes(t *testing.T) {
	old, live := newProvider(t), newProvider(t)
	r := newRig(t)
	port := old.addr.Port()
	r.put(newWorld().listen("127.0.0.1/32", port).host("*", orders).cluster(orders, 0, old.addr, live.addr))
	c := r.to(old.addr)
	calls(t, c, 4, orders, "echo")
	saw(t, "before", old, 4)

	for name, w := range map[string]*world{
		"without the endpoint": newWorld().listen("127.0.0.1/32", port),
		"without the listener": newWorld().listen("198.51.100.1/32", 20880),
	} {
		r.put(w.host("*", orders).cluster(orders, 0, live.addr))
		calls(t, c, 4, orders, "echo")
		saw(t, name, live, 4)
		saw(t, name, old, 0)
	}
	old.kill()
	time.Sleep(100 * time.Millisecond)
	calls(t, c, 4, orders, "echo")
	saw(t, "after its death", live, 4)
	if n := r.env.Stale.Total(); n != 12 {
		t.Errorf("%d counted, want 12", n)
	}

	r.put(newWorld().listen("127.0.0.1/32", port).host("*", orders).cluster(orders, 0))
	if got := calls(t, c, 1, orders, "echo"); got[dubbo.StatusServerError] != 1 {
		t.Errorf("without a provider: %v", got)
	}
	if _, err := readFrame(c); !errors.Is(err, io.EOF) {
		t.Errorf("after the refusal: %v, want the end", err)
	}
	r.expect(rpc.ResultLocal, rpc.WhyNoEndpoint, 1)
}

// TestAddressGoesWithACallPending: the connection ends behind that one's answer.
func TestAddressGoesWithACallPending(t *testing.T) {
	old, live := newProvider(t), newProvider(t)
	r := newRig(t)
	gate := make(chan struct{})
	live.gate.Store(&gate)
	endpoints := func(to ...netip.AddrPort) *world {
		return newWorld().listen("127.0.0.1/32", old.addr.Port()).host("*", orders).cluster(orders, 0, to...)
	}
	r.put(endpoints(old.addr, live.addr))
	c := r.to(old.addr)
	calls(t, c, 1, orders, "echo")
	r.put(endpoints(live.addr))
	write(t, c, ask(1, orders, "echo"))
	waitFor(t, "the request is pending", func() bool { return live.requests.Load() == 1 })
	r.put(endpoints())
	if got := calls(t, c, 1, orders, "echo"); got[dubbo.StatusServerError] != 1 {
		t.Errorf("without a provider: %v", got)
	}
	close(gate)
	if h, _ := mustAnswer(t, c); h.ID != 1 || h.Status != dubbo.StatusOK {
		t.Errorf("%+v came, want the answer to 1", h)
	}
	if _, err := readFrame(c); !errors.Is(err, io.EOF) {
		t.Errorf("after the answers: %v, want the end", err)
	}
}

// TestNobodyLooksDead: an address of nobody whose routes lead to nobody.
func TestNobodyLooksDead(t *testing.T) {
	gone := newProvider(t)
	gone.kill()
	r := newRig(t)
	r.put(newWorld().listen("127.0.0.0/8", 0).host("*", orders).cluster(orders, 0))
	r.dst.Store(&gone.addr)
	c, err := net.Dial("tcp", r.ln.Addr().String())
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// TestHeartbeatTellsTheTruth: a provider that dies while a request is in flight
// ends its consumers' connections when that is answered, so that no heartbeat is
// answered in its stead; a service's address outlives it.
func TestHeartbeatTellsTheTruth(t *testing.T) {
	for _, own := range []bool{true, false} {
		a, b := newProvider(t), newProvider(t)
		r := newRig(t)
		r.put(newWorld().listen("127.0.0.1/32", a.addr.Port()).listen("198.51.100.1/32", 20880).host("*", orders).
			cluster(orders, snapshot.BalancingMesh, a.addr, b.addr))
		dst := a.addr
		if !own {
			dst = vip
		}
		c := r.to(dst)
		b.mute.Store(true)
		_, _ = c.Write(ask(1, orders, "echo"))
		_, _ = c.Write(ask(2, orders, "echo"))
		if f, err := readFrame(c); err != nil || f[3] != dubbo.StatusOK {
			t.Fatalf("the first answer: % x, %v", f, err)
		}
		waitFor(t, "one at each", func() bool { return a.requests.Load() == 1 && b.requests.Load() == 1 })
		time.Sleep(1100 * time.Millisecond) // minLife: its end is no refusal
		a.kill()
		time.Sleep(100 * time.Millisecond)
		_, _ = c.Write(dubbo.AppendHeartbeat(nil, 5)) // something is pending
		if f, err := readFrame(c); err != nil || f[2]&codec.FlagEvent == 0 {
			t.Fatalf("own %v: the heartbeat's answer % x, %v", own, f, err)
		}
		b.kill() // the pending one is answered
		if f, err := readFrame(c); err != nil || f[3] != dubbo.StatusServerError {
			t.Fatalf("own %v: % x, %v", own, f, err)
		}
		wait := time.Second
		if own {
			wait = 30 * time.Second
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, err := readFrame(c)
		if ended := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET); ended != own {
			t.Errorf("own %v: then %v", own, err)
		}
	}
}
