package server

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/handoff"
)

// TestHostileDial: a hostile program in the proxy's place asks for what it must
// not have, where somebody listens on every such address. Nobody is reached.
func TestHostileDial(t *testing.T) {
	a, b := netnstest.Pods(t)
	stub := &stub{}
	w := &enroll.Workload{Pod: describe("a", a, "10.97.0.1", "fd97::1"), Netns: a.Namespace}
	d := NewDialer()
	d.Use(stub, func(uid string) *enroll.Workload {
		if uid == w.Pod.UID {
			return w
		}
		return nil
	})
	d.node.Store(&map[netip.Addr]bool{netip.MustParseAddr("10.97.0.254"): true})

	own := setTrap(t, a, "0.0.0.0:20880") // the application
	own6 := setTrap(t, a, "[::]:20880")
	peer := setTrap(t, b, "10.97.0.2:20880")
	peer6 := setTrap(t, b, "[fd97::2]:20880")
	forbidden := map[string]*trap{
		"debug port":   setTrap(t, a, "0.0.0.0:6060"),
		"debug port 6": setTrap(t, a, "[::]:6060"),
		"metadata":     setTrap(t, b, "169.254.169.254:80"),
		"node":         setTrap(t, b, "10.97.0.254:10250"),
	}
	for _, c := range []struct {
		to   string
		code handoff.DialCode
		trap *trap // who is reached, if it is allowed
	}{
		{"10.97.0.1:20880", "", own},
		{"[::ffff:10.97.0.1]:20880", "", own},
		{"[fd97::1]:20880", "", own6},
		{"10.97.0.2:20880", "", peer},
		{"[fd97::2]:20880", "", peer6},
		{"10.97.0.1:6060", handoff.DialDenied, nil},
		{"[::ffff:10.97.0.1]:6060", handoff.DialDenied, nil},
		{"[fd97::1]:6060", handoff.DialDenied, nil},
		{"127.0.0.1:6060", handoff.DialDenied, nil},
		{"127.0.0.1:20880", handoff.DialDenied, nil},
		{"127.1.2.3:6060", handoff.DialDenied, nil},
		{"[::1]:6060", handoff.DialDenied, nil},
		{"[::ffff:127.0.0.1]:6060", handoff.DialDenied, nil},
		{"0.0.0.0:6060", handoff.DialDenied, nil},
		{"[::]:6060", handoff.DialDenied, nil},
		{"10.97.0.99:6060", handoff.DialDenied, nil}, // the pod's, not described
		{"10.97.0.99:20880", handoff.DialDenied, nil},
		{"10.97.0.255:6060", handoff.DialDenied, nil},
		{"169.254.169.254:80", handoff.DialDenied, nil},
		{"[::ffff:169.254.169.254]:80", handoff.DialDenied, nil},
		{"10.97.0.254:10250", handoff.DialDenied, nil},
		{"[::ffff:10.97.0.254]:10250", handoff.DialDenied, nil},
		{"192.0.2.1:80", handoff.DialFailed, nil}, // no route
	} {
		before := 0
		if c.trap != nil {
			before = c.trap.count()
		}
		fd, err := d.dial(&handoff.Dial{Workload: w.Pod.UID, Destination: netip.MustParseAddrPort(c.to)})
		var refused *handoff.DialError
		errors.As(err, &refused)
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", c.to, err)
		case c.code == "":
			c.trap.wait(t, before+1)
			unix.Close(fd)
		case refused == nil || refused.Code != c.code || fd != -1:
			t.Errorf("%s: %d, %v; want %s", c.to, fd, err, c.code)
		}
	}
	_, err := d.dial(&handoff.Dial{Workload: "shop/b", Destination: netip.MustParseAddrPort("10.97.0.2:80")})
	var refused *handoff.DialError
	if !errors.As(err, &refused) || refused.Code != handoff.DialUnknown {
		t.Errorf("unknown workload: %v", err)
	}
	time.Sleep(50 * time.Millisecond)
	for name, c := range forbidden {
		if n := c.count(); n != 0 {
			t.Errorf("%s was reached %d times", name, n)
		}
	}
}

// TestDialClient: the peer that an application is shown is only honoured for the
// pod itself.
func TestDialClient(t *testing.T) {
	a, b := netnstest.Pods(t)
	stub := &stub{}
	w := &enroll.Workload{Pod: describe("a", a, "10.97.0.1"), Netns: a.Namespace}
	d := NewDialer()
	d.Use(stub, func(string) *enroll.Workload { return w })
	setTrap(t, a, "10.97.0.1:20880")
	setTrap(t, b, "10.97.0.2:20880")
	client := netip.MustParseAddrPort("10.97.0.7:4711")
	for _, to := range []string{"10.97.0.1:20880", "10.97.0.2:20880"} {
		fd, err := d.dial(&handoff.Dial{Workload: "shop/a", Destination: netip.MustParseAddrPort(to), Client: client})
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	if want := []netip.AddrPort{client, {}}; len(stub.clients) != 2 || stub.clients[0] != want[0] || stub.clients[1] != want[1] {
		t.Errorf("marked with %v, want %v", stub.clients, want)
	}
}

func TestRefreshNode(t *testing.T) {
	d := NewDialer()
	fixed := netip.MustParseAddr("192.0.2.7")
	if err := d.RefreshNode([]netip.Addr{fixed}); err != nil {
		t.Fatal(err)
	}
	node := *d.node.Load()
	if !node[fixed] || !node[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("the node has %v", node)
	}
}

// marker is a LaneMarker that counts.
type marker struct {
	marked int
	fail   error
}

func (m *marker) MarkLane(*enroll.Workload, int) error {
	if m.fail == nil {
		m.marked++
	}
	return m.fail
}

// TestDialLane: a lane's end is marked as the mesh's own and as a lane's, only at the pod's
// own address. What cannot be marked is denied, and nobody is reached.
func TestDialLane(t *testing.T) {
	a, b := netnstest.Pods(t)
	stub, lanes := &stub{}, &marker{}
	w := &enroll.Workload{Pod: describe("a", a, "10.97.0.1"), Netns: a.Namespace}
	d := NewDialer()
	d.Use(stub, func(string) *enroll.Workload { return w })
	own, peer := setTrap(t, a, "10.97.0.1:20880"), setTrap(t, b, "10.97.0.2:20880")
	dial := func(to string, code handoff.DialCode, want string) {
		t.Helper()
		fd, err := d.dial(&handoff.Dial{Workload: "shop/a", Destination: netip.MustParseAddrPort(to), Lane: true})
		if code == "" {
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			unix.Close(fd)
			return
		}
		var refused *handoff.DialError
		if !errors.As(err, &refused) || refused.Code != code || !strings.Contains(refused.Text, want) || fd != -1 {
			t.Errorf("%s: %d, %v; want %s, %q", to, fd, err, code, want)
		}
	}
	dial("10.97.0.1:20880", handoff.DialDenied, "where there are lanes")
	d.UseLanes(lanes)
	dial("10.97.0.1:20880", "", "")
	own.wait(t, 1)
	dial("10.97.0.2:20880", handoff.DialDenied, "at its own address")
	lanes.fail = errors.New("the pod wants none")
	dial("10.97.0.1:20880", handoff.DialDenied, "the pod wants none")
	if lanes.marked != 1 || len(stub.clients) != 2 || own.count() != 1 || peer.count() != 0 {
		t.Errorf("%d marked for lanes, %d for the mesh; %d and %d connections", lanes.marked, len(stub.clients), own.count(), peer.count())
	}
}
