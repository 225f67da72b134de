package plan

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// TestDirect: a route that answers by itself leads nowhere, whatever was dialled, and its
// answer is the request's.
func TestDirect(t *testing.T) {
	r := newRig(t, pod1, pod1)
	says := &snapshot.Abort{Status: 40, Message: "closed"}
	route := r.snap.Routes["r"].VirtualHosts[0].Routes[0]
	route.Action = snapshot.Action{Direct: says}
	r.snap = r.snap.Seal()
	h, body := call("echo")
	for range 2 { // the second is remembered
		e, why := r.Edge(h, body)
		if why != rpc.WhyDirect || e.Direct != says {
			t.Fatalf("why %v, answer %+v", why, e.Direct)
		}
		if e.Remote.Route != "all" || e.Remote.Cluster != "" || e.Remote.Endpoint.IsValid() {
			t.Errorf("the record's call is %+v", e.Remote)
		}
	}
	// What asks about the very provider goes there nevertheless.
	h, body = call("$echo")
	if e, why := r.Edge(h, body); why != rpc.WhyNone || e.Remote.Endpoint != pod1 {
		t.Errorf("an echo: %v, to %v", why, e.Remote.Endpoint)
	}
}
