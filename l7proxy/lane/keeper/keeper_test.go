package keeper

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/sock/socktest"
	"github.com/dubway/dubway/l7proxy/workload"
)

// agent notes what it is told, and which sockets it got.
type agent struct {
	said  []handoff.Lane
	ports [][]int
	gone  []uint32
	err   error
}

func (a *agent) Lane(l *handoff.Lane, fds ...int) error {
	var ports []int
	for _, fd := range fds {
		at, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		ports = append(ports, at.(*unix.SockaddrInet4).Port)
	}
	a.said, a.ports = append(a.said, *l), append(a.ports, ports)
	return a.err
}

func (a *agent) LaneGone(number uint32) error {
	a.gone = append(a.gone, number)
	return nil
}

func dial(t *testing.T) (*sock.Conn, int) {
	t.Helper()
	c, _ := socktest.Pair(t)
	return c, int(c.Local().Port())
}

// TestKeep: the agent gets the sockets in the order in which it is told of them, of those
// that there are still.
func TestKeep(t *testing.T) {
	pods := workload.NewRegistry()
	for uid, at := range map[string]string{"one": "10.0.0.1", "two": "10.0.0.2"} {
		pods.Put(workload.New(handoff.Workload{UID: uid, Addresses: []netip.Addr{netip.MustParseAddr(at)}}))
	}
	consumer, c := dial(t)
	first, one := dial(t)
	second, two := dial(t)
	l := Lane{
		Number: 3, Workload: "me", Destination: netip.MustParseAddrPort("10.1.0.1:20880"), Consumer: netip.MustParseAddrPort("10.0.0.9:999"),
		Conn: consumer, Ends: []End{
			{5, netip.MustParseAddrPort("10.0.0.1:20880"), first}, {6, netip.MustParseAddrPort("10.0.0.3:20880"), first},
			{0, netip.MustParseAddrPort("10.0.0.2:20880"), second},
		},
	}
	a := &agent{}
	k := New(a, func() uint64 { return 42 }, pods)
	if err := k.Keep(&l); err != nil {
		t.Fatal(err)
	}
	want := []handoff.LaneEnd{
		{Number: 5, Workload: "one", Address: l.Ends[0].Address}, {Number: 0, Workload: "two", Address: l.Ends[2].Address},
	}
	if s := &a.said[0]; s.Number != 3 || s.Maps != 42 || s.Workload != "me" || !slices.Equal(s.Ends, want) {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(a.ports[0], []int{c, one, two}) {
		t.Errorf("sockets of ports %v, not of %d, %d, %d", a.ports[0], c, one, two)
	}

	_ = first.Close()
	a.err = handoff.ErrNotConnected
	if err := k.Keep(&l); !errors.Is(err, handoff.ErrNotConnected) {
		t.Errorf("%v", err)
	}
	if !slices.Equal(a.ports[1], []int{c, two}) {
		t.Errorf("with one closed: %v", a.ports[1])
	}
	_ = consumer.Close()
	if err := k.Keep(&l); err == nil || len(a.said) != 2 {
		t.Error("a lane without a consumer is kept")
	}
	if k.LetGo(3); !slices.Equal(a.gone, []uint32{3}) {
		t.Errorf("%v", a.gone)
	}
}
