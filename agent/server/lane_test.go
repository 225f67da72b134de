package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/lanes"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// pages are the lanes' Programs, of plain memory.
type pages struct{}

var _ lanes.Programs = pages{}

func (pages) Sizes() lane.Sizes {
	return lane.Sizes{Version: lane.Version, Lanes: 4, Routes: 4, Series: 2, CPUs: 1, Active: 3, Log: os.Getpagesize()}
}

func (pages) Files() ([]*os.File, error) {
	files := make([]*os.File, lane.Files)
	for i := range files {
		fd, err := unix.MemfdCreate("lane", unix.MFD_CLOEXEC)
		if err == nil {
			err = unix.Ftruncate(fd, 1<<20)
		}
		if err != nil {
			return nil, err
		}
		files[i] = os.NewFile(uintptr(fd), "lane")
	}
	return files, nil
}

func (pages) Workload(uint64, bool) error  { return nil }
func (pages) Workloads() ([]uint64, error) { return nil, nil }
func (pages) Mark(int) error               { return nil }
func (pages) Close() error                 { return nil }

// withLanes is an office that has lanes.
func withLanes(o *office) {
	l := lanes.New(lanes.Options{
		Choice: lanes.On, Log: slog.New(slog.DiscardHandler), Open: func() (lanes.Programs, error) { return pages{}, nil },
		Build:    func() (string, bool, error) { return "", true, nil },
		Conflict: func() string { return "" },
		Workloads: func() ([]*enroll.Workload, <-chan struct{}) {
			return o.pods.Workloads()
		},
	})
	ctx, cancel := context.WithCancel(o.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx, time.Hour) }()
	l.Decide(ctx)
	o.Cleanup(func() {
		cancel()
		<-done
		if err := l.Close(); err != nil {
			o.Error(err)
		}
	})
	o.server.Lanes = l
	o.server.Dialer.UseLanes(l)
}

// heir is a proxy that adopts lanes, but not those with number 9.
type heir struct{ *proxy }

var _ handoff.Adopter = heir{}

func (h heir) Lane(l *handoff.Lane, files []*os.File) error {
	for _, f := range files {
		f.Close()
	}
	h.log <- fmt.Sprintf("lane %d %d", l.Number, len(files))
	if l.Number == 9 {
		return errors.New("no room")
	}
	return nil
}

// run runs a client until stop; the agent has seen its end when stop returns.
func run(t *testing.T, o *office, h handoff.Handler) (client *handoff.Client, stop func()) {
	t.Helper()
	client = handoff.NewClient(o.path, "node", h, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = client.Run(ctx) }()
	stop = func() {
		cancel()
		<-done
		client.Close()
		for deadline := time.Now().Add(30 * time.Second); o.server.proxy() != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the agent does not see that the proxy is gone")
			}
		}
	}
	t.Cleanup(func() { cancel(); <-done; client.Close() })
	return client, stop
}

// connection makes a TCP connection: the mesh's descriptor, and the other end.
func connection(t *testing.T) (near *os.File, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	near, err = c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

func ended(t *testing.T, c net.Conn, want bool) {
	t.Helper()
	wait := 30 * time.Second
	if !want {
		wait = 20 * time.Millisecond
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	_, err := c.Read(make([]byte, 1))
	if is := errors.Is(err, io.EOF); is != want {
		t.Errorf("ended: %t (%v), want %t", is, err, want)
	}
}

// TestServerTellsLanes: the proxy is told of lanes before it is told of pods, with the files
// once, and again when the mode changes; an agent that yields has its proxy close them.
func TestServerTellsLanes(t *testing.T) {
	o := open(t, os.Getuid(), withLanes)
	a, _ := netnstest.Pods(t)
	o.apply(describe("a", a, "10.97.0.1"))
	p := newProxy()
	_, stop := run(t, o, p)
	p.expect(t, "lanes on 7", "shop/a [20880] 4", "end")
	o.server.Lanes.Choose(lanes.Observe)
	p.expect(t, "lanes observe 0")
	o.server.Lanes.Choose(lanes.On)
	p.expect(t, "lanes on 0")
	o.server.Yield()
	for range 2 { // they are told by two who do not wait for each other
		if got := <-p.log; got != "yield" && got != "lanes off 0" {
			t.Errorf("told %q", got)
		}
	}
	stop()
	next := newProxy()
	_, stop = run(t, o, next)
	next.expect(t, "yield", "lanes off 0", "shop/a [20880] 0", "end")
	stop()
}

// TestServerKeepsLanes: connections of a lane outlive the proxy, and are given to the next
// one; what that one refuses ends, and so do lanes of pods that left. A proxy that lets go
// of one, or comes back with its own, ends it too.
func TestServerKeepsLanes(t *testing.T) {
	o := open(t, os.Getuid(), withLanes)
	a, _ := netnstest.Pods(t)
	pod := describe("a", a, "10.97.0.1")
	o.apply(pod)
	first := newProxy()
	client, stop := run(t, o, first)
	first.expect(t, "lanes on 7", "shop/a [20880] 4", "end")
	number := o.server.Lanes.Offer(lanes.Proxy{Instance: o.server.proxy().lanes.proxy.Instance}).Lanes.Maps
	ends := make(map[uint32]net.Conn)
	give := func(client *handoff.Client, number uint32, maps uint64, uid string) {
		t.Helper()
		near, far := connection(t)
		defer near.Close() // only what is kept counts
		to := netip.MustParseAddrPort("10.97.0.2:20880")
		l := &handoff.Lane{Number: number, Maps: maps, Workload: uid, Destination: to, Consumer: to}
		if err := client.Lane(l, int(near.Fd())); err != nil {
			t.Fatal(err)
		}
		ends[number] = far
	}
	give(client, 1, number, "shop/a")
	give(client, 2, number, "shop/a")
	give(client, 3, number, "shop/gone")
	give(client, 4, number+1, "shop/a")
	give(client, 9, number, "shop/a")
	if err := client.LaneGone(2); err != nil {
		t.Fatal(err)
	}
	stop()

	second := newProxy()
	client, stop = run(t, o, heir{second})
	second.expect(t, "lanes on 7", "shop/a [20880] 4", "lane 1 1", "lane 9 1", "end")
	for number, want := range map[uint32]bool{1: false, 2: true, 3: true, 4: true, 9: true} {
		ended(t, ends[number], want)
	}
	if err := client.LaneGone(1); err != nil {
		t.Fatal(err)
	}
	ended(t, ends[1], true)
	stop()
	if n, _ := o.server.Lanes.Kept.Count(); n != 0 {
		t.Errorf("%d are kept", n)
	}
}
