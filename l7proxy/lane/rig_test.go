package lane

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/filter"
	"github.com/dubway/dubway/l7proxy/gauge"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/lane/life"
	"github.com/dubway/dubway/l7proxy/lane/tally"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/plan"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/sock/socktest"
	"github.com/dubway/dubway/l7proxy/upstream"
	"github.com/dubway/dubway/l7proxy/workload"
)

// seq is where the streams of the fake kernel begin.
const seq = 1000

// fakeKernel is a kernel without programs: the test is them.
type fakeKernel struct {
	mu           sync.Mutex
	bound, freed []int
	conns        map[int]*sock.Conn // by place
	holders      atomic.Uint32
	unread       atomic.Uint32
	strange      atomic.Bool // it does not know the applications' sockets
	flags        atomic.Uint32
	now          atomic.Uint64
}

func (k *fakeKernel) Ask(c *sock.Conn, question, place int) (s lane.State, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch question {
	case lane.AskBind:
		k.bound = append(k.bound, place)
		k.conns[place] = c
	case lane.AskFree:
		k.freed = append(k.freed, place)
	}
	err = c.Control(func(uintptr) {})
	peer := uint64(1)
	if k.strange.Load() {
		peer = 0
	}
	return lane.State{Peer: peer, Copied: seq, Holders: k.holders.Load(), Unread: k.unread.Load(), Flags: k.flags.Load()}, err
}

// at returns the connection that is bound at an end of a lane.
func (k *fakeKernel) at(l *life.Lane, end uint8) *sock.Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conns[lane.Place(l.Number, end)]
}

func (k *fakeKernel) Quiesce() error { return nil }
func (k *fakeKernel) Now() uint64    { return k.now.Load() }

// fakeTally has room for everything.
type fakeTally struct {
	mu     sync.Mutex
	closed []tally.Reason
	counts atomic.Int64 // Count was called
	next   uint32
}

func (t *fakeTally) Put(*rpc.Call, uint8, func(uint64)) (uint32, bool) { t.next++; return t.next, true }
func (t *fakeTally) Drop(uint32)                                       {}
func (t *fakeTally) Count(*rpc.Call, uint8)                            { t.counts.Add(1) }
func (t *fakeTally) Opened(uint32, netip.AddrPort)                     {}
func (t *fakeTally) Wants() bool                                       { return true }

func (t *fakeTally) Closed(_ uint32, why tally.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = append(t.closed, why)
}

// endpoint counts what it is told.
type endpoint struct {
	herald.Nobody

	mu       sync.Mutex
	active   int
	outcomes [rpc.Outcomes]int
	draining int
}

func (e *endpoint) Begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active++
}

func (e *endpoint) End(o rpc.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active--
	e.outcomes[o]++
}

func (e *endpoint) Draining() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining++
}

func (e *endpoint) told(o rpc.Outcome) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outcomes[o]
}

// rig is a consumer's connection, providers, and Lanes between them.
type rig struct {
	t      *testing.T
	lanes  *Lanes
	memory *lane.Memory
	kernel *fakeKernel
	tally  *fakeTally
	ride   Ride
	source plan.Source

	consumer net.Conn // C
	conn     *sock.Conn
	accepted chan net.Conn // P
	address  []netip.AddrPort
	ends     []*endpoint
	gauges   [8]gauge.Gauge // of ends
	refuses  atomic.Bool    // dials
	dialling func()         // called while a provider is dialled; nil: nothing
	timeout  time.Duration
	access   *filter.Verdict // that of policies on every name

	mu       sync.Mutex
	pending  int
	records  []rpc.Record
	refusals []exchange.Refusal
}

func newRig(t *testing.T, providers int) *rig {
	t.Helper()
	r := &rig{t: t, kernel: &fakeKernel{conns: make(map[int]*sock.Conn)}, tally: &fakeTally{}, accepted: make(chan net.Conn, 16)}
	r.kernel.now.Store(uint64(time.Hour))
	r.memory = &lane.Memory{
		Sizes: lane.Sizes{Lanes: 2, Routes: 16}, Lanes: make([]lane.Lane, 2), Flights: make([]lane.Flight, 2*lane.Flights),
		Routes: make([]lane.Route, 16), Active: make([]uint64, 8),
	}
	r.lanes = New(Options{
		Dialer: dialer{r}, Tally: r.tally, Kernel: r.kernel, MaxFrame: 16 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	r.use()
	for range providers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		r.address, r.ends = append(r.address, sock.AddrPort(ln.Addr())), append(r.ends, &endpoint{})
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				r.accepted <- c
			}
		}()
	}
	r.conn, r.consumer = socktest.Pair(t)
	r.source = plan.Source{
		Workload: workload.New(handoff.Workload{UID: "shop/consumer"}),
		Original: netip.MustParseAddrPort("198.51.100.1:20880"), Remote: r.conn.Remote(),
	}
	r.ride.Init(r.lanes, r, r.conn, &r.source)
	r.ride.Speak(seam.Protocol())
	t.Cleanup(func() {
		_ = r.conn.Close()
		r.ride.End()
	})
	return r
}

// use lends the memory, in which every verdict stands.
func (r *rig) use() {
	r.lanes.Use(r.memory, handoff.LaneOn)
	r.lanes.node.Book.Stands = func(*verdict.Verdict) bool { return true }
}

// Dial connects to a provider.
func (r *rig) Dial(ctx context.Context, endpoint netip.AddrPort) (*sock.Conn, error) {
	if r.refuses.Load() {
		return nil, errors.New("forbidden")
	}
	if r.dialling != nil {
		r.dialling()
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", endpoint.String())
	if err != nil {
		return nil, err
	}
	return sock.New(c.(*net.TCPConn))
}

// observer keeps the records of a call.
type observer struct{ r *rig }

func (o observer) Observe(rec *rpc.Record) {
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	o.r.records = append(o.r.records, *rec)
}

// ways are the counts of every name.
func ways(...*rpc.Call) (lane, proxy uint64) { return 5, 7 }

// verdict leads to every provider alike.
func (r *rig) verdict() verdict.Verdict {
	v := verdict.Verdict{Reason: verdict.Lane, Timeout: r.timeout, Access: r.access, Shares: []verdict.Share{{Weight: 1, Policy: snapshot.LeastRequest}}}
	for i, a := range r.address {
		e := &upstream.Edge{Edge: exchange.Edge{
			Protocol: seam.Protocol(), Endpoint: r.ends[i], SameNode: &rpc.Call{Endpoint: a, Observer: observer{r}},
		}}
		v.Shares[0].Ends = append(v.Shares[0].Ends, verdict.End{Edge: e, Address: a, Weight: 1, Active: &r.gauges[i]})
	}
	return v
}

// Deliver is part of Host, as what follows.
func (r *rig) Deliver(frames ...[]byte) error { return r.conn.Send(frames...) }
func (r *rig) Stream() sock.Streamer          { return r.conn }
func (r *rig) Again(exchange.Request)         { r.t.Error("a request of a lane is sent again") }
func (r *rig) Flying() int64                  { return 0 }
func (r *rig) Asked()                         { r.settle(-1) }
func (r *rig) Settled(n int)                  { r.settle(n) }

func (r *rig) settle(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending -= n
}

func (r *rig) Refuse(refusal exchange.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusals = append(r.refusals, refusal)
	r.pending--
}

// counts are records, refusals and what is pending.
func (r *rig) counts() (records, refusals, pending int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records), len(r.refusals), r.pending
}

// dialer and planner are the rig in other roles.
type dialer struct{ *rig }

func (*fakeTally) Adopt(uint32, *rpc.Call, uint8, func(uint64)) bool { return false }

func (dialer) Near(context.Context, string, netip.AddrPort) bool { return true }

func (d dialer) Lane(ctx context.Context, _ string, endpoint, _ netip.AddrPort) (*sock.Conn, error) {
	return d.Dial(ctx, endpoint)
}

type planner struct{ *rig }

func (p planner) Lane(codec.Header, []byte) verdict.Verdict { return p.verdict() }

// frame is one of Dubbo.
func frame(flags, status byte, id uint64, body []byte) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, flags, status}, id)
	return append(binary.BigEndian.AppendUint32(f, uint32(len(body))), body...)
}

func answer(id uint64, size int) []byte {
	return frame(2, codec.StatusOK, id, append([]byte{0x91}, bytes.Repeat([]byte{'x'}, size)...))
}

// come sends requests by TCP, which the session reads.
func (r *rig) come(n int) {
	r.t.Helper()
	for range n {
		h, request := r.reads()
		r.ride.Came(planner{r}, h, request)
		r.ride.Read(len(request))
		r.conn.Discard(len(request))
	}
}

// reads sends a request by TCP, and reads it.
func (r *rig) reads() (h codec.Header, request []byte) {
	r.t.Helper()
	ask := frame(0xc2, 0, 1, []byte("\x052.0.2\x04Echo\x050.0.0\x04echo\x00"))
	if _, err := r.consumer.Write(ask); err != nil {
		r.t.Fatal(err)
	}
	for len(r.conn.Bytes()) < len(ask) {
		if err := r.conn.Fill(); err != nil {
			r.t.Fatal(err)
		}
		r.ride.Got()
	}
	request = r.conn.Bytes()[:len(ask)]
	h, err := seam.Protocol().Frames.ParseHeader(request)
	if err != nil {
		r.t.Fatal(err)
	}
	return h, request
}

// open makes the connection worth a lane, and returns it and the providers' ends by number.
func (r *rig) open() (l *life.Lane, providers map[uint8]net.Conn) {
	r.t.Helper()
	r.come(worthRate)
	if l = r.ride.get(); l == nil {
		r.t.Fatal("no lane")
	}
	r.eventually("the lane is open", func() bool { return atomic.LoadUint32(&r.at(l).Flags)&lane.Requests != 0 })
	providers = make(map[uint8]net.Conn)
	for range r.address {
		c := <-r.accepted
		r.t.Cleanup(func() { _ = c.Close() })
		for k := range uint8(len(r.address)) {
			if r.kernel.at(l, k).Local() == sock.AddrPort(c.RemoteAddr()) {
				providers[k] = c
			}
		}
	}
	return l, providers
}

// at is a lane's memory.
func (r *rig) at(l *life.Lane) *lane.Lane { return &r.memory.Lanes[l.Number] }

// flying are the requests in flight.
func (r *rig) flying(l *life.Lane) (ids []uint64) {
	r.memory.InFlight(l.Number, func(id uint64, _ lane.Flight) bool {
		ids = append(ids, id)
		return true
	})
	return ids
}

// place is that of the route.
func (r *rig) place() (place uint32) {
	for i := range r.memory.Routes {
		if r.memory.Routes[i].Hash != 0 {
			place = uint32(i)
		}
	}
	return place
}

func (r *rig) route() *lane.Route { return &r.memory.Routes[r.place()] }

// fly is what a program does with a request.
func (r *rig) fly(l *life.Lane, id uint64, end uint8) {
	f := &r.memory.Flights[int(l.Number)*lane.Flights+int(id%lane.Flights)]
	f.Start, f.Route, f.Bytes, f.End = r.kernel.Now(), r.place(), 100, uint32(end)
	atomic.AddUint64(&r.memory.Active[r.route().Actives[end]], 1)
	atomic.StoreUint64(&r.at(l).Last, f.Start)
	atomic.StoreUint64(&f.Key, id+1)
}

// gets reads a frame as the consumer.
func (r *rig) gets() codec.Header {
	r.t.Helper()
	_ = r.consumer.SetReadDeadline(time.Now().Add(30 * time.Second))
	head := make([]byte, 16)
	if _, err := io.ReadFull(r.consumer, head); err != nil {
		r.t.Fatal(err)
	}
	h, err := seam.Protocol().Frames.ParseHeader(head)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r.consumer, int64(h.Body)); err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("it does not come to pass that %s", what)
}
