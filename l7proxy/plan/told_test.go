package plan

import (
	"net/netip"
	"strconv"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/workload"
)

// tiered is a call with one attachment; none if its value is empty.
func tiered(value string) (codec.Header, []byte) {
	text := func(s string) string { return string(rune(len(s))) + s }
	_, body := call("echo")
	body = append(body, text("x")...)
	if value != "" {
		body = append(body, "H"+text("tier")+text(value)+"Z"...)
	}
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, ID: 1, Body: len(body)}, body
}

// asking are rules that ask for an attachment, as a label and as a condition.
func asking() *report.Rules {
	return &report.Rules{
		Labels: []string{"tier"},
		Conditions: []report.Condition{
			{Attribute: ":path", Operator: report.Equals, Text: "/org.x.S/echo"},
			{Attribute: "tier", Operator: report.Starts, Text: "v"},
		},
	}
}

// TestTold: requests that telemetry tells apart have edges of their own, to the same
// endpoint; without rules there is one.
func TestTold(t *testing.T) {
	r := newRig(t, vip, pod1)
	h, body := tiered("vip")
	plain, why := r.Edge(h, body)
	if why != rpc.WhyNone || plain.Remote.Told != nil {
		t.Fatalf("%v, told %+v without rules", why, plain.Remote.Told)
	}
	r.configure(pod1)
	r.snap.Listeners[0].Report = asking()
	for _, test := range []struct {
		value, label string
		holds        uint64
	}{{"vip", "vip", 3}, {"free", "free", 1}, {"", "", 1}} {
		h, body := tiered(test.value)
		e, why := r.Edge(h, body)
		if why != rpc.WhyNone || e.Remote.Endpoint != pod1 || e.Remote.Observer == nil {
			t.Fatalf("%v, to %v", why, e.Remote.Endpoint)
		}
		for _, c := range []*rpc.Call{e.Remote, e.SameNode} {
			side := c.Told.Source
			if len(side.Values) != 1 || side.Values[0] != test.label || side.Holds != test.holds {
				t.Errorf("tier %q is %q, %b; want %q, %b", test.value, side.Values, side.Holds, test.label, test.holds)
			}
		}
		if again, _ := r.Edge(h, body); again != e {
			t.Errorf("tier %q has another edge the second time", test.value)
		}
	}
	if n := len(r.watched); n != 1 {
		t.Errorf("%d endpoints are watched, want 1: telemetry balances nothing", n)
	}
}

// TestToldIsBounded: a consumer that invents values makes us remember few.
func TestToldIsBounded(t *testing.T) {
	r := newRig(t, vip, pod1)
	r.snap.Listeners[0].Report = asking()
	seen := make(map[any]bool)
	for i := range 2000 {
		h, body := tiered(strconv.Itoa(i))
		e, _ := r.Edge(h, body)
		seen[e] = true
	}
	h, body := tiered("0")
	if e, _ := r.Edge(h, body); seen[e] {
		t.Error("what was seen first is remembered after 2000 others")
	}
}

// TestNeighboursRules: for the side of a provider of this node its own view holds, from the
// first request after that changed, although the consumer's did not.
func TestNeighboursRules(t *testing.T) {
	r := newRig(t, vip, pod1)
	r.env.Workloads.Put(workload.New(handoff.Workload{
		UID: "shop/provider", Name: "provider", Namespace: "shop", Addresses: []netip.Addr{pod1.Addr()}, Ports: []uint16{pod1.Port()},
	}))
	var changes uint64
	theirs := (&snapshot.Snapshot{}).Seal()
	ours := r.env.View
	r.env.View = func(uid string) func() *snapshot.Snapshot {
		if uid == "shop/provider" {
			return func() *snapshot.Snapshot { return theirs }
		}
		return ours(uid)
	}
	r.env.Changes = func() uint64 { return changes }
	h, body := call("echo")
	told := func() *report.Rules {
		e, why := r.Edge(h, body)
		if why != rpc.WhyNone {
			t.Fatal(why)
		}
		if e.SameNode.Told == nil {
			return nil
		}
		return e.SameNode.Told.Destination.Rules
	}
	if got := told(); got != nil {
		t.Fatalf("told %+v by nobody", got)
	}
	rules := &report.Rules{Log: new(report.Log)}
	one := &snapshot.Listener{Report: rules}
	theirs = (&snapshot.Snapshot{Inbounds: []*snapshot.Inbound{{
		Address: pod1.Addr(), Port: pod1.Port(), Known: one, Plain: &snapshot.Listener{}, TLS: &snapshot.Listener{},
	}}}).Seal()
	changes++
	if got := told(); got != rules {
		t.Errorf("told %+v, want what the provider's view says now", got)
	}
	theirs = (&snapshot.Snapshot{}).Seal()
	changes++
	if got := told(); got != nil {
		t.Errorf("told %+v, want nothing any more", got)
	}
}
