package listener

import (
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/downstream"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/workload"
)

const uid = "shop/provider"

// live is a connection that a test serves until it is drained.
type live struct{ drained chan struct{} }

func (l *live) Drain()     { close(l.drained) }
func (l *live) Tick() bool { return false }
func (l *live) Unload()    {}

// socket is what the agent holds: a listener on loopback. Steered inbound
// connections keep their address, so that any port will do for them.
type socket struct {
	*net.TCPListener

	t *testing.T
}

func newSocket(t *testing.T) socket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return socket{l.(*net.TCPListener), t}
}

// file returns a duplicate, as it travels to the proxy.
func (s socket) file() *os.File {
	s.t.Helper()
	f, err := s.File()
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s socket) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func newSet(o Options) *Set {
	o.Logger = slog.New(slog.DiscardHandler)
	if o.Witness == nil {
		o.Witness = func(*sock.Conn, netip.AddrPort, netip.AddrPort) bool { return false }
	}
	if o.Quotas == nil {
		o.Quotas = quota.NewNode(math.MaxInt64, math.MaxInt64, 0)
	}
	return NewSet(o)
}

func pods(d handoff.Direction) *workload.Workload {
	return workload.New(handoff.Workload{UID: uid, Name: "provider", Listeners: []handoff.Listener{{Direction: d, Family: 4}}})
}

func put(t *testing.T, s *Set, d handoff.Direction, k socket) {
	t.Helper()
	if err := s.Put(pods(d), []*os.File{k.file()}); err != nil {
		t.Fatal(err)
	}
}

// greet serves a connection with one byte.
func greet(in *downstream.Accepted, _ func(downstream.Live)) {
	_ = in.Conn.Send([]byte("!"))
	_ = in.Conn.Close()
}

func wantGreeting(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); string(b) != "!" || err != nil {
		t.Errorf("a connection got %q, %v; want that it is served", b, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// TestPutAgain replaces the descriptors of a listener while consumers connect.
func TestPutAgain(t *testing.T) {
	k := newSocket(t)
	s := newSet(Options{Serve: greet})
	defer s.Shut()
	put(t, s, handoff.Inbound, k)
	const consumers, each = 4, 40
	var connecting sync.WaitGroup
	var done atomic.Bool
	for range consumers {
		connecting.Go(func() {
			for range each {
				c, err := net.Dial("tcp", k.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				wantGreeting(t, c)
				_ = c.Close()
			}
		})
	}
	replaced := make(chan struct{})
	go func() {
		defer close(replaced)
		for !done.Load() {
			put(t, s, handoff.Inbound, k)
			time.Sleep(time.Millisecond)
		}
	}()
	connecting.Wait()
	done.Store(true)
	<-replaced
	if n := s.Stats().Accepted.Load(); n != consumers*each {
		t.Errorf("%d connections were accepted, want %d", n, consumers*each)
	}
}

// TestAccepted: what is served knows where it came from and was meant to go.
func TestAccepted(t *testing.T) {
	k := newSocket(t)
	served := make(chan *downstream.Accepted, 1)
	s := newSet(Options{Serve: func(in *downstream.Accepted, _ func(downstream.Live)) {
		served <- in
		_ = in.Conn.Close()
	}})
	defer s.Shut()
	put(t, s, handoff.Inbound, k)
	c := k.dial()
	in := <-served
	if in.Original != sock.AddrPort(k.Addr()) || in.Remote != sock.AddrPort(c.LocalAddr()) || !in.Inbound || in.Workload.UID != uid {
		t.Errorf("served %+v", in)
	}
}

// TestDirect: nobody steered a connection to the outbound listener itself.
func TestDirect(t *testing.T) {
	k := newSocket(t)
	s := newSet(Options{Serve: func(*downstream.Accepted, func(downstream.Live)) { t.Error("it was served") }})
	defer s.Shut()
	put(t, s, handoff.Outbound, k)
	if b, err := io.ReadAll(k.dial()); len(b) > 0 || err != nil {
		t.Errorf("a direct connection got %q, %v; want its end", b, err)
	}
	if n := s.Stats().Direct.Load(); n != 1 {
		t.Errorf("%d direct connections are counted, want 1", n)
	}
}

func TestWitness(t *testing.T) {
	k := newSocket(t)
	taken := make(chan *sock.Conn, 1)
	s := newSet(Options{
		Serve: func(*downstream.Accepted, func(downstream.Live)) { t.Error("it was served") },
		Witness: func(c *sock.Conn, remote, local netip.AddrPort) bool {
			if remote != c.Remote() || local != sock.AddrPort(k.Addr()) {
				t.Errorf("the witness comes from %v to %v", remote, local)
			}
			taken <- c
			return true
		},
	})
	defer s.Shut()
	put(t, s, handoff.Inbound, k)
	c := k.dial()
	witness := <-taken
	eventually(t, "it is counted", func() bool { return s.Stats().Witnesses.Load() == 1 })
	if err := witness.Send([]byte("!")); err != nil {
		t.Error("the witness was closed by the listener")
	}
	_ = witness.Close()
	wantGreeting(t, c)
	if s.Active(uid) != 0 {
		t.Error("a witness counts as a connection of the workload")
	}
}

func TestLimits(t *testing.T) {
	const limit = 2 * 4 // of which a client gets a quarter
	for name, quotas := range map[string]*quota.Node{
		"workload": quota.NewNode(math.MaxInt64, limit, 0), "total": quota.NewNode(limit, math.MaxInt64, 0),
	} {
		t.Run(name, func(t *testing.T) {
			k := newSocket(t)
			o := Options{Quotas: quotas}
			end := make(chan struct{})
			o.Serve = func(in *downstream.Accepted, _ func(downstream.Live)) {
				<-end
				greet(in, nil)
			}
			s := newSet(o)
			defer s.Shut()
			put(t, s, handoff.Inbound, k)
			first, second := k.dial(), k.dial()
			eventually(t, "two are served", func() bool { return s.Active(uid) == 2 })
			third, err := net.Dial("tcp", k.Addr().String())
			if err == nil { // or the reset came before connect returned
				_ = third.SetDeadline(time.Now().Add(30 * time.Second))
				_, err = third.Read(make([]byte, 1))
				_ = third.Close()
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("a third connection gets %v, want a reset", err)
			}
			eventually(t, "it counts no more", func() bool { return s.Active(uid) == 2 && s.Stats().Active.Load() == 2 })
			if n := s.Stats().Limited.Load(); n != 1 {
				t.Errorf("%d connections over the limit are counted, want 1", n)
			}
			close(end)
			wantGreeting(t, first)
			wantGreeting(t, second)
			eventually(t, "there is room", func() bool { return s.Active(uid) == 0 && s.Stats().Active.Load() == 0 })
			wantGreeting(t, k.dial())
		})
	}
}

// TestRemove: connections that are served go on, new ones wait for the next Put. After the last
// one it is said that the workload has ended, once; a workload that is back has not.
func TestRemove(t *testing.T) {
	k := newSocket(t)
	end := make(chan struct{})
	s := newSet(Options{Serve: func(in *downstream.Accepted, _ func(downstream.Live)) {
		<-end
		greet(in, nil)
	}})
	defer s.Shut()
	put(t, s, handoff.Inbound, k)
	served := k.dial()
	eventually(t, "it is served", func() bool { return s.Active(uid) == 1 })
	var ended, never atomic.Int32
	gone := func() { ended.Add(1) }
	s.Remove(uid, gone)
	s.Remove("never there", func() { never.Add(1) })
	waiting := k.dial()
	time.Sleep(10 * time.Millisecond)
	if n := s.Stats().Accepted.Load(); n != 1 {
		t.Errorf("%d connections were accepted, want that the second waits", n)
	}
	if ended.Load() != 0 || never.Load() != 1 {
		t.Errorf("%d workloads with a connection have ended, and %d without one", ended.Load(), never.Load())
	}
	close(end)
	wantGreeting(t, served)
	eventually(t, "the workload has ended", func() bool { return ended.Load() == 1 })
	put(t, s, handoff.Inbound, k)
	wantGreeting(t, waiting)

	end = make(chan struct{})
	served = k.dial()
	eventually(t, "it is served", func() bool { return s.Active(uid) == 1 })
	s.Remove(uid, gone)
	put(t, s, handoff.Inbound, k) // it is back
	close(end)
	wantGreeting(t, served)
	wantGreeting(t, k.dial())
	if ended.Load() != 1 {
		t.Error("a workload that is back has ended")
	}
}

// isServed waits until a connection is.
func isServed(t *testing.T, s *Set) {
	t.Helper()
	eventually(t, "it is served", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.live) == 1
	})
}

// TestShut drains what is served and leaves the others in the backlog.
func TestShut(t *testing.T) {
	k := newSocket(t)
	s := newSet(Options{Serve: func(in *downstream.Accepted, started func(downstream.Live)) {
		l := &live{make(chan struct{})}
		started(l)
		<-l.drained
		greet(in, nil)
	}})
	put(t, s, handoff.Inbound, k)
	served := k.dial()
	isServed(t, s)
	if s.Wait(5 * time.Millisecond) {
		t.Error("Wait = true while a connection is served")
	}
	s.Shut()
	wantGreeting(t, served)
	if !s.Wait(30 * time.Second) {
		t.Error("Wait = false after the last connection")
	}
	put(t, s, handoff.Inbound, k) // comes too late
	waiting := k.dial()
	time.Sleep(10 * time.Millisecond)
	if n := s.Stats().Accepted.Load(); n != 1 {
		t.Errorf("%d connections were accepted, want 1", n)
	}
	if len(s.live) != 0 {
		t.Error("an ended connection is remembered")
	}
	// The next proxy gets the same listener from the agent.
	next := newSet(Options{Serve: greet})
	defer next.Shut()
	put(t, next, handoff.Inbound, k)
	wantGreeting(t, waiting)
}

// TestWaitForAccepted: what was accepted in front of Shut is waited for.
func TestWaitForAccepted(t *testing.T) {
	for range 100 {
		k := newSocket(t)
		s := newSet(Options{Serve: greet})
		put(t, s, handoff.Inbound, k)
		c := k.dial()
		s.Shut()
		if !s.Wait(30 * time.Second) {
			t.Fatal("Wait = false after the last connection")
		}
		if n, ended := s.Stats().Accepted.Load(), s.Stats().Active.Load(); n > 1 || ended != 0 {
			t.Errorf("%d accepted, %d served behind Wait", n, ended)
		}
		_ = c.Close()
	}
}

// TestPutBroken: a descriptor that is no listener is an error and is closed.
func TestPutBroken(t *testing.T) {
	s := newSet(Options{Serve: greet})
	defer s.Shut()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Put(pods(handoff.Inbound), []*os.File{f}); err == nil {
		t.Error("a file became a listener")
	}
	if err = f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Error("the descriptor was not closed")
	}
}

func TestPort(t *testing.T) {
	k := newSocket(t)
	f := k.file()
	defer f.Close()
	sa, err := syscall.Getsockname(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	want := uint16(sa.(*syscall.SockaddrInet4).Port)
	if got := port(want<<8 | want>>8); got != want {
		t.Errorf("port = %d, want %d", got, want)
	}
}

// TestYield: what was accepted goes on, what comes then is another process's, and Put
// accepts again.
func TestYield(t *testing.T) {
	k := newSocket(t)
	served := make(chan *downstream.Accepted, 10)
	end := make(chan struct{})
	s := newSet(Options{Serve: func(in *downstream.Accepted, started func(downstream.Live)) {
		l := &live{drained: make(chan struct{})}
		started(l)
		served <- in
		select {
		case <-end:
		case <-l.drained:
			t.Error("a yield drains")
		}
		greet(in, nil)
	}})
	put(t, s, handoff.Inbound, k)
	first := k.dial()
	<-served
	s.Yield()
	if err := s.Put(pods(handoff.Inbound), nil); err != nil { // of a pod that it is told of meanwhile
		t.Fatal(err)
	}
	second := k.dial()
	other, err := k.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if other.RemoteAddr().String() != second.LocalAddr().String() {
		t.Errorf("the other process accepted %s", other.RemoteAddr())
	}
	_ = other.Close()
	put(t, s, handoff.Inbound, k)
	third := k.dial()
	<-served
	close(end)
	wantGreeting(t, first)
	wantGreeting(t, third)
}

// TestAnswer: who asks whether the way works reads the workload's line, with what it lacks,
// and is nobody's connection.
func TestAnswer(t *testing.T) {
	for _, missing := range lack.All() {
		k := newSocket(t)
		s := newSet(Options{
			Serve: func(*downstream.Accepted, func(downstream.Live)) { t.Error("it was served") },
			Lacks: func(string) lack.Lack { return missing },
		})
		c := k.dial()
		accepted, err := k.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := sock.New(accepted)
		if err != nil {
			t.Fatal(err)
		}
		s.answer(conn, uid)
		if b, err := io.ReadAll(c); string(b) != string(missing.Answer(uid)) || err != nil {
			t.Errorf("the answer is %q, %v", b, err)
		}
		if asked, n := s.Stats().Asked.Load(), s.Stats().Accepted.Load(); asked != 1 || n != 0 {
			t.Errorf("%d were asked and %d accepted, want 1 and 0", asked, n)
		}
		s.Shut()
	}
}

// TestRetire drains what is served and leaves the others in the backlog, until there are
// listeners again.
func TestRetire(t *testing.T) {
	k := newSocket(t)
	drained := make(chan struct{}, 2)
	s := newSet(Options{Serve: func(in *downstream.Accepted, started func(downstream.Live)) {
		l := &live{make(chan struct{})}
		started(l)
		<-l.drained
		drained <- struct{}{}
		greet(in, nil)
	}})
	put(t, s, handoff.Inbound, k)
	served := k.dial()
	isServed(t, s)
	if !s.Retire() || s.Retire() {
		t.Error("it is not once that it retires")
	}
	wantGreeting(t, served)
	<-drained
	if err := s.Put(pods(handoff.Inbound), nil); err != nil { // told of by an agent that does not accept either
		t.Fatal(err)
	}
	waiting := k.dial()
	if s.Retire() {
		t.Error("it accepts again, with nothing to accept from")
	}
	put(t, s, handoff.Inbound, k)
	eventually(t, "it accepts again", func() bool { return s.Stats().Accepted.Load() == 2 })
	select {
	case <-drained:
		t.Error("what is accepted again drains")
	default:
	}
	s.Shut()
	wantGreeting(t, waiting)
}
