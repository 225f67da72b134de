package breaker

import (
	"testing"

	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// endpoint counts for itself.
type endpoint struct {
	herald.Endpoint // nil: nothing else is asked

	active int
}

func (e *endpoint) Begin()          { e.active++ }
func (e *endpoint) End(rpc.Outcome) { e.active-- }

func TestBreaker(t *testing.T) {
	var all Breakers
	a := all.Of("shop/a", "c")
	if all.Of("shop/a", "c") != a || all.Of("shop/b", "c") == a || all.Of("shop/a", "d") == a {
		t.Error("a workload has one breaker for each cluster, and shares none")
	}
	two := uint32(2)
	e := &endpoint{}
	g := &Guarded{Endpoint: e, Breaker: a}
	if a.Full(&two, 1) || !a.Full(&two, 2) || a.Full(nil, 1<<30) {
		t.Error("what is about to be sent does not count")
	}
	g.Begin()
	g.Begin()
	if !a.Full(&two, 0) || a.Requests() != 2 || e.active != 2 {
		t.Errorf("%d in flight, the endpoint knows of %d", a.Requests(), e.active)
	}
	g.End(rpc.OutcomeOK)
	if a.Full(&two, 0) || e.active != 1 {
		t.Error("what has ended counts")
	}
	for i, want := range []bool{true, true, false} {
		if a.Connect(&two) != want {
			t.Errorf("connection %d of 2: %v", i+1, !want)
		}
	}
	a.Disconnect()
	if !a.Connect(&two) {
		t.Error("a connection that has ended counts")
	}
	all.Forget("shop/a")
	if all.Of("shop/a", "c") == a {
		t.Error("a workload that is gone is remembered")
	}
}
