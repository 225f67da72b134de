package downstream

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/testnet/thrifttest"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// thriftProvider starts a real Thrift server.
func thriftProvider(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	addr, release := thriftHeld(t, name)
	t.Cleanup(release)
	return addr
}

// thriftHeld starts one whose held calls end with release.
func thriftHeld(t *testing.T, name string) (addr netip.AddrPort, release func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, held := make(chan error, 1), make(chan struct{})
	go func() { served <- (&thrifttest.Provider{Name: name, Held: held}).ServeOn(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		<-served // its error is that of the closed listener
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), sync.OnceFunc(func() { close(held) })
}

func (r *rig) thrift(service string) *thrifttest.Client {
	r.t.Helper()
	c, err := thrifttest.Dial(r.ln.Addr().String(), service)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func wantCall(t *testing.T, c *thrifttest.Client, method, text string, want thrifttest.Answer) {
	t.Helper()
	if a, err := c.Call(method, text, 0); err != nil || a != want {
		t.Errorf("%s: %+v, %v; want %+v", method, a, err, want)
	}
}

// TestThrift: a real client and a real server, whose answers keep their kinds.
func TestThrift(t *testing.T) {
	r := newRig(t, thriftProvider(t, "v1"))
	for _, service := range []string{"", thrifttest.Service} {
		c := r.thrift(service)
		wantCall(t, c, "place", "hello", thrifttest.Answer{Value: "v1 hello"})
		wantCall(t, c, "place", strings.Repeat("x", 100<<10), thrifttest.Answer{Value: "v1 " + strings.Repeat("x", 100<<10)})
		wantCall(t, c, "place", strings.Repeat("y", 2<<20), thrifttest.Answer{Value: "v1 " + strings.Repeat("y", 2<<20)})
		wantCall(t, c, "throw", "stock", thrifttest.Answer{Thrown: "no stock"})
		wantCall(t, c, "fail", "", thrifttest.Answer{Refused: "out of order", Kind: 6})
		wantCall(t, c, "place", "", thrifttest.Answer{Value: "v1 "})
	}
	r.expect(rpc.ResultValue, rpc.WhyNone, 8)
	r.expect(rpc.ResultException, rpc.WhyNone, 2)
	r.expect(rpc.ResultError, rpc.WhyNone, 2)
}

// TestThriftBalances: each request gets an endpoint of its own, and a connection serves
// one at a time: slow calls do not hold up those of others.
func TestThriftBalances(t *testing.T) {
	v1, release1 := thriftHeld(t, "v1")
	v2, release2 := thriftHeld(t, "v2")
	r := newRig(t, v1, v2)
	slow := r.thrift("")
	done := make(chan error, 1)
	go func() {
		_, err := slow.Call("hold", "", 0)
		done <- err
	}()
	waitFor(t, "the slow call is on its way", func() bool { return r.env.Pool.Count() == 1 })
	var mu sync.Mutex
	answers := make(map[string]int)
	var all sync.WaitGroup
	for range 10 {
		c := r.thrift("")
		all.Go(func() {
			for range 20 {
				a, err := c.Call("place", "x", 0)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answers[a.Value]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if answers["v1 x"] != 100 || answers["v2 x"] != 100 {
		t.Errorf("answers %v, want 100 of each", answers)
	}
	if n := r.env.Pool.Count(); n > 21 {
		t.Errorf("%d connections for 10 consumers and two endpoints", n)
	}
	release1()
	release2()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestThriftOrder: what a client sends before it has its answers is answered in order,
// whatever the endpoints.
func TestThriftOrder(t *testing.T) {
	r := newRig(t, thriftProvider(t, "v1"), thriftProvider(t, "v2"))
	c := r.dial()
	const n = 100
	var burst []byte
	for id := range byte(n) {
		burst = append(burst, "\x00\x00\x00\x21\x80\x01\x00\x01\x00\x00\x00\x05delay\x00\x00\x00"...)
		burst = append(burst, id)
		burst = append(burst, "\x0b\x00\x01\x00\x00\x00\x01x\x08\x00\x02\x00\x00\x00"...)
		burst = append(burst, 3*(id%2), 0) // milliseconds
	}
	go func() {
		for part := range slices.Chunk(burst, 70) { // frames are split
			_, _ = c.Write(part)
		}
	}()
	for id := range byte(n) {
		var length [4]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			t.Fatalf("answer %d: %v", id, err)
		}
		message := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(c, message); err != nil {
			t.Fatalf("answer %d: %v", id, err)
		}
		if got := message[8+len("delay")+3]; message[3] != 2 || got != id {
			t.Fatalf("answer %d has the id %d and the type %d", id, got, message[3])
		}
	}
	if n := r.env.Pool.Count(); n > 2 {
		t.Errorf("%d connections for one consumer and two endpoints", n)
	}
}

// TestThriftOneway: nothing comes back, and what is sent next is.
func TestThriftOneway(t *testing.T) {
	r := newRig(t, thriftProvider(t, "v1"))
	for range 3 {
		c := r.thrift("")
		for range 5 {
			if err := c.Note("x"); err != nil {
				t.Fatal(err)
			}
		}
		wantCall(t, c, "place", "x", thrifttest.Answer{Value: "v1 x"})
	}
	r.expect(rpc.ResultNone, rpc.WhyNone, 15)
	r.expect(rpc.ResultValue, rpc.WhyNone, 3)
	c := r.thrift("")
	waitFor(t, "all notes have come", func() bool {
		a, err := c.Call("notes", "", 0)
		return err == nil && strings.HasPrefix(a.Value, "15 notes")
	})
}

// TestThriftRefused: what the mesh answers is an exception that the client reads.
func TestThriftRefused(t *testing.T) {
	for why, tt := range map[rpc.Why]struct {
		change func(*snapshot.Snapshot)
		kind   int32
	}{
		rpc.WhyNoEndpoint: {func(*snapshot.Snapshot) {}, 6},
		rpc.WhyNoRoute:    {func(s *snapshot.Snapshot) { s.Routes["r"].VirtualHosts = nil }, 1},
	} {
		r := newRig(t)
		r.change(tt.change)
		a, err := r.thrift("").Call("place", "x", 0)
		if err != nil || !strings.HasPrefix(a.Refused, "dubway: ") || a.Kind != tt.kind {
			t.Errorf("%v: %+v, %v; want type %d", why, a, err, tt.kind)
		}
		r.expect(rpc.ResultLocal, why, 1)
	}
}

// TestThriftPolicies: time limits, tries and endpoints of the route.
func TestThriftPolicies(t *testing.T) {
	live, dead := thriftProvider(t, "v1"), netip.MustParseAddrPort("127.0.0.1:1")
	r := newRig(t)
	r.policy(func(a *snapshot.Action) {
		a.Timeout = 300 * time.Millisecond
		a.Retry = &snapshot.Retry{On: snapshot.RetryError, Num: 2}
	}, snapshot.RetryBudget{Max: 10}, live, dead)
	c := r.thrift("")
	for range 10 {
		wantCall(t, c, "place", "x", thrifttest.Answer{Value: "v1 x"})
	}
	if a, err := c.Call("hold", "", 0); err != nil || a.Kind != 6 || !strings.Contains(a.Refused, "dubway") {
		t.Errorf("a slow call: %+v, %v", a, err)
	}
	// The connection goes on, on another one to the provider.
	wantCall(t, c, "place", "x", thrifttest.Answer{Value: "v1 x"})
	if a, err := c.Call("fail", "", 0); err != nil || a.Refused != "out of order" {
		t.Errorf("a failing call: %+v, %v", a, err)
	}
	if n := r.env.Pool.Stats().Retries.Load(); n != 2 {
		t.Errorf("%d retries, want 2", n)
	}
	a, err := c.Call("notes", "", 0)
	if want := fmt.Sprintf("0 notes, %d calls", 10+1+1+3+1); err != nil || a.Value != want {
		t.Errorf("%q, %v; want %q", a.Value, err, want)
	}
}

// TestThriftLeaves: a consumer that ends inside a call is missed, although nothing is
// read meanwhile.
func TestThriftLeaves(t *testing.T) {
	addr, release := thriftHeld(t, "v1")
	defer release()
	r := newRig(t, addr)
	c := r.dial()
	write(t, c, []byte("\x00\x00\x00\x11\x80\x01\x00\x01\x00\x00\x00\x04hold\x00\x00\x00\x01\x00"))
	waitFor(t, "the call is on its way", func() bool { return r.env.Pool.Count() == 1 })
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	r.expect(rpc.ResultGone, rpc.WhyDownstreamGone, 1)
}
