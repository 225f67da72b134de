package lanes

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// offered says what a proxy is offered: "" or the mode with its reason, and with files.
func (n *node) offered(p Proxy, mode handoff.LaneMode, why string, files bool) uint64 {
	n.t.Helper()
	o := n.Offer(p)
	if o.Lanes.Mode != mode || o.Lanes.Why != why || (len(o.Files) == lane.Files) != files ||
		files != (o.Lanes.Maps != 0 && o.Lanes.Sizes != lane.Sizes{}) {
		n.t.Errorf("offered %+v with %d files, want %s, %q, %t", o.Lanes, len(o.Files), mode, why, files)
	}
	return o.Lanes.Maps
}

// take puts a lane into the memory, or takes it out.
func (n *node) take(in bool) {
	class := uint32(0)
	if in {
		class = 5
	}
	atomic.StoreUint32(&n.shared.memory.Lanes[2].Class, class)
}

const busy = "a proxy that ends has lanes still"

// TestOffer: one proxy at a time has the memory, and the next one when lanes of the one
// before are closed, or that one is dead.
func TestOffer(t *testing.T) {
	n := newNode(t, On, nil)
	n.offered(Proxy{Instance: 1}, handoff.LaneOff, "not decided yet", false)
	n.Decide(t.Context())
	maps := n.offered(Proxy{Instance: 1}, handoff.LaneOn, "", true)
	n.offered(Proxy{Instance: 1}, handoff.LaneOn, "", true)
	n.take(true)
	if s := n.Status(); s.Open != 1 {
		t.Errorf("%d lanes are open", s.Open)
	}

	// Another one replaces it.
	n.offered(Proxy{Instance: 2}, handoff.LaneOff, "the proxy that this one replaces has lanes still", false)
	n.Gone(Proxy{Instance: 1}, true)
	n.offered(Proxy{Instance: 2}, handoff.LaneOff, busy, false)
	n.take(false)
	n.offered(Proxy{Instance: 2}, handoff.LaneOn, "", true)

	// That one dies: nobody closes its lanes.
	n.take(true)
	n.Refused("it was of no use")
	if n.Problem() == "" {
		t.Error("a refusal is no problem")
	}
	n.Gone(Proxy{Instance: 2}, false)
	n.Gone(Proxy{Instance: 2}, false)
	n.offered(Proxy{Instance: 3}, handoff.LaneOn, "", true)
	if p := n.Problem(); p != "" {
		t.Errorf("the refusal of the one before: %s", p)
	}
	n.Choose(Observe)
	n.Decide(t.Context())
	if got := n.offered(Proxy{Instance: 3}, handoff.LaneObserve, "it was chosen", true); got != maps {
		t.Errorf("maps %d, before %d", got, maps)
	}
}

// TestInherited: lanes that were open when the agent began are a proxy's that says so; or of
// one that another agent serves, and the next one waits, but not for ever.
func TestInherited(t *testing.T) {
	begin := func(t *testing.T) *node {
		n := newNode(t, On, nil)
		n.Decide(t.Context())
		n.take(true)
		n.lease.inherited = n.shared.inUse() > 0 // as open finds it
		return n
	}
	t.Run("it comes back", func(t *testing.T) {
		n := begin(t)
		n.offered(Proxy{Instance: 1, Maps: n.shared.number}, handoff.LaneOn, "", true)
	})
	t.Run("it closes them", func(t *testing.T) {
		n := begin(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); n.Run(ctx, time.Hour) }()
		defer func() { cancel(); <-done }()
		next := Proxy{Instance: 2, Maps: n.shared.number + 1}
		o := n.Offer(next)
		if o.Lanes.Why != busy {
			t.Errorf("offered %+v", o.Lanes)
		}
		n.take(false)
		for o.Lanes.Mode != handoff.LaneOn {
			select {
			case <-o.Changed:
				o = n.Offer(next)
			case <-time.After(30 * time.Second):
				t.Fatal("who waits is told nothing")
			}
		}
	})
	t.Run("it does not", func(t *testing.T) {
		n := begin(t)
		n.offered(Proxy{Instance: 2}, handoff.LaneOff, busy, false)
		n.lease.began = time.Now().Add(-leaseEnds)
		n.offered(Proxy{Instance: 2}, handoff.LaneOn, "", true)
	})
}

// TestDrain: it ends when the proxy has closed its lanes, and when that takes too long.
func TestDrain(t *testing.T) {
	n := newNode(t, On, nil)
	n.Decide(t.Context())
	n.take(true)
	n.Drain(t.Context(), time.Millisecond)
	n.want(handoff.LaneOff, "chosen")
	done := make(chan struct{})
	go func() { defer close(done); n.Drain(t.Context(), time.Hour) }()
	n.take(false)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("it waits although no lane is open")
	}
}
