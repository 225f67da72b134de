package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/authority"
	"github.com/dubway/dubway/agent/datapath"
	"github.com/dubway/dubway/agent/enroll"
	"github.com/dubway/dubway/agent/netns/netnstest"
	"github.com/dubway/dubway/agent/pods"
	"github.com/dubway/dubway/agent/table"
	"github.com/dubway/dubway/internal/handoff"
)

// office is a server over a stub datapath, at a real socket.
type office struct {
	*testing.T

	stub   *stub
	server *Server
	pods   *enroll.Enroller
	path   string
	cgroup string
}

func open(t *testing.T, proxyUID int, change ...func(*office)) *office {
	t.Helper()
	o := &office{T: t, stub: &stub{}, path: filepath.Join(t.TempDir(), "handoff.sock"), cgroup: cgroupRoot(t)}
	log := slog.New(slog.DiscardHandler)
	tables := table.New(o.stub, datapath.Steering{}, log)
	e, err := enroll.New(enroll.Options{Datapath: o.stub, Tables: tables, Cgroup: o.cgroup, Interval: time.Hour, Retry: time.Hour, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	o.pods = e
	dialer := NewDialer()
	dialer.Use(o.stub, e.Workload)
	o.server = New(&Options{Node: "node", ProxyUID: proxyUID, Roster: e, Dialer: dialer,
		Ledger: tables, Counts: NewCounts(), Log: log, Desk: authority.NewDesk(nil, e.Runs, log)})
	for _, f := range change {
		f(o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.server.Run(ctx, o.path) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		e.Close()
	})
	for range 6000 {
		if info, err := os.Stat(o.path); err == nil && info.Mode().Perm() == 0o600 {
			return o
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no socket")
	return nil
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return root
		}
	}
	t.Skip("no cgroup2 hierarchy")
	return ""
}

func (o *office) apply(list ...*pods.Pod) {
	for _, p := range list {
		p.Cgroup = o.cgroup
	}
	o.pods.Apply(pods.Set{Pods: list})
}

// greet connects by hand and says what a new proxy says.
func (o *office) greet() *handoff.Conn {
	o.Helper()
	conn, err := handoff.Connect(o.Context(), o.path)
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { conn.Close() })
	for _, m := range []*handoff.Message{
		{Kind: handoff.KindHello, Hello: &handoff.Hello{Version: handoff.Version, Release: "test"}},
		{Kind: handoff.KindSnapshotEnd},
	} {
		if err := conn.Send(m); err != nil {
			o.Fatal(err)
		}
	}
	return conn
}

// receive reads the next message and closes what comes with it.
func (o *office) receive(conn *handoff.Conn) *handoff.Message {
	o.Helper()
	m, fds, err := conn.Receive()
	if err != nil {
		o.Fatal(err)
	}
	closeAll(keep(fds))
	return m
}

func (o *office) kinds(conn *handoff.Conn, want ...handoff.Kind) {
	o.Helper()
	for _, kind := range want {
		if m := o.receive(conn); m.Kind != kind {
			o.Fatalf("got %s, want %s", m.Kind, kind)
		}
	}
}

// ended waits for the agent to close the connection.
func (o *office) ended(conn *handoff.Conn) {
	o.Helper()
	timeout := time.AfterFunc(30*time.Second, func() { conn.Close(); o.Error("the connection goes on") })
	defer timeout.Stop()
	for {
		_, fds, err := conn.Receive()
		if err != nil {
			return
		}
		closeAll(keep(fds))
	}
}

// proxy is a Handler that keeps what it is told.
type proxy struct {
	mu    sync.Mutex
	files map[string][]*os.File
	log   chan string
}

func newProxy() *proxy {
	return &proxy{files: make(map[string][]*os.File), log: make(chan string, 100)}
}

func (p *proxy) Workload(w *handoff.Workload, files []*os.File) error {
	p.drop(w.UID)
	p.mu.Lock()
	p.files[w.UID] = files
	p.mu.Unlock()
	p.log <- fmt.Sprintf("%s %v %d", w.UID, w.Ports, len(files))
	return nil
}

func (p *proxy) WorkloadGone(uid string) error { p.drop(uid); p.log <- uid + " gone"; return nil }

func (p *proxy) SnapshotEnd() error { p.log <- "end"; return nil }

func (p *proxy) Yield() { p.log <- "yield" }

func (p *proxy) Lanes(l *handoff.Lanes, files []*os.File) error {
	for _, f := range files {
		f.Close()
	}
	p.log <- fmt.Sprintf("lanes %s %d", l.Mode, len(files))
	return nil
}

func (p *proxy) drop(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.files[uid] {
		f.Close()
	}
	delete(p.files, uid)
}

func (p *proxy) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-p.log:
			if got != w {
				t.Fatalf("proxy was told %q, want %q", got, w)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("proxy was not told %q", w)
		}
	}
}

// connect runs a client until the test ends; ended waits for an earlier end.
func connect(t *testing.T, path string, p *proxy) (client *handoff.Client, ended func() error) {
	t.Helper()
	client = handoff.NewClient(path, "node", p, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- client.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		for range done {
		}
		client.Close()
	})
	return client, func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("it goes on")
		}
	}
}

func TestServerTells(t *testing.T) {
	o := open(t, os.Getuid())
	a, b := netnstest.New(t), netnstest.New(t)
	o.apply(describe("a", a, "10.97.0.1"))
	p := newProxy()
	connect(t, o.path, p)
	p.expect(t, "shop/a [20880] 4", "end")
	o.apply(describe("a", a, "10.97.0.1"), describe("b", b, "10.97.0.2"))
	p.expect(t, "shop/b [20880] 4")
	changed := describe("b", b, "10.97.0.2")
	changed.Ports = []uint16{1}
	o.apply(changed)
	p.expect(t, "shop/a gone", "shop/b [1] 4")
	if s := o.server.proxy(); s == nil || len(s.refusals()) != 0 {
		t.Errorf("session %v", s)
	}
}

func TestServerReplaces(t *testing.T) {
	o := open(t, os.Getuid())
	old, next := newProxy(), newProxy()
	_, ended := connect(t, o.path, old)
	old.expect(t, "end")
	client, _ := connect(t, o.path, next)
	next.expect(t, "end")
	if err := ended(); !errors.Is(err, handoff.ErrReplaced) {
		t.Errorf("the older proxy ended with %v", err)
	}
	if err := client.Destinations(t.Context(), 1, handoff.DestinationTable{}); err != nil {
		t.Errorf("the newer proxy: %v", err)
	}
}

// TestServerReplacedIsHeardNoMore: what the older proxy still has to say does
// not undo what the newer one published.
func TestServerReplacedIsHeardNoMore(t *testing.T) {
	o := open(t, os.Getuid())
	old := o.greet()
	o.kinds(old, handoff.KindHello, handoff.KindSnapshotEnd)
	p := newProxy()
	connect(t, o.path, p)
	p.expect(t, "end")
	o.kinds(old, handoff.KindGoodbye)
	late := &handoff.Destinations{Generation: 9, Last: true}
	if err := old.Send(&handoff.Message{Kind: handoff.KindDestinations, Seq: 1, Destinations: late}); err != nil {
		t.Fatal(err)
	}
	if m := o.receive(old); m.Ack == nil || !strings.Contains(m.Ack.Error, "newer proxy") {
		t.Errorf("answered with %s %+v", m.Kind, m.Ack)
	}
	if generation, _ := o.stub.last(); generation != 0 {
		t.Errorf("generation %d is in force", generation)
	}
}

// TestServerReplacedWhilePublishing: nor does what the older proxy has said just now.
func TestServerReplacedWhilePublishing(t *testing.T) {
	o := open(t, os.Getuid())
	g := &gate{make(chan struct{}), make(chan struct{})}
	o.stub.gate.Store(g)
	old := o.greet()
	o.kinds(old, handoff.KindHello, handoff.KindSnapshotEnd)
	late := &handoff.Destinations{Generation: 9, Last: true}
	if err := old.Send(&handoff.Message{Kind: handoff.KindDestinations, Seq: 1, Destinations: late}); err != nil {
		t.Fatal(err)
	}
	<-g.reached
	p := newProxy()
	client, _ := connect(t, o.path, p)
	done := make(chan error, 1)
	go func() {
		<-p.log // "end": it is served
		done <- client.Destinations(t.Context(), 10, handoff.DestinationTable{})
	}()
	select {
	case err := <-done: // the older one is overtaken
		done <- err
	case <-time.After(50 * time.Millisecond):
	}
	close(g.opens)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	o.receive(old) // its acknowledgement, or the Goodbye
	o.receive(old)
	if generation, _ := o.stub.last(); generation != 10 {
		t.Errorf("generation %d is in force, want the newer proxy's", generation)
	}
}

// TestProxyRestart: while there is no proxy, connections wait; the next proxy
// accepts them from the same sockets.
func TestProxyRestart(t *testing.T) {
	o := open(t, os.Getuid())
	ns := netnstest.New(t)
	o.apply(describe("a", ns, "10.97.0.1"))
	first := newProxy()
	conn := o.greet()
	o.kinds(conn, handoff.KindHello, handoff.KindWorkload, handoff.KindSnapshotEnd)
	conn.Close()
	waiting := make([]net.Conn, 100)
	ns.Must(func() (err error) {
		for i := range waiting {
			if waiting[i], err = net.Dial("tcp", "127.0.0.1:15001"); err != nil {
				return err
			}
			t.Cleanup(func() { waiting[i].Close() })
		}
		return nil
	})
	connect(t, o.path, first)
	first.expect(t, "shop/a [20880] 4", "end")
	l, err := net.FileListener(first.files["shop/a"][0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range waiting {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestServerRefusesUser(t *testing.T) {
	o := open(t, os.Getuid()+1)
	conn, err := handoff.Connect(t.Context(), o.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if m, _, err := conn.Receive(); err == nil {
		t.Errorf("somebody else is answered with %s", m.Kind)
	}
	if o.server.proxy() != nil {
		t.Error("somebody else is served")
	}
}

// TestServerRefusesProtocol: what no proxy says ends its connection, and a
// healthy proxy is served afterwards.
func TestServerRefusesProtocol(t *testing.T) {
	o := open(t, os.Getuid())
	part := func(generation uint64) *handoff.Message {
		return &handoff.Message{Kind: handoff.KindDestinations, Destinations: &handoff.Destinations{Generation: generation}}
	}
	for name, messages := range map[string][]*handoff.Message{
		"hello again": {{Kind: handoff.KindHello, Hello: &handoff.Hello{Version: handoff.Version}}},
		"gone":        {{Kind: handoff.KindWorkloadGone, WorkloadGone: &handoff.WorkloadGone{UID: "a"}}},
		"goodbye":     {{Kind: handoff.KindGoodbye}},
		"mixed parts": {part(1), part(2)},
		"mixed tables": {part(1), {Kind: handoff.KindDestinations,
			Destinations: &handoff.Destinations{Table: 1, Generation: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			conn := o.greet()
			o.kinds(conn, handoff.KindHello, handoff.KindSnapshotEnd)
			for _, m := range messages {
				if err := conn.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			o.ended(conn)
		})
	}
	t.Run("another version", func(t *testing.T) {
		conn, err := handoff.Connect(t.Context(), o.path)
		if err != nil {
			t.Fatal(err)
		}
		hello := &handoff.Hello{Version: handoff.Version + 1}
		if err := conn.Send(&handoff.Message{Kind: handoff.KindHello, Hello: hello}); err != nil {
			t.Fatal(err)
		}
		o.kinds(conn, handoff.KindHello)
		o.ended(conn)
	})
	p := newProxy()
	connect(t, o.path, p)
	p.expect(t, "end")
}

func TestServerDials(t *testing.T) {
	o := open(t, os.Getuid())
	a, b := netnstest.Pods(t)
	o.apply(describe("a", a, "10.97.0.1"))
	application := setTrap(t, b, "10.97.0.2:20880")
	p := newProxy()
	client, _ := connect(t, o.path, p)
	p.expect(t, "shop/a [20880] 4", "end")
	ask := handoff.Dial{Workload: "shop/a", Destination: netip.MustParseAddrPort("10.97.0.2:20880")}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			fd, err := client.Dial(t.Context(), ask)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			n, err := unix.Poll(fds, 30_000)
			for errors.Is(err, unix.EINTR) {
				n, err = unix.Poll(fds, 30_000)
			}
			if n != 1 || err != nil {
				t.Errorf("socket does not connect: %v", err)
			}
		})
	}
	wg.Wait()
	application.wait(t, 200)
	for _, c := range []struct {
		uid, to string
		code    handoff.DialCode
	}{
		{"shop/a", "127.0.0.1:80", handoff.DialDenied},
		{"shop/b", "10.97.0.2:80", handoff.DialUnknown},
		{"shop/a", "192.0.2.1:80", handoff.DialFailed},
	} {
		_, err := client.Dial(t.Context(), handoff.Dial{Workload: c.uid, Destination: netip.MustParseAddrPort(c.to)})
		var refused *handoff.DialError
		if !errors.As(err, &refused) || refused.Code != c.code {
			t.Errorf("%s for %s: %v, want %s", c.to, c.uid, err, c.code)
		}
	}
	if left := o.server.Dialer.quota.Outstanding("shop/a"); left != 0 {
		t.Errorf("%d dials are still counted", left)
	}
}

func TestServerDestinations(t *testing.T) {
	o := open(t, os.Getuid())
	p := newProxy()
	client, _ := connect(t, o.path, p)
	p.expect(t, "end")
	var all []handoff.Destination
	for i := range 1200 {
		all = append(all, handoff.Destination{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), Port: 20880})
	}
	if err := client.Destinations(t.Context(), 5, handoff.DestinationTable{Entries: all}); err != nil {
		t.Fatal(err)
	}
	if generation, published := o.stub.last(); generation != 5 || len(published) != len(all) ||
		!slices.Contains(published, datapath.Destination{Prefix: all[1199].Prefix, Port: 20880}) {
		t.Errorf("published %d as generation %d", len(published), generation)
	}
	loopback := handoff.Destination{Prefix: netip.MustParsePrefix("127.0.0.1/32")}
	if err := client.Destinations(t.Context(), 6, handoff.DestinationTable{Entries: append(all, loopback)}); err == nil || !strings.Contains(err.Error(), "never steered") {
		t.Errorf("loopback: %v", err)
	}
	o.stub.fill(datapath.ErrMapFull)
	if err := client.Destinations(t.Context(), 7, handoff.DestinationTable{Entries: all}); err == nil || !strings.Contains(err.Error(), "map is full") {
		t.Errorf("full map: %v", err)
	}
	if generation, _ := o.stub.last(); generation != 5 {
		t.Errorf("generation %d is in force", generation)
	}
}
