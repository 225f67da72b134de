package plan

import (
	"math"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

const everyone = 1_000_000 // of requests

// injecting gives the rig's listeners fault filters.
func (r *rig) injecting(list ...*snapshot.Fault) {
	for _, l := range r.snap.Listeners {
		l.Faults = list
	}
}

// TestDelayKeepsTheWay: a delayed request goes where it was to go before its delay, or
// a delay for one cluster would take a part of its share.
func TestDelayKeepsTheWay(t *testing.T) {
	r := newRig(t, vip, pod1)
	other := *r.snap.Clusters["c"]
	other.Name = "d"
	r.snap.Clusters["d"] = &other
	r.mgr.Update(r.snap)
	a := &r.snap.Routes["r"].VirtualHosts[0].Routes[0].Action
	a.Clusters, a.Total = []snapshot.WeightedCluster{{Cluster: "c", Weight: 1}, {Cluster: "d", Weight: 1}}, 2
	r.injecting(&snapshot.Fault{Name: "f", Delay: time.Second, Delayed: everyone, Cluster: "d", Most: math.MaxUint32})
	h, body := call("echo")
	seen := make(map[string]int)
	const n = 400
	for range n {
		e, why := r.Edge(h, body)
		held := r.Held()
		if held != nil {
			if held.Delay != time.Second || why != rpc.WhyNone || e.Group != nil {
				t.Fatalf("%+v, %q", held, why)
			}
			e, why = r.Resume(h, body, held)
			if why != rpc.WhyNone || r.Held() != nil || e.Remote.Cluster != "d" {
				t.Fatalf("it goes on to %q, %q", e.Remote.Cluster, why)
			}
		} else if e.Remote.Cluster != "c" {
			t.Fatalf("one to %q is not delayed", e.Remote.Cluster)
		}
		seen[e.Remote.Cluster]++
	}
	if d := math.Abs(float64(seen["c"] - n/2)); d > 5*math.Sqrt(n/4) {
		t.Errorf("%v of %d", seen, n)
	}
}

// TestDelayAcrossSnapshots: behind its delay, a request follows the configuration of
// that time, and meets no fault a second time.
func TestDelayAcrossSnapshots(t *testing.T) {
	r := newRig(t, vip, pod1)
	r.injecting(&snapshot.Fault{Name: "f", Delay: time.Second, Delayed: everyone, Most: math.MaxUint32})
	h, body := call("echo")
	r.Edge(h, body)
	held := r.Held()
	r.configure(pod2)
	r.injecting(&snapshot.Fault{Name: "f", Abort: &snapshot.Abort{Status: 60}, Aborted: everyone, Most: math.MaxUint32})
	e, why := r.Resume(h, body, held)
	if why != rpc.WhyNone || e.Remote.Endpoint != pod2 || r.Held() != nil {
		t.Errorf("%q to %s", why, e.Remote.Endpoint)
	}
	if e, why = r.Edge(h, body); why != rpc.WhyFault || r.Held().Abort.Status != 60 || e.Group != nil {
		t.Errorf("the next one: %q", why)
	}
	if _, why = r.Elsewhere(h, body, pod1); why != rpc.WhyNone {
		t.Errorf("another try: %q", why)
	}
}

// TestFaultsInTheirPlace: what is refused gets none, and neither does what goes to a
// provider's own address whatever the routes say.
func TestFaultsInTheirPlace(t *testing.T) {
	r := newRig(t, pod1, pod1)
	r.injecting(&snapshot.Fault{Name: "f", Abort: &snapshot.Abort{Status: 60}, Aborted: everyone, Most: math.MaxUint32})
	for _, l := range r.snap.Listeners {
		l.RBAC = []*snapshot.RBAC{denying("method", "drop")}
	}
	for method, want := range map[string]rpc.Why{"drop": rpc.WhyDenied, "find": rpc.WhyFault, "$echo": rpc.WhyNone} {
		h, body := attached(method, "")
		if _, why := r.Edge(h, body); why != want || (r.Held() != nil) != (want == rpc.WhyFault) {
			t.Errorf("%s: %q, want %q", method, why, want)
		}
	}
}

// TestFaultByAttachment: its filter's header is read, however the route is found.
func TestFaultByAttachment(t *testing.T) {
	r := newRig(t, vip, pod1)
	tier := snapshot.HeaderMatch{Name: "tier", Value: "test"}
	r.injecting(&snapshot.Fault{
		Name: "f", Abort: &snapshot.Abort{Status: 60}, Aborted: everyone, Most: math.MaxUint32,
		Headers: []snapshot.HeaderMatch{tier}, Needs: tier.Needs(),
	})
	if r.Streamable() {
		t.Error("the attachment may come behind what is held")
	}
	for value, want := range map[string]rpc.Why{"test": rpc.WhyFault, "vip": rpc.WhyNone} {
		h, body := attached("find", value)
		for range 2 {
			if _, why := r.Edge(h, body); why != want {
				t.Errorf("%s: %q, want %q", value, why, want)
			}
		}
	}
}
