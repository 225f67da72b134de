package kept

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/netns"
	"github.com/dubway/dubway/internal/handoff"
)

// sockets gives duplicates of both ends of a TCP connection, and the first end itself.
func sockets(t *testing.T) ([]*netns.Socket, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	t.Cleanup(func() { near.Close() })
	far, err := l.Accept()
	must(t, err)
	defer far.Close()
	return []*netns.Socket{duplicate(t, far.(*net.TCPConn))}, near
}

func duplicate(t *testing.T, c interface{ File() (*os.File, error) }) *netns.Socket {
	t.Helper()
	f, err := c.File()
	must(t, err)
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return netns.Keep(fd)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func describe(number uint32, uid string) *handoff.Lane {
	return &handoff.Lane{Number: number, Maps: 1, Workload: uid, Destination: netip.MustParseAddrPort("10.0.0.2:20880")}
}

// closed tells whether the other end of a connection has closed it.
func closed(t *testing.T, c net.Conn, want bool) {
	t.Helper()
	wait := 30 * time.Second
	if !want {
		wait = 20 * time.Millisecond
	}
	must(t, c.SetReadDeadline(time.Now().Add(wait)))
	_, err := c.Read(make([]byte, 1))
	if is := errors.Is(err, io.EOF); is != want {
		t.Errorf("closed: %t (%v), want %t", is, err, want)
	}
}

// TestLife: a lane's connections outlive its owner, go to the next one, and end when that
// one says so; a number that is taken anew, a workload that leaves and an owner that lives
// on end them too.
func TestLife(t *testing.T) {
	var k Lanes
	t.Cleanup(k.Close)
	ends := make(map[uint32]net.Conn)
	put := func(owner uint64, number uint32, uid string) {
		t.Helper()
		all, near := sockets(t)
		must(t, k.Put(owner, describe(number, uid), all))
		ends[number] = near
	}
	count := func(all, left int) {
		t.Helper()
		if a, l := k.Count(); a != all || l != left {
			t.Errorf("%d lanes, %d left; want %d, %d", a, l, all, left)
		}
	}
	for number := range uint32(5) {
		put(7, number, fmt.Sprintf("shop/%d", number))
	}
	if got := k.Inherit(8); len(got) != 0 {
		t.Errorf("who comes beside the owner got %d lanes", len(got))
	}
	old := ends[4]
	put(7, 4, "shop/4")
	closed(t, old, true)
	k.Drop(8, 0) // not its own
	k.Drop(7, 1)
	closed(t, ends[0], false)
	closed(t, ends[1], true)
	k.Leave(7, false)
	count(4, 4)

	got := k.Inherit(8)
	count(4, 0)
	if len(got) != 4 || got[0].Number != 0 || got[3].Workload != "shop/4" || len(got[1].Sockets) != 1 {
		t.Fatalf("inherited %+v", got)
	}
	for _, l := range got {
		(&held{sockets: l.Sockets}).close() // what goes to a proxy are duplicates
	}
	closed(t, ends[2], false)
	k.Drop(8, 2) // refused
	closed(t, ends[2], true)
	k.Forget(func(uid string) bool { return uid != "shop/3" })
	closed(t, ends[3], true)
	put(9, 3, "shop/3")
	k.Begin(8) // it lost its connection, and tells anew of what it has
	closed(t, ends[0], true)
	closed(t, ends[4], true)
	k.Leave(9, true)
	closed(t, ends[3], true)
	count(0, 0)
}

// TestPutRefuses: what is no connection is not kept, nor what is too much; it is closed, and
// so is what had its number.
func TestPutRefuses(t *testing.T) {
	var k Lanes
	t.Cleanup(k.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	for name, s := range map[string]*netns.Socket{"listener": duplicate(t, listener.(*net.TCPListener)), "pipe": netns.Keep(fd)} {
		all, near := sockets(t)
		must(t, k.Put(1, describe(0, "shop/a"), all))
		if err := k.Put(1, describe(0, "shop/a"), []*netns.Socket{s}); err == nil {
			t.Errorf("a %s was kept", name)
		}
		closed(t, near, true)
		if _, err := s.Duplicate(); err == nil {
			t.Errorf("the %s is open", name)
		}
	}
	for number := range uint32(maxLanes) {
		if err := k.Put(1, describe(number, fmt.Sprint(number%4)), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Put(1, describe(maxLanes, "shop/a"), nil); err == nil || !strings.Contains(err.Error(), "1024 are kept") {
		t.Errorf("one more than all: %v", err)
	}
	k.Close()
	for number := range uint32(maxPerWorkload) {
		must(t, k.Put(1, describe(number, "shop/a"), nil))
	}
	if err := k.Put(1, describe(maxPerWorkload, "shop/a"), nil); err == nil || !strings.Contains(err.Error(), "of that workload") {
		t.Errorf("one more than a workload's: %v", err)
	}
	must(t, k.Put(1, describe(maxPerWorkload, "shop/b"), nil))
}
