// Package dubboload loads a Dubbo provider, or what lies in front of it, and
// measures: closed loops, whose calls follow each other, and open ones, whose calls
// are due at their times. Its calls are those of package dubbotest. It checks every
// answer as far as that costs nothing that would be measured.
package dubboload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// Closed is a closed loop: on each connection, Depth calls are always in flight.
type Closed struct {
	Target  string
	Conns   int
	Depth   int
	Size    int // of the argument
	Warmup  time.Duration
	Time    time.Duration
	Request dubbotest.Request
	Dial    func(address string) (net.Conn, error) // nil: net.Dial
	Prime   bool                                   // each connection before
}

// Result is what a load measured after its warm-up.
type Result struct {
	Calls   int64         `json:"calls"`
	All     int64         `json:"all"` // the warm-up's, the last ones' and those of priming too
	Seconds float64       `json:"seconds"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	P999    time.Duration `json:"p999"`
	Max     time.Duration `json:"max"`
}

// readBuffer is how much is read at once.
const readBuffer = 64 << 10

// inlineBytes is how much may be in flight on a connection that writes from its
// reading goroutine. More could fill the pipe both ways: nobody would read.
const inlineBytes = 32 << 10

// Run runs the load. Every answer's id, status, length and first and last bytes
// are checked; the first wrong one ends it.
func (l Closed) Run(ctx context.Context) (Result, error) {
	dial := l.Dial
	if dial == nil {
		dial = func(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, 10*time.Second) }
	}
	conns := make([]*loaded, l.Conns)
	for i := range conns {
		conn, err := dial(l.Target)
		if err != nil {
			return Result{}, fmt.Errorf("dial: %w", err)
		}
		defer conn.Close()
		conns[i] = newLoaded(l, conn)
	}
	primed, err := l.prime(conns)
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	from, until := start.Add(l.Warmup), start.Add(l.Warmup+l.Time)
	errs := make(chan error, len(conns))
	for _, c := range conns {
		go func() { errs <- c.run(from, until) }()
	}
	var first error
	for range conns {
		select {
		case err := <-errs:
			if err != nil && first == nil {
				first = err
			}
		case <-ctx.Done():
			return Result{}, fmt.Errorf("load: %w", ctx.Err())
		case <-time.After(time.Until(until) + 10*time.Second):
			return Result{}, errors.New("load: answers are missing 10 s after its end")
		}
	}
	return resultOf(conns, primed, l.Time), first
}

func resultOf(conns []*loaded, primed int64, d time.Duration) Result {
	var h histogram
	for _, c := range conns {
		h.add(&c.latency)
		primed += c.all
	}
	return Result{
		Calls: h.count, All: primed, Seconds: d.Seconds(),
		P50: h.quantile(0.5), P99: h.quantile(0.99), P999: h.quantile(0.999), Max: h.max,
	}
}

// loaded is one connection of a load.
type loaded struct {
	conn    net.Conn
	frame   []byte // the request, with an id to be set
	value   []byte // what an answer's body begins with
	started []time.Time
	ids     []uint64 // by slot; 0: free
	latency histogram
	all     int64 // calls that were answered

	out    []byte
	writer *writer // nil: writes are inline
}

func newLoaded(l Closed, conn net.Conn) *loaded {
	data := bytes.Repeat([]byte("dubway! "), l.Size/8+1)[:l.Size]
	c := &loaded{
		conn: conn, frame: l.Request.Append(nil, 0, data),
		value:   dubbotest.AppendEcho(nil, data),
		started: make([]time.Time, l.Depth), ids: make([]uint64, l.Depth),
	}
	if len(c.frame)*l.Depth > inlineBytes {
		c.writer = newWriter(conn)
	}
	return c
}

// run keeps every slot busy until the time is over, then waits for what is in
// flight. The id of a call is its slot plus a multiple of the number of slots, so
// that ids of connections collide, as those of consumers do.
func (c *loaded) run(from, until time.Time) error {
	if c.writer != nil {
		defer close(c.writer.wake)
	}
	depth := uint64(len(c.ids))
	now := time.Now()
	for slot := range c.ids {
		c.begin(uint64(slot)+depth, now)
	}
	if err := c.flush(); err != nil {
		return err
	}
	buffer, have := make([]byte, max(readBuffer, 2*len(c.frame))), 0
	for pending := len(c.ids); pending > 0; {
		_ = c.conn.SetReadDeadline(until.Add(8 * time.Second))
		n, err := c.conn.Read(buffer[have:])
		if err != nil {
			return fmt.Errorf("read with %d calls in flight: %w", pending, err)
		}
		now = time.Now()
		b := buffer[:have+n]
		for {
			a, rest, whole, err := dubbotest.CutAnswer(b)
			if whole {
				err = c.end(a, now, now.After(from) && now.Before(until))
			}
			if err != nil {
				return err
			}
			if !whole {
				break
			}
			if b = rest; now.Before(until) {
				c.begin(a.ID+depth, now)
			} else {
				pending--
			}
		}
		have = copy(buffer, b)
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (c *loaded) begin(id uint64, now time.Time) {
	slot := id % uint64(len(c.ids))
	c.ids[slot], c.started[slot] = id, now
	start := len(c.out)
	c.out = append(c.out, c.frame...)
	dubbotest.SetID(c.out[start:], id)
}

// end checks an answer.
func (c *loaded) end(a dubbotest.RawAnswer, now time.Time, counts bool) error {
	slot, body := a.ID%uint64(len(c.ids)), a.Body
	switch {
	case a.Status != dubbotest.StatusOK:
		return fmt.Errorf("answer %d: status %d: %q", a.ID, a.Status, body[:min(len(body), 200)])
	case c.ids[slot] != a.ID:
		return fmt.Errorf("answer %d: lost or duplicated: %d is awaited", a.ID, c.ids[slot])
	case len(body) < len(c.value) || !bytes.Equal(body[:min(16, len(c.value))], c.value[:min(16, len(c.value))]) ||
		!bytes.Equal(body[max(0, len(c.value)-16):len(c.value)], c.value[max(0, len(c.value)-16):]):
		return fmt.Errorf("answer %d: %d bytes, not the echo of the %d sent", a.ID, len(body), len(c.value))
	}
	c.ids[slot] = 0
	c.all++
	if counts {
		c.latency.record(now.Sub(c.started[slot]))
	}
	return nil
}

// flush writes what was begun, all in one write.
func (c *loaded) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if c.writer != nil {
		c.out = c.writer.add(c.out)
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// writer writes beside the reader, all that has gathered at a time. What gathers
// is bounded by the calls in flight.
type writer struct {
	conn net.Conn
	wake chan struct{}

	mu      sync.Mutex
	waiting []byte
}

func newWriter(conn net.Conn) *writer {
	w := &writer{conn: conn, wake: make(chan struct{}, 1)}
	go w.run()
	return w
}

// add takes b over and returns an empty buffer.
func (w *writer) add(b []byte) []byte {
	w.mu.Lock()
	w.waiting = append(w.waiting, b...)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return b[:0]
}

// run ends when wake is closed. A failed write is the reader's to see.
func (w *writer) run() {
	var b []byte
	for range w.wake {
		w.mu.Lock()
		b, w.waiting = w.waiting, b[:0]
		w.mu.Unlock()
		if _, err := w.conn.Write(b); err != nil {
			_ = w.conn.Close()
			return
		}
	}
}
