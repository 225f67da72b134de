package server

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/served"
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

// TestServerLends: a proxy is lent the note of whose proxy serves, and reads in it that
// another agent's does.
func TestServerLends(t *testing.T) {
	dir := t.TempDir()
	var notes [2]*served.Note
	for i := range notes {
		var err error
		if notes[i], err = served.Open(dir, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		defer notes[i].Close()
	}
	o := open(t, os.Getuid(), func(o *office) { o.server.Note = notes[0] })
	p := newProxy()
	client, stop := run(t, o, p)
	p.expect(t, "end")
	if err := notes[1].Write(); err != nil {
		t.Fatal(err)
	}
	stop()
	if !client.Superseded() {
		t.Error("the proxy does not know that another agent's serves")
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
