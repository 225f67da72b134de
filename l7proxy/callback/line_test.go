package callback

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/quota"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// host is a consumer's connection that counts what it is told; its requests
// are none of this package's.
type host struct {
	upstream.Owner // nil: nothing is asked

	line             *Line
	pending, wakeups atomic.Int64
	provider         net.Listener
	accepted         chan net.Conn
	pool             *upstream.Pool
	quota            *quota.Workload // nil: none
	unmade           string          // the cluster whose connections are never made
}

func (h *host) Asked()        { h.pending.Add(1) }
func (h *host) Settled(n int) { h.pending.Add(int64(-n)) }
func (h *host) Interrupt()    { h.wakeups.Add(1) }
func (h *host) Connect() bool { return h.quota.Connect() }
func (h *host) Disconnect()   { h.quota.Disconnect() }

func (h *host) Call(c *upstream.Conn, head codec.Header) (uint64, bool) { return h.line.Call(c, head) }
func (h *host) Adopt(c *upstream.Conn, e *exchange.Edge) bool           { return h.line.Adopt(c, e) }
func (h *host) Part(c *upstream.Conn, made bool)                        { h.line.Part(c, made) }

// Dial is part of upstream.Dialer.
func (h *host) Dial(ctx context.Context, key upstream.Key, _ netip.AddrPort) (upstream.Way, error) {
	if h.unmade != "" && key.Workload == h.unmade {
		<-ctx.Done()
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", key.Endpoint.String())
	if err != nil {
		return upstream.Way{}, fmt.Errorf("dial: %w", err)
	}
	return upstream.Way{TCP: c.(*net.TCPConn)}, nil
}

func newHost(t *testing.T) *host {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{line: &Line{}, provider: l, accepted: make(chan net.Conn, 10)}
	h.pool = upstream.NewPool(h, upstream.Limits{MaxFrame: 1 << 20})
	h.line.Init(h, h.pool.Stats())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			h.accepted <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		h.pool.Close()
	})
	return h
}

// edge is a way to the provider by a cluster.
func (h *host) edge(name string) *upstream.Edge {
	address := h.provider.Addr().(*net.TCPAddr).AddrPort()
	call := &rpc.Call{Cluster: name}
	return &upstream.Edge{
		Group: h.pool.Group(upstream.Key{Protocol: seam.Protocol(), Workload: name, Endpoint: address}, netip.AddrPort{}),
		Edge:  exchange.Edge{Remote: call, SameNode: call},
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

func twoWay(id uint64) codec.Header {
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | dubbo.Hessian2, ID: id}
}

// TestConn: a cluster has one connection of the line's, made when there must be
// one; others are shared.
func TestConn(t *testing.T) {
	h := newHost(t)
	a, b := h.edge("a"), h.edge("b")
	if c := h.line.Conn(h, a, false); c.Dedicated() || h.line.Any() {
		t.Error("a connection of its own that nobody needs")
	}
	own := h.line.Conn(h, a, true)
	if !own.Dedicated() || h.line.Conn(h, a, false) != own || h.line.Conn(h, a, true) != own {
		t.Error("one connection of the line's, for all that goes there")
	}
	if c := h.line.Conn(h, b, false); c.Dedicated() {
		t.Error("another cluster's is shared")
	}
	route := func(weights ...any) *snapshot.Action {
		act := &snapshot.Action{}
		for i := 0; i < len(weights); i += 2 {
			act.Clusters = append(act.Clusters, snapshot.WeightedCluster{Cluster: weights[i].(string), Weight: uint32(weights[i+1].(int))})
		}
		return act
	}
	for _, tt := range []struct {
		action *snapshot.Action
		leads  bool
	}{
		{route("a", 1), true},
		{route("b", 99, "a", 1), true},
		{route("b", 1), false},
		{route("b", 1, "a", 0), false},
	} {
		if pair, ok := h.line.Leads(tt.action); ok != tt.leads || ok && pair.Conn != own {
			t.Errorf("%+v leads to %+v, %v", tt.action.Clusters, pair, ok)
		}
	}
	h.line.Close()
	if h.line.Adopt(own, &a.Edge) {
		t.Error("a closed line adopts")
	}
}

// TestQuota: connections of the line's own count against the workload, and are given
// back.
func TestQuota(t *testing.T) {
	h := newHost(t)
	h.quota = quota.NewNode(100, 1, 0).Workload()
	a, b := h.edge("a"), h.edge("b")
	own := h.line.Conn(h, a, true)
	if own == nil || h.line.Conn(h, a, true) != own {
		t.Fatal("no connection within the quota")
	}
	if c := h.line.Conn(h, b, true); c != nil {
		t.Error("a connection beyond the quota")
	}
	if c := h.line.Conn(h, b, false); c == nil || c.Dedicated() {
		t.Error("a shared connection counts")
	}
	h.line.Part(own, false)
	if c := h.line.Conn(h, b, true); c == nil {
		t.Error("what could not be made still counts")
	}
	h.line.Close()
	if !h.quota.Connect() {
		t.Error("a closed line still counts")
	}
}

// TestCalls: ids of two providers stay apart, and each answer finds its own.
func TestCalls(t *testing.T) {
	h := newHost(t)
	h.unmade = "b" // one that was made would part by itself later
	a, b := h.line.Conn(h, h.edge("a"), true), h.line.Conn(h, h.edge("b"), true)
	first, _ := h.line.Call(a, twoWay(7))
	second, _ := h.line.Call(b, twoWay(7))
	if first == second {
		t.Fatal("two calls have one id")
	}
	if id, ok := h.line.Call(a, codec.Header{Flags: codec.FlagRequest, ID: 9}); !ok || id != 9 {
		t.Errorf("a one-way call has id %d, %v; want its own", id, ok)
	}
	if n := h.pending.Load(); n != 2 {
		t.Errorf("%d answers are waited for, want 2", n)
	}
	if c, id, ok := h.line.Answered(second); !ok || c != b || id != 7 {
		t.Errorf("Answered = %v, %d, %v; want the second provider's 7", c == b, id, ok)
	}
	if _, _, ok := h.line.Answered(second); ok {
		t.Error("answered twice")
	}
	h.line.Call(b, twoWay(8))
	h.line.Part(b, false) // could not be made
	if _, ok := h.line.Leads(&snapshot.Action{Clusters: []snapshot.WeightedCluster{{Cluster: "b", Weight: 1}}}); ok || h.line.Parted() {
		t.Error("a connection that could not be made is kept, or ends the line")
	}
	if _, _, ok := h.line.Answered(first); !ok || h.pending.Load() != 0 {
		t.Errorf("the other provider's call is lost; %d pending", h.pending.Load())
	}
	stats := h.pool.Stats()
	if stats.Unasked.Load() != 1 || stats.Callbacks.Answered.Load() != 2 || stats.Callbacks.Gone.Load() != 1 {
		t.Errorf("%d unasked, %d answered, %d gone; want 1, 2, 1",
			stats.Unasked.Load(), stats.Callbacks.Answered.Load(), stats.Callbacks.Gone.Load())
	}
}

// TestHangUp answers the provider, and takes no more calls.
func TestHangUp(t *testing.T) {
	h := newHost(t)
	c := h.line.Conn(h, h.edge("a"), true)
	p := <-h.accepted
	eventually(t, "the connection is open", func() bool {
		c.Answer(dubbo.AppendHeartbeatReply(nil, codec.Header{ID: 1, Flags: dubbo.Hessian2}))
		_ = p.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := io.ReadFull(p, make([]byte, 17))
		return err == nil
	})
	_ = p.SetReadDeadline(time.Now().Add(2 * time.Minute))
	h.line.Call(c, twoWay(7))
	h.line.HangUp()
	got := codec.Header{Flags: codec.FlagEvent}
	for got.Event() { // there may be more than one of those above
		b := make([]byte, dubbo.HeaderLen)
		if _, err := io.ReadFull(p, b); err != nil {
			t.Fatal(err)
		}
		got, _ = dubbo.ParseHeader(b)
		_, _ = io.CopyN(io.Discard, p, int64(got.Body))
	}
	if got.ID != 7 || got.Status != dubbo.StatusChannelInactive {
		t.Errorf("%+v came, want an error for 7", got)
	}
	if _, ok := h.line.Call(c, twoWay(8)); ok || h.pending.Load() != 0 {
		t.Errorf("a call after the end; %d pending", h.pending.Load())
	}
	if h.line.PartedFor() != 0 {
		t.Error("parted before the connection has ended")
	}
	_ = p.Close()
	eventually(t, "the host is woken", func() bool { return h.wakeups.Load() > 0 })
	if !h.line.Parted() || h.line.PartedFor() <= 0 {
		t.Error("the line does not say that its connection has ended")
	}
	h.line.Close()
}
