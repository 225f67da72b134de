package server

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/handoff"
)

// TestServerYields: the proxy that is connected is told to yield, and so is one that
// comes, before it is told of a pod; it may go on dialling.
func TestServerYields(t *testing.T) {
	o := open(t, os.Getuid())
	a, b := netnstest.Pods(t)
	o.apply(describe("a", a, "10.97.0.1"))
	setTrap(t, b, "10.97.0.2:20880")
	p := newProxy()
	client, _ := connect(t, o.path, p)
	p.expect(t, "shop/a [20880] 4", "end")
	o.server.Yield()
	p.expect(t, "yield")
	ask := handoff.Dial{Workload: "shop/a", Destination: netip.MustParseAddrPort("10.97.0.2:20880")}
	fd, err := client.Dial(t.Context(), ask)
	if err != nil {
		t.Errorf("the proxy that yielded cannot dial: %v", err)
	}
	closeFD(fd)
	next := newProxy()
	connect(t, o.path, next)
	next.expect(t, "yield", "shop/a [20880] 0", "end")

	o.server.Dialer.Halt()
	_, err = o.server.Dialer.dial(&ask)
	if refused, ok := errors.AsType[*handoff.DialError](err); !ok || refused.Code != handoff.DialExhausted {
		t.Errorf("a halted dialer: %v", err)
	}
}

// TestServerFreezes: what a proxy publishes after Freeze is acknowledged and not in
// force. The agent serves when table 0 was put in force, not before.
func TestServerFreezes(t *testing.T) {
	o := open(t, os.Getuid())
	p := newProxy()
	client, _ := connect(t, o.path, p)
	p.expect(t, "end")
	publish := func(generation uint64, table uint32) {
		t.Helper()
		if err := client.Destinations(t.Context(), generation, handoff.DestinationTable{Table: table, Workloads: nil,
			Entries: []handoff.Destination{{Prefix: netip.MustParsePrefix("10.0.0.1/32")}}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, 1)
	select {
	case <-o.server.Served():
		t.Error("it serves before all tables are in force")
	default:
	}
	publish(2, 0)
	select {
	case <-o.server.Served():
	case <-time.After(30 * time.Second):
		t.Error("it does not serve")
	}
	o.server.Freeze()
	publish(3, 0)
	if generation, _ := o.stub.last(); generation != 2 {
		t.Errorf("generation %d is in force", generation)
	}
}
