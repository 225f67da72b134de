package plan

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/cluster"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/identity"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/mode"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/mutual"
	"github.com/dubway/dubway/l7proxy/snapshot/tracing"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// laneRig is a rig on a node that has lanes, whose pods are at addresses.
func laneRig(t *testing.T, dst netip.AddrPort, local ...netip.AddrPort) *rig {
	t.Helper()
	r := newRig(t, dst, local...)
	r.env.Lane.Guarded = func(_ *workload.Workload, k upstream.Key) bool { return k.TLS.On }
	for i, at := range local {
		r.env.Workloads.Put(workload.New(handoff.Workload{
			UID: fmt.Sprintf("shop/p%d", i), Name: "p", Namespace: "shop",
			Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{at.Port()},
		}))
	}
	return r
}

// lane plans a request and asks what the lane may do. All endpoints are taken to have
// answered for its interface.
func (r *rig) lane(t *testing.T, h codec.Header, body []byte) verdict.Verdict {
	t.Helper()
	for {
		r.Edge(h, body)
		v, asked := r.Lane(h, body), false
		for _, pl := range r.plans {
			for _, e := range pl.edges {
				asked = asked || e.Export != nil
				e.Export = nil
			}
		}
		if !asked {
			return v
		}
	}
}

// change is what a case does to the rig's snapshot.
type change func(s *snapshot.Snapshot)

func onRoute(f func(*snapshot.Route)) change {
	return func(s *snapshot.Snapshot) { f(s.Routes["r"].VirtualHosts[0].Routes[0]) }
}

func onListeners(f func(*snapshot.Listener)) change {
	return func(s *snapshot.Snapshot) {
		for _, l := range s.Listeners {
			f(l)
		}
	}
}

func onCluster(f func(*snapshot.Cluster)) change {
	return func(s *snapshot.Snapshot) {
		c, where := *s.Clusters["c"], *s.Clusters["c"].Localities[0]
		where.Endpoints = nil
		for _, e := range c.Localities[0].Endpoints {
			same := *e
			where.Endpoints = append(where.Endpoints, &same)
		}
		c.Localities = []*snapshot.Locality{&where}
		f(&c)
		s.Clusters = map[string]*snapshot.Cluster{"c": &c}
	}
}

// asks puts a route with a condition before the others.
func asks(h snapshot.HeaderMatch) change {
	return func(s *snapshot.Snapshot) {
		s.Routes["r"].Static = false
		vh := s.Routes["r"].VirtualHosts[0]
		first := *vh.Routes[0]
		first.Match.Headers = []snapshot.HeaderMatch{h}
		vh.Routes = append([]*snapshot.Route{&first}, vh.Routes...)
	}
}

var (
	always    = &snapshot.Fault{Name: "f", Delay: time.Second, Delayed: everyone, Most: math.MaxUint32}
	bounding  = &snapshot.Limit{Name: "l", Bucket: &snapshot.Bucket{Max: 1 << 20, Fill: 1, Interval: time.Second}, Enabled: everyone, Enforced: everyone}
	wondering = &snapshot.Global{Name: "g", Domain: "d", Service: snapshot.RateService{Cluster: "c"}, Enabled: everyone, Enforced: everyone}
	describes = []snapshot.Rate{{Actions: []snapshot.RateAction{{Kind: snapshot.RateGeneric, Key: "k", Value: "v"}}}}
	nothing   = &snapshot.RBAC{Name: "rbac", Rules: &snapshot.Rules{}} // allows nobody
	anything  = &snapshot.RBAC{Name: "rbac", Rules: &snapshot.Rules{Policies: []snapshot.RBACPolicy{
		{Name: "all", Permission: snapshot.Term{Kind: snapshot.TermAny}, Principal: snapshot.Term{Kind: snapshot.TermAny}},
	}}}
)

// forcing has what forces requests onto the proxy, by the field that does.
var forcing = map[string][]change{
	"snapshot.Listener.Route": {onListeners(func(l *snapshot.Listener) { l.Route = nil })},
	"snapshot.Listener.Gate":  {onListeners(func(l *snapshot.Listener) { l.Gate = &snapshot.Gate{RBAC: []*snapshot.RBAC{nothing}} })},
	"snapshot.Listener.RBAC": {
		onListeners(func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{nothing} }),
		onListeners(func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("method", "echo")} }),
	},
	"snapshot.Listener.Limits": {onListeners(func(l *snapshot.Listener) { l.Limits = []*snapshot.Limit{bounding} })},
	"snapshot.Listener.Globals": {func(s *snapshot.Snapshot) {
		onListeners(func(l *snapshot.Listener) { l.Globals = []*snapshot.Global{wondering} })(s)
		onRoute(func(r *snapshot.Route) { r.Policies = &snapshot.RoutePolicies{Rates: describes} })(s)
	}},
	"snapshot.Listener.Faults": {onListeners(func(l *snapshot.Listener) { l.Faults = []*snapshot.Fault{always} })},
	"snapshot.Listener.Tracing": {
		onListeners(func(l *snapshot.Listener) {
			l.Tracing = &tracing.Tracing{Collector: tracing.Collector{Cluster: "c"}, Share: snapshot.Million}
		}),
	},
	"snapshot.Listener.Report": {onListeners(func(l *snapshot.Listener) { l.Report = &report.Rules{Labels: []string{"tier"}} })},
	"report.Rules.Labels":      {onListeners(func(l *snapshot.Listener) { l.Report = &report.Rules{Labels: []string{"method"}} })},
	"report.Rules.Conditions": {onListeners(func(l *snapshot.Listener) {
		l.Report = &report.Rules{Conditions: []report.Condition{{Attribute: "tier", Operator: report.Present}}}
	})},
	"snapshot.Match.Headers": {
		asks(snapshot.HeaderMatch{Name: "tier", Value: "vip"}),
		asks(snapshot.HeaderMatch{Name: "group", Value: "vip", Invert: true}),
		asks(snapshot.HeaderMatch{Source: snapshot.SourceAttachment, Name: "tier", Kind: snapshot.HeaderPresent, Want: true}),
		asks(snapshot.HeaderMatch{Source: snapshot.SourceArgument, Value: "x"}),
	},
	"snapshot.Match.Fraction": {onRoute(func(r *snapshot.Route) { r.Match.Fraction = everyone - 1 })},
	"snapshot.Action.Direct":  {onRoute(func(r *snapshot.Route) { r.Action = snapshot.Action{Direct: &snapshot.Abort{Status: 40}} })},
	"snapshot.Action.Retry": {
		onRoute(func(r *snapshot.Route) { r.Action.Retry = &snapshot.Retry{Num: 1, On: snapshot.RetryReset} }),
		onRoute(func(r *snapshot.Route) { r.Action.Retry = &snapshot.Retry{PerTry: time.Second} }),
	},
	"snapshot.Action.Mirrors": {onRoute(func(r *snapshot.Route) { r.Action.Mirrors = []snapshot.Mirror{{Cluster: "c", Fraction: 1}} })},
	"snapshot.Action.Edits":   {onRoute(func(r *snapshot.Route) { r.Action.Edits = []snapshot.Edit{{Name: "a"}} })},
	"snapshot.Action.Answers": {onRoute(func(r *snapshot.Route) { r.Action.Answers = []snapshot.Edit{{Name: "a"}} })},
	"snapshot.WeightedCluster.Edits": {onRoute(func(r *snapshot.Route) {
		r.Action.Clusters[0].Edits = &snapshot.Edits{Requests: []snapshot.Edit{{Name: "a"}}}
	})},
	"snapshot.RoutePolicies.RBAC": {func(s *snapshot.Snapshot) {
		onListeners(func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{anything} })(s)
		onRoute(func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{RBAC: map[string]*snapshot.RBAC{"rbac": nothing}}
		})(s)
	}},
	"snapshot.RoutePolicies.Limits": {func(s *snapshot.Snapshot) {
		onListeners(func(l *snapshot.Listener) { l.Limits = []*snapshot.Limit{{Name: "l"}} })(s)
		onRoute(func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{Limits: map[string]*snapshot.Limit{"l": bounding}}
		})(s)
	}},
	"snapshot.RoutePolicies.Faults": {func(s *snapshot.Snapshot) {
		onListeners(func(l *snapshot.Listener) { l.Faults = []*snapshot.Fault{{Name: "f"}} })(s)
		onRoute(func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{Faults: map[string]*snapshot.Fault{"f": always}}
		})(s)
	}},
	"snapshot.RoutePolicies.Globals": {func(s *snapshot.Snapshot) {
		onListeners(func(l *snapshot.Listener) { l.Globals = []*snapshot.Global{wondering} })(s)
		onRoute(func(r *snapshot.Route) {
			r.Policies = &snapshot.RoutePolicies{Globals: map[string]*snapshot.GlobalRoute{"g": {Rates: describes}}}
		})(s)
	}},
	"snapshot.Rules.Needs": {onListeners(func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{denying("tier", "vip")} })},
	"snapshot.Gate.Limits": {onListeners(func(l *snapshot.Listener) {
		none := *bounding
		none.Bucket = &snapshot.Bucket{Interval: time.Hour}
		l.Gate = &snapshot.Gate{Limits: []*snapshot.Limit{&none}}
	})},
	"snapshot.Cluster.Policy": {
		onCluster(func(c *snapshot.Cluster) {
			c.Policy, c.Hashing = snapshot.RingHash, snapshot.Hashing{MinRing: 64, MaxRing: 64}
		}),
		onCluster(func(c *snapshot.Cluster) { c.Policy, c.Hashing = snapshot.Maglev, snapshot.Hashing{TableSize: 251} }),
	},
	"snapshot.Cluster.ChoiceCount": {onCluster(func(c *snapshot.Cluster) {
		c.Policy, c.ChoiceCount = snapshot.LeastRequest, lane.Draws+1
		c.Localities[0].Endpoints = append(c.Localities[0].Endpoints, &snapshot.Endpoint{Address: pod3, Weight: 1, Healthy: true})
	})},
	"snapshot.Cluster.Bias": {onCluster(func(c *snapshot.Cluster) {
		c.Policy, c.Bias, c.Localities[0].Endpoints[0].Weight = snapshot.LeastRequest, 2, 2
	})},
	"snapshot.Cluster.SlowStart":   {onCluster(func(c *snapshot.Cluster) { c.SlowStart = &snapshot.SlowStart{Window: time.Hour, Aggression: 1} })},
	"snapshot.Cluster.MaxRequests": {onCluster(func(c *snapshot.Cluster) { c.MaxRequests = new(uint32) })},
	"snapshot.Cluster.Sockets":     {onCluster(func(c *snapshot.Cluster) { c.Sockets = []mutual.Socket{{TLS: mutual.TLS{On: true}}} })},
	"snapshot.Endpoint.Socket": {onCluster(func(c *snapshot.Cluster) {
		c.Sockets = []mutual.Socket{{Match: map[string]string{"tls": "on"}, TLS: mutual.TLS{On: true}}}
		for _, e := range c.Localities[0].Endpoints {
			e.Socket = snapshot.Metadata{"tls": "on"}
		}
	})},
	"snapshot.Endpoint.Address": {onCluster(func(c *snapshot.Cluster) {
		c.Localities[0].Endpoints = []*snapshot.Endpoint{{Address: netip.MustParseAddrPort("203.0.113.7:20880"), Weight: 1, Healthy: true}}
	})},
}

var pod3 = netip.MustParseAddrPort("192.0.2.3:20880")

// publish changes the rig's snapshot.
func (r *rig) publish(f change) {
	f(r.snap)
	next := *r.snap
	r.snap = next.Seal()
	r.mgr.Update(r.snap)
}

func TestLaneForcesTheProxy(t *testing.T) {
	h, body := call("echo")
	for name, cases := range forcing {
		for _, f := range cases {
			t.Run(name, func(t *testing.T) {
				r := laneRig(t, vip, pod1, pod2, pod3)
				r.configure(pod1, pod2)
				if v := r.lane(t, h, body); v.Reason != verdict.Lane {
					t.Fatalf("without it: %s", v.Reason)
				}
				r.publish(f)
				if v := r.lane(t, h, body); v.Reason != known[name].proxy || v.Shares != nil {
					t.Errorf("%q with %d shares, want %q", v.Reason, len(v.Shares), known[name].proxy)
				}
			})
		}
	}
}

// TestLaneOfRequests: what the request itself is.
func TestLaneOfRequests(t *testing.T) {
	two := func(method string, flags byte) func() (codec.Header, []byte) {
		return func() (codec.Header, []byte) {
			h, body := call(method)
			h.Flags = flags
			return h, body
		}
	}
	const asks = codec.FlagRequest | codec.FlagTwoWay
	for _, tt := range []struct {
		name string
		call func() (codec.Header, []byte)
		dst  netip.AddrPort
		want verdict.Reason
	}{
		{"hessian2", two("echo", asks|dubbo.Hessian2), vip, verdict.Lane},
		{"to a pod's own address", two("echo", asks|dubbo.Hessian2), pod1, verdict.Lane},
		{"one-way", two("echo", codec.FlagRequest|dubbo.Hessian2), vip, verdict.OneWay},
		{"an event", two("echo", asks|codec.FlagEvent|dubbo.Hessian2), vip, verdict.OneWay},
		{"another serialization", two("echo", asks|3), vip, verdict.Serialization},
		{"an echo of a pod", two("$echo", asks|dubbo.Hessian2), pod1, verdict.Pinned},
		{"an echo of a service", two("$echo", asks|dubbo.Hessian2), vip, verdict.Lane},
		{"no names", func() (codec.Header, []byte) {
			h, _ := call("x")
			h.Body = 3
			return h, []byte{0x05, '2', '.'}
		}, vip, verdict.Undecodable},
		{"a declared callback", func() (codec.Header, []byte) {
			h, body := call("listen")
			body = append(body, "\x12sys_callback_arg-1"...)
			h.Body = len(body)
			return h, body
		}, vip, verdict.Callback},
		{"long names", func() (codec.Header, []byte) {
			h, _ := call("x")
			body := append([]byte("\x052.0.2\x30\xff"), make([]byte, 255)...)
			for i := 8; i < len(body); i++ {
				body[i] = 'a'
			}
			body = append(body, "\x050.0.0\x01x\x00"...)
			h.Body = len(body)
			return h, body
		}, vip, verdict.LongNames},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, body := tt.call()
			if v := laneRig(t, tt.dst, pod1, pod2).lane(t, h, body); v.Reason != tt.want {
				t.Errorf("%q, want %q", v.Reason, tt.want)
			}
		})
	}
}

// TestLaneObeys: what the lane does by itself.
func TestLaneObeys(t *testing.T) {
	h, body := call("echo")
	r := laneRig(t, vip, pod1, pod2)
	second := &snapshot.Cluster{Name: "d", Overprovision: 140, Localities: []*snapshot.Locality{{Endpoints: []*snapshot.Endpoint{{Address: pod2, Weight: 7, Healthy: true}}}}}
	r.publish(func(s *snapshot.Snapshot) {
		s.Clusters["d"] = second
		onListeners(func(l *snapshot.Listener) { l.RBAC = []*snapshot.RBAC{anything} })(s)
		onRoute(func(r *snapshot.Route) {
			r.Action.Clusters = []snapshot.WeightedCluster{{Cluster: "c", Weight: 90}, {Cluster: "d", Weight: 10}, {Cluster: "gone"}}
			r.Action.Total, r.Action.Timeout = 100, time.Second
		})(s)
	})
	v := r.lane(t, h, body)
	if v.Reason != verdict.Lane || len(v.Shares) != 2 || v.Shares[0].Weight != 9 || v.Shares[1].Weight != 1 || v.Timeout != time.Second {
		t.Fatalf("%+v", v)
	}
	if len(v.Shares[0].Ends) != 2 || len(v.Shares[1].Ends) != 1 || v.Shares[1].Ends[0].Address != pod2 || v.Shares[1].Ends[0].Weight != 1 {
		t.Errorf("%+v", v.Shares)
	}
	if v.Access == nil || v.Policy != "all" {
		t.Fatalf("policies said %+v, %q", v.Access, v.Policy)
	}
	v.Access.CountMany(5)
	counted := uint64(0)
	for _, c := range r.env.Policies.Tally.All() {
		if c.Labels.Policy == "all" {
			counted = c.Total
		}
	}
	if counted < 6 {
		t.Errorf("%d verdicts are counted: 5 and one for each request so far", counted)
	}
}

// TestLaneOfNames: conditions of other methods are none of a request's.
func TestLaneOfNames(t *testing.T) {
	r := laneRig(t, vip, pod1, pod2)
	r.publish(func(s *snapshot.Snapshot) {
		asks(snapshot.HeaderMatch{Name: "tier", Value: "vip"})(s)
		m := &s.Routes["r"].VirtualHosts[0].Routes[0].Match
		m.Headers = append([]snapshot.HeaderMatch{{Name: "method", Value: "buy"}}, m.Headers...)
	})
	for method, want := range map[string]verdict.Reason{"echo": verdict.Lane, "buy": verdict.ByBody} {
		h, body := call(method)
		if v := r.lane(t, h, body); v.Reason != want {
			t.Errorf("%s: %q, want %q", method, v.Reason, want)
		}
	}
}

// TestLaneStands: whatever a verdict was made of ends it.
func TestLaneStands(t *testing.T) {
	h, body := call("echo")
	for _, tt := range []struct {
		name string
		ends func(r *rig)
	}{
		{"a snapshot", func(r *rig) { r.configure(pod1, pod2) }},
		{"a failed connect", func(r *rig) { endpoint(r, pod2).Failed() }},
		{"a provider that is about to stop", func(r *rig) { endpoint(r, pod1).Draining() }},
		{"a provider that is gone", func(r *rig) { r.env.Workloads.Remove("shop/p1") }},
		{"a provider that judges", func(r *rig) { r.env.Lane.Guarded = nil }},
		{"a tap", func(r *rig) { r.env.Lane.Tapped = func() bool { return true } }},
		{"another trust domain", func(r *rig) {
			r.ids.Put(&identity.Bundle{ID: identity.ID{TrustDomain: "corp", Account: identity.Account{Namespace: "shop", Name: "any"}}})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := laneRig(t, vip, pod1, pod2)
			v := r.lane(t, h, body)
			if v.Reason != verdict.Lane || !v.Stands() {
				t.Fatalf("%s, stands: %v", v.Reason, v.Stands())
			}
			if n := testing.AllocsPerRun(10, func() { v.Stands() }); n != 0 {
				t.Errorf("%v allocations to ask", n)
			}
			if tt.ends(r); v.Stands() {
				t.Error("the verdict stands")
			}
		})
	}
}

// endpoint is the rig's at an address.
func endpoint(r *rig, at netip.AddrPort) *cluster.Endpoint {
	return r.mgr.Of(r.snap.Clusters["c"]).At(at, nil)
}

// TestLaneLeavesThePlan: to be asked changes nothing of the request that was planned.
func TestLaneLeavesThePlan(t *testing.T) {
	h, body := call("echo")
	r := laneRig(t, vip, pod1)
	r.publish(onRoute(func(r *snapshot.Route) { r.Action.Timeout = time.Minute }))
	e, why := r.Edge(h, body)
	limit := r.Limit()
	if v := r.Lane(h, body); why != rpc.WhyNone || v.Reason != verdict.Lane || v.Shares[0].Ends[0].Edge != e {
		t.Fatalf("%q, %+v", why, v)
	}
	if r.Limit() != limit || r.Held() != nil {
		t.Error("the plan of the request is another")
	}
}

// TestLaneOfMoments: what may be otherwise in a moment.
func TestLaneOfMoments(t *testing.T) {
	h, body := call("echo")
	for _, tt := range []struct {
		name   string
		change func(r *rig)
		want   verdict.Reason
	}{
		{"nothing", func(*rig) {}, verdict.Lane},
		{"observed", func(r *rig) {
			w := &mode.Workload{UID: "shop/consumer", Namespace: "shop", Name: "consumer", Labels: map[string]string{mode.Key: "observe"}}
			r.env.Modes = new(mode.Table)
			if err := r.env.Modes.Put(w); err != nil {
				t.Fatal(err)
			}
			r.mode = r.env.Modes.Of(w.UID)
		}, verdict.Mode},
		{"a tap", func(r *rig) { r.env.Lane.Tapped = func() bool { return true } }, verdict.Tapped},
		{"a node without lanes", func(r *rig) { r.env.Lane = verdict.Node{} }, verdict.Guarded},
		{"an endpoint that could not be reached", func(r *rig) { endpoint(r, pod1).Failed() }, verdict.Lane},
		{"none that could be reached", func(r *rig) {
			endpoint(r, pod1).Failed()
			endpoint(r, pod2).Failed()
		}, verdict.Avoided},
		{"a pod that is not enrolled for the port", func(r *rig) {
			r.env.Workloads.Put(workload.New(handoff.Workload{UID: "shop/p0", Addresses: []netip.Addr{pod1.Addr()}, Ports: []uint16{1}}))
		}, verdict.Lane},
		{"none that is enrolled for the port", func(r *rig) {
			for i, at := range []netip.AddrPort{pod1, pod2} {
				r.env.Workloads.Put(workload.New(handoff.Workload{
					UID: fmt.Sprint("shop/p", i), Addresses: []netip.Addr{at.Addr()}, Ports: []uint16{1},
				}))
			}
		}, verdict.Remote},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := laneRig(t, vip, pod1, pod2)
			r.Edge(h, body)
			tt.change(r)
			if v := r.lane(t, h, body); v.Reason != tt.want || v.Stands() != (tt.want == verdict.Lane) {
				t.Errorf("%q, want %q; stands: %v", v.Reason, tt.want, v.Stands())
			}
		})
	}
}

// TestLaneAfterAnAnswer: a provider among others may not export the interface yet. The lane,
// in which nothing is sent again, waits until it has answered for it.
func TestLaneAfterAnAnswer(t *testing.T) {
	h, body := call("echo")
	r := laneRig(t, vip, pod1, pod2)
	r.env.Pool = upstream.NewPool(somebody{t}, upstream.Limits{MaxFrame: 1 << 20})
	t.Cleanup(r.env.Pool.Close)
	r.Edge(h, body)
	v := r.Lane(h, body)
	if v.Reason != verdict.Unanswered {
		t.Fatalf("%q for providers that nobody has asked", v.Reason)
	}
	for range 3 { // two providers, and once more
		r.Edge(h, body)
		v = r.Lane(h, body)
		for _, pl := range r.plans {
			for _, e := range pl.edges {
				answered(t, e)
			}
		}
	}
	if v.Reason != verdict.Lane || !v.Stands() {
		t.Fatalf("%q once they have answered", v.Reason)
	}
	end := v.Shares[0].Ends[0].Edge
	end.Export.Unknown()
	if v.Stands() {
		t.Error("a provider that knows the interface no more is in the lane")
	}
	answered(t, end)
	if !v.Stands() {
		t.Error("it knows it again")
	}
	end.Group.Rotate()
	if v.Stands() {
		t.Error("the connection on which it has answered takes no requests any more")
	}
}

// answered says that an edge's provider has answered for the interface on the connection
// that is used at present.
func answered(t *testing.T, e *upstream.Edge) {
	t.Helper()
	e.Group.Conn()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for n := range uint64(16) {
			if e.Export.Answered(n + 1); e.Group.Answers(e.Export) {
				return
			}
		}
	}
	t.Fatal("no connection is made")
}

// somebody takes connections and says nothing.
type somebody struct{ t *testing.T }

func (s somebody) Dial(ctx context.Context, _ upstream.Key, _ netip.AddrPort) (upstream.Way, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return upstream.Way{}, err
	}
	s.t.Cleanup(func() { _ = l.Close() }) // what waits in its backlog is connected
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return upstream.Way{}, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return upstream.Way{}, net.ErrClosed
	}
	return upstream.Way{TCP: tcp, SameNode: true}, nil
}
