package upstream

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/exchange"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// provider accepts connections and lets the test speak on them.
type provider struct {
	t     *testing.T
	addr  netip.AddrPort
	conns chan *net.TCPConn
	count atomic.Int32
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, addr: l.Addr().(*net.TCPAddr).AddrPort(), conns: make(chan *net.TCPConn, 100)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.count.Add(1)
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			t.Cleanup(func() { _ = c.Close() })
			p.conns <- c.(*net.TCPConn)
		}
	}()
	return p
}

func (p *provider) accept() *net.TCPConn {
	p.t.Helper()
	select {
	case c := <-p.conns:
		return c
	case <-time.After(30 * time.Second):
		p.t.Fatal("nobody connected")
		return nil
	}
}

// got is a frame as the other side reads it.
type got struct {
	codec.Header

	frame []byte
}

func readFrame(r io.Reader) (got, error) {
	b := make([]byte, dubbo.HeaderLen)
	if _, err := io.ReadFull(r, b); err != nil {
		return got{}, err
	}
	h, err := dubbo.ParseHeader(b)
	if err != nil {
		return got{}, err
	}
	whole := make([]byte, dubbo.HeaderLen+h.Body)
	copy(whole, b)
	_, err = io.ReadFull(r, whole[dubbo.HeaderLen:])
	return got{h, whole}, err
}

func mustRead(t *testing.T, r io.Reader) got {
	t.Helper()
	g, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// frame makes a frame. An answer's body begins with the kind "value".
func frame(flags, status byte, id uint64, body int) []byte {
	b := append(make([]byte, 0, dubbo.HeaderLen+body), 0xda, 0xbb, flags|dubbo.Hessian2, status)
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(body))
	b = append(b, 0x91)
	return append(b, make([]byte, body-1)...)
}

func answer200(id uint64) []byte { return frame(0, dubbo.StatusOK, id, 20) }

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// echo answers every request until the connection ends.
func echo(c net.Conn) {
	for {
		g, err := readFrame(c)
		if err != nil {
			return
		}
		if g.TwoWay() && !g.Event() {
			if _, err = c.Write(answer200(g.ID)); err != nil {
				return
			}
		}
	}
}

// wantEnd checks that nothing but the end comes.
func wantEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("%d bytes and %v came, want the end", len(b), err)
	}
}

// dialer dials directly. Gate, if set, is asked before each dial.
type dialer struct {
	gate  func(ctx context.Context) error
	dials atomic.Int32
}

func (d *dialer) Dial(ctx context.Context, key Key, _ netip.AddrPort) (Way, error) {
	d.dials.Add(1)
	if d.gate != nil {
		if err := d.gate(ctx); err != nil {
			return Way{}, err
		}
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", key.Endpoint.String())
	if err != nil {
		return Way{}, fmt.Errorf("dial: %w", err)
	}
	return Way{TCP: c.(*net.TCPConn)}, nil
}

// consumer is an owner that remembers what it was told.
type consumer struct {
	delivered chan got
	again     chan exchange.Request
	refused   chan exchange.Refusal
	settled   atomic.Int64

	calls   atomic.Uint64 // ids that Call gave
	gone    atomic.Bool   // it takes no calls
	adopted chan *Conn
	parted  chan bool // of Part: made

	mu       sync.Mutex
	streamed []byte
	ends     []error // of Done
}

func newConsumer() *consumer {
	return &consumer{delivered: make(chan got, 1000), again: make(chan exchange.Request, 1000), refused: make(chan exchange.Refusal, 1000),
		adopted: make(chan *Conn, 10), parted: make(chan bool, 10)}
}

func (c *consumer) Deliver(frames ...[]byte) error {
	for b := slices.Concat(frames...); len(b) > 0; {
		h, err := dubbo.ParseHeader(b)
		if err != nil || dubbo.HeaderLen+h.Body > len(b) {
			return fmt.Errorf("what was delivered is no frame: %w", err)
		}
		c.delivered <- got{h, b[:dubbo.HeaderLen+h.Body]}
		b = b[dubbo.HeaderLen+h.Body:]
	}
	return nil
}

func (c *consumer) Call(_ *Conn, h codec.Header) (uint64, bool) {
	if c.gone.Load() {
		return 0, false
	}
	if !h.TwoWay() {
		return h.ID, true
	}
	return 1000 + c.calls.Add(1), true
}

func (c *consumer) Adopt(conn *Conn, _ *exchange.Edge) bool {
	if c.gone.Load() {
		return false
	}
	c.adopted <- conn
	return true
}

func (c *consumer) Part(_ *Conn, made bool) { c.parted <- made }

func (c *consumer) Stream() sock.Streamer     { return c }
func (c *consumer) Settled(n int)             { c.settled.Add(int64(n)) }
func (c *consumer) Again(r exchange.Request)  { c.again <- r }
func (c *consumer) Refuse(r exchange.Refusal) { c.refused <- r }
func (c *consumer) Acquire() error            { return nil }

func (c *consumer) Write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streamed = append(c.streamed, b...)
	return nil
}

func (c *consumer) Done(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, err)
	return err
}

// take waits for one thing that a consumer was told.
func take[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		var v T
		t.Fatalf("no %T came", v)
		return v
	}
}

func wantNone[T any](t *testing.T, from chan T) {
	t.Helper()
	select {
	case v := <-from:
		t.Errorf("one %T too many: %+v", v, v)
	case <-time.After(10 * time.Millisecond):
	}
}

// watcher counts what an Endpoint, a Bound and an Observer are told.
type watcher struct {
	flying, failed, connected, dead, draining atomic.Int32
	outcomes                                  [rpc.Outcomes]atomic.Int32

	mu      sync.Mutex
	results [rpc.Results]int
}

func (w *watcher) Begin()     { w.flying.Add(1) }
func (w *watcher) Failed()    { w.failed.Add(1) }
func (w *watcher) Connected() { w.connected.Add(1) }
func (w *watcher) Draining()  { w.draining.Add(1) }
func (w *watcher) Dead()      { w.dead.Add(1) }

func (w *watcher) End(o rpc.Outcome) {
	w.flying.Add(-1)
	w.outcomes[o].Add(1)
}

// ended waits until n requests have ended, and tells how.
func (w *watcher) ended(t *testing.T, n int32) (list [rpc.Outcomes]int32) {
	t.Helper()
	eventually(t, "all requests have ended", func() bool {
		var sum int32
		for i := range list {
			list[i] = w.outcomes[i].Load()
			sum += list[i]
		}
		return sum == n
	})
	return list
}

func (w *watcher) Observe(r *rpc.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results[r.Result]++
}

func (w *watcher) records(r rpc.Result) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[r]
}

// rig is a pool with one group and one provider.
type rig struct {
	t     *testing.T
	prov  *provider
	dial  *dialer
	pool  *Pool
	group *Group
	watch *watcher
	edge  *exchange.Edge
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, prov: newProvider(t), dial: &dialer{}, watch: &watcher{}}
	r.pool = NewPool(r.dial, Limits{MaxFrame: 4 << 20})
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			r.pool.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(30 * time.Second):
			t.Error("the pool does not close")
		}
	})
	r.group = r.pool.Group(Key{Protocol: seam.Protocol(), Workload: "shop/consumer", Endpoint: r.prov.addr}, netip.AddrPort{})
	r.group.Watch(r.watch)
	call := &rpc.Call{Observer: r.watch}
	r.edge = &exchange.Edge{Protocol: seam.Protocol(), Endpoint: r.watch, Remote: call, SameNode: call}
	return r
}

func (r *rig) request(id uint64, flags byte) exchange.Request {
	return exchange.Request{
		Frame: frame(codec.FlagRequest|flags, 0, id, 30), ID: id, Edge: r.edge, Start: time.Now(),
		OneWay: flags&codec.FlagTwoWay == 0, Serialization: dubbo.Hessian2,
	}
}

// send sends two-way requests with these ids on the group's connection.
func (r *rig) send(owner Owner, ids ...uint64) *Conn {
	r.t.Helper()
	c := r.group.Conn()
	if !r.sendOn(c, owner, ids...) {
		r.t.Fatal("the connection takes no requests")
	}
	return c
}

func (r *rig) sendOn(c *Conn, owner Owner, ids ...uint64) bool {
	var requests []exchange.Request
	var spans [][]byte
	for _, id := range ids {
		q := r.request(id, codec.FlagTwoWay)
		requests, spans = append(requests, q), append(spans, q.Frame)
	}
	return c.Send(owner, requests, spans)
}

// tick lets the clock come by. The ticks of a test are microseconds apart: a write
// that is under way must not look stalled.
func (r *rig) tick(c *Conn) {
	r.t.Helper()
	eventually(r.t, "nothing is being written", func() bool { return !c.sock.Writing() })
	c.tick()
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}
