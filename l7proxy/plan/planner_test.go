package plan

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/breaker"
	"github.com/dubway/dubway/l7proxy/callback"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/identity/identitytest"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/telemetry/inverted"
	"github.com/dubway/dubway/l7proxy/telemetry/stale"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

var (
	vip  = netip.MustParseAddrPort("198.51.100.1:20880")
	pod1 = netip.MustParseAddrPort("192.0.2.1:20880")
	pod2 = netip.MustParseAddrPort("192.0.2.2:20880")
)

// host is a connection whose requests are planned and not sent.
type host struct {
	upstream.Owner // nil: nothing is asked
	callback.Host  // nil, too

	pending bool
	told    int // READONLY
}

func (h *host) Pending() bool { return h.pending }

func (h *host) Settled(int) {}

func (h *host) ReadOnly() { h.told++ }

// nobody answers dials.
type nobody struct{}

func (nobody) Dial(context.Context, upstream.Key, netip.AddrPort) (upstream.Way, error) {
	return upstream.Way{}, errors.New("nobody is there")
}

// recorder keeps nothing.
type recorder struct{}

func (recorder) Prepare(*rpc.Call) rpc.Observer { return observer{} }
func (recorder) Connection(*rpc.Connection)     {}

type observer struct{}

func (observer) Observe(*rpc.Record) {}

// rig is a planner of a consumer's connection to dst.
type rig struct {
	Planner

	host host
	line callback.Line
	snap *snapshot.Snapshot
	mgr  *cluster.Manager
	ids  identitytest.Source
}

func newRig(t *testing.T, dst netip.AddrPort, endpoints ...netip.AddrPort) *rig {
	t.Helper()
	r := &rig{mgr: cluster.NewManager(slog.New(slog.DiscardHandler), cluster.Options{})}
	env := &Env{
		View: func(string) func() *snapshot.Snapshot { return func() *snapshot.Snapshot { return r.snap } }, Clusters: r.mgr,
		Pool:     upstream.NewPool(nobody{}, upstream.Limits{MaxFrame: 1 << 20}),
		Recorder: recorder{}, Workloads: workload.NewRegistry(), Stale: &stale.List{}, Inverted: &inverted.List{}, Breakers: &breaker.Breakers{},
		Policies: new(filter.Policies), Identities: &r.ids,
	}
	from := &Source{
		Workload: workload.New(handoff.Workload{UID: "shop/consumer", Name: "consumer", Namespace: "shop"}),
		Original: dst, Remote: netip.MustParseAddrPort("192.0.2.9:40000"),
	}
	r.line.Init(&r.host, env.Pool.Stats())
	r.Speak(seam.Protocol())
	r.Init(env, from, &r.host, &r.line)
	r.configure(endpoints...)
	t.Cleanup(func() {
		r.Close()
		env.Pool.Close()
		r.mgr.Close()
	})
	return r
}

// configure publishes a snapshot whose one route leads to endpoints.
func (r *rig) configure(endpoints ...netip.AddrPort) {
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
	listener := func(name string, at netip.AddrPort) *snapshot.Listener {
		return &snapshot.Listener{Name: name, Prefix: netip.PrefixFrom(at.Addr(), 32), Port: at.Port(), RouteName: "r", Route: route}
	}
	r.snap = (&snapshot.Snapshot{
		Generation: 1, Listeners: []*snapshot.Listener{listener("vip", vip), listener("pod1", pod1)},
		Routes: map[string]*snapshot.RouteConfig{"r": route},
		Clusters: map[string]*snapshot.Cluster{"c": {
			Name: "c", Overprovision: 140, PanicThreshold: 50, Localities: []*snapshot.Locality{loc},
		}},
	}).Seal()
	r.mgr.Update(r.snap)
}

// call is the header and body of a request.
func call(method string) (codec.Header, []byte) {
	body := "\x052.0.2\x07org.x.S\x050.0.0" + string(rune(len(method))) + method + "\x12Ljava/lang/String;"
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, ID: 1, Body: len(body)}, []byte(body)
}

// TestSnapshotsLeaveNothing: a planner follows snapshots without remembering the
// endpoints of old ones, and gives back the groups that it no longer uses when
// nothing is pending.
func TestSnapshotsLeaveNothing(t *testing.T) {
	for _, pending := range []bool{false, true} {
		r := newRig(t, vip, pod1)
		r.host.pending = pending
		h, body := call("echo")
		for range 200 {
			r.configure(pod1, pod2)
			for range 4 {
				if _, why := r.Edge(h, body); why != rpc.WhyNone {
					t.Fatal(why)
				}
			}
		}
		if n := len(r.watched); n != 2 {
			t.Errorf("%d endpoints are watched, want this snapshot's 2", n)
		}
		if n := len(r.groups); n != 2 {
			t.Errorf("%d groups are referenced, want 2", n)
		}
		r.Forget()
		if len(r.watched)+len(r.plans) != 0 {
			t.Errorf("%d endpoints and %d plans are remembered when nothing should be", len(r.watched), len(r.plans))
		}
	}
}

// TestPlansAreBounded: a consumer that invents methods makes us remember few.
func TestPlansAreBounded(t *testing.T) {
	r := newRig(t, vip, pod1)
	for i := range 10 * maxPlans {
		h, body := call(string([]byte{'m', 'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676)}))
		if _, why := r.Edge(h, body); why != rpc.WhyNone {
			t.Fatal(why)
		}
		if len(r.plans) > maxPlans {
			t.Fatalf("%d plans, want %d at most", len(r.plans), maxPlans)
		}
	}
}

// TestElsewhere never chooses the endpoint that could not serve, and says so if
// there is no other.
func TestElsewhere(t *testing.T) {
	r := newRig(t, vip, pod1, pod2)
	h, body := call("echo")
	for range 20 {
		e, why := r.Elsewhere(h, body, pod1)
		if why != rpc.WhyNone || e.Remote.Endpoint != pod2 {
			t.Fatalf("%v, %v; want %s", e.Remote.Endpoint, why, pod2)
		}
	}
	r.configure(pod1)
	if _, why := r.Elsewhere(h, body, pod1); why != rpc.WhyNoEndpoint {
		t.Errorf("%v, want %v", why, rpc.WhyNoEndpoint)
	}
	if _, why := r.Edge(h, body); why != rpc.WhyNone {
		t.Errorf("%v: an endpoint is left out for good", why)
	}
}

// TestDoomed: the connection to a provider ends when that is no endpoint any more
// and nobody serves in its stead; one to a service does not.
func TestDoomed(t *testing.T) {
	for _, tt := range []struct {
		dst  netip.AddrPort
		left []netip.AddrPort
		want bool
	}{
		{pod1, nil, true},
		{pod1, []netip.AddrPort{pod2}, false},
		{vip, nil, false},
	} {
		r := newRig(t, tt.dst, pod1)
		h, body := call("echo")
		if _, why := r.Edge(h, body); why != rpc.WhyNone || r.Doomed() {
			t.Fatalf("%v, doomed %v while the provider lives", why, r.Doomed())
		}
		r.configure(tt.left...)
		if _, _ = r.Edge(h, body); r.Doomed() != tt.want {
			t.Errorf("dialled %s, %v left: doomed is %v", tt.dst, tt.left, r.Doomed())
		}
	}
}
