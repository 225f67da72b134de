package dubbotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Verify makes Calls calls with random sizes, cut into pieces, up to Depth in flight
// on each connection, with one-way calls and heartbeats between them, and checks
// every byte of every answer.
type Verify struct {
	Target  string
	Conns   int
	Depth   int
	Calls   int // in all
	MaxSize int // of an argument
	// Split is the percentage of calls whose header is cut, where the others are whole. 0:
	// the pieces know nothing of frames.
	Split   int
	Seed    uint64
	Request Request
	// Timeout is how long nothing may come back.
	Timeout time.Duration
	// Tolerant counts answers with another status and exceptions as Refused
	// instead of failing at the first.
	Tolerant bool
}

// VerifyResult is what came of a Verify. Lost and Duplicated are 0 when all is well.
type VerifyResult struct {
	Answered   int            `json:"answered"`
	OneWays    int            `json:"oneWays"`
	Heartbeats int            `json:"heartbeats"`
	Lost       int            `json:"lost"`
	Duplicated int            `json:"duplicated"`
	Refused    int            `json:"refused"`
	Bytes      int64          `json:"bytes"` // of arguments
	Reach      int            `json:"reach"` // calls that a lane can take, as they were written
	Providers  map[string]int `json:"providers"`
	Statuses   map[byte]int   `json:"statuses"`
}

// Run runs it. The result is valid even when there is an error.
func (v Verify) Run(ctx context.Context) (VerifyResult, error) {
	total := VerifyResult{Providers: map[string]int{}, Statuses: map[byte]int{}}
	noise := make([]byte, v.MaxSize+1<<20)
	random := rand.NewChaCha8([32]byte{byte(v.Seed), byte(v.Seed >> 8)})
	_, _ = random.Read(noise)

	type outcome struct {
		result VerifyResult
		err    error
	}
	outcomes := make(chan outcome, v.Conns)
	for i := range v.Conns {
		go func() {
			c, err := newVerified(v, i, noise)
			if err != nil {
				outcomes <- outcome{err: err}
				return
			}
			stop := context.AfterFunc(ctx, func() { c.conn.Close() })
			defer stop()
			err = c.run()
			outcomes <- outcome{c.result, err}
		}()
	}
	var errs []error
	for range v.Conns {
		o := <-outcomes
		errs = append(errs, o.err)
		total.add(o.result)
	}
	return total, errors.Join(errs...)
}

func (r *VerifyResult) add(other VerifyResult) {
	r.Answered += other.Answered
	r.OneWays += other.OneWays
	r.Heartbeats += other.Heartbeats
	r.Lost += other.Lost
	r.Duplicated += other.Duplicated
	r.Refused += other.Refused
	r.Bytes += other.Bytes
	r.Reach += other.Reach
	for name, n := range other.Providers {
		r.Providers[name] += n
	}
	for status, n := range other.Statuses {
		r.Statuses[status] += n
	}
}

// heartbeatBit tells the ids of heartbeats from those of calls.
const heartbeatBit = 1 << 62

// verified is one connection of a Verify.
type verified struct {
	Verify
	conn   net.Conn
	noise  []byte
	calls  int
	window chan struct{}
	ended  chan struct{} // closed when nobody reads any more
	random *rand.Rand    // the writer's
	reach  reach         // the same
	result VerifyResult

	mu      sync.Mutex
	pending map[uint64][]byte // the argument awaited, by id
}

func newVerified(v Verify, index int, noise []byte) (*verified, error) {
	conn, err := net.DialTimeout("tcp", v.Target, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	calls := v.Calls / v.Conns
	if index < v.Calls%v.Conns {
		calls++
	}
	if v.Timeout == 0 {
		v.Timeout = 20 * time.Second
	}
	return &verified{
		Verify: v, conn: conn, noise: noise, calls: calls,
		window: make(chan struct{}, v.Depth), ended: make(chan struct{}), pending: map[uint64][]byte{},
		random: rand.New(rand.NewPCG(v.Seed, uint64(index))),
		result: VerifyResult{Providers: map[string]int{}, Statuses: map[byte]int{}},
	}, nil
}

func (c *verified) run() error {
	defer c.conn.Close()
	written := make(chan error, 1)
	go func() { written <- c.write() }()
	readErr := c.read()
	close(c.ended)
	if readErr == nil {
		// A one-way call may still be on its way behind the last answered one.
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.Timeout))
	} else {
		_ = c.conn.Close()
	}
	writeErr := <-written
	c.result.Lost, c.result.Reach = len(c.pending), c.reach.calls
	if readErr != nil {
		return readErr
	}
	return writeErr
}

// size draws the size of an argument: mostly small, at times anything up to the
// largest. The first calls of a connection have the extreme ones.
func (c *verified) size(n int) int {
	switch n {
	case 0:
		return 0
	case 1:
		return c.MaxSize
	}
	limit := min(4<<10, c.MaxSize)
	switch draw := c.random.IntN(1000); {
	case draw < 5:
		limit = c.MaxSize
	case draw < 50:
		limit = min(64<<10, c.MaxSize)
	}
	// Uniform in the logarithm, so that the middle is not rare.
	return int(float64(limit+1) / float64(uint(1)<<c.random.UintN(20)) * c.random.Float64())
}

// write sends the calls.
func (c *verified) write() error {
	var out []byte
	for n := range c.calls {
		select {
		case c.window <- struct{}{}:
		case <-c.ended:
			return nil
		}
		size := c.size(n)
		offset := c.random.IntN(len(c.noise) - size + 1)
		data := c.noise[offset : offset+size]
		id := uint64(n + 1)
		c.mu.Lock()
		c.pending[id] = data
		c.result.Bytes += int64(size)
		c.mu.Unlock()
		at := len(out)
		out = c.Request.Append(out, id, data)
		c.reach.add(out[at:], true)
		at = len(out)
		switch c.random.IntN(20) {
		case 0:
			request := c.Request
			request.OneWay = true
			out = request.Append(out, id, data[:min(len(data), 512)])
			c.result.OneWays++
		case 1:
			c.mu.Lock()
			c.pending[id|heartbeatBit] = nil
			c.mu.Unlock()
			out = appendHeartbeat(out, id|heartbeatBit, false)
		}
		if len(out) > at {
			c.reach.add(out[at:], false)
		}
		if c.Split > 0 {
			if err := c.split(out); err != nil {
				return err
			}
			out = out[:0]
			continue
		}
		// Keep a random part for the next write, unless the window is full:
		// then what is kept would be waited for.
		send := len(out)
		if len(c.window) < cap(c.window) && n < c.calls-1 {
			send = c.random.IntN(len(out) + 1)
		}
		if err := c.pieces(out[:send]); err != nil {
			return err
		}
		out = append(out[:0], out[send:]...)
	}
	return nil
}

// split writes frames, at times with a cut in the first one's header.
func (c *verified) split(b []byte) error {
	if c.random.IntN(100) < c.Split {
		cut := 1 + c.random.IntN(headerLen-1)
		if err := c.put(b[:cut]); err != nil {
			return err
		}
		b = b[cut:]
	}
	return c.put(b)
}

// pieces writes b in up to four random pieces.
func (c *verified) pieces(b []byte) error {
	for cuts := c.random.IntN(4); len(b) > 0; cuts-- {
		n := len(b)
		if cuts > 0 {
			n = 1 + c.random.IntN(len(b))
		}
		if err := c.put(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (c *verified) put(b []byte) error {
	c.reach.wrote(len(b))
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// read checks answers until all have come.
func (c *verified) read() error {
	buffer, have := make([]byte, readBuffer), 0
	for !c.complete() {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.Timeout))
		n, err := c.conn.Read(buffer[have:])
		if err != nil {
			return fmt.Errorf("read after %d of %d answers: %w", c.result.Answered, c.calls, err)
		}
		b := buffer[:have+n]
		need := 0
		for len(b) >= headerLen {
			h, err := parseHeader(b)
			if err != nil {
				return err
			}
			if need = headerLen + h.body; len(b) < need {
				break
			}
			if err := c.check(h, b[headerLen:need]); err != nil {
				return err
			}
			b = b[need:]
		}
		if need > len(buffer) {
			bigger := make([]byte, need)
			have = copy(bigger, b)
			buffer = bigger
		} else {
			have = copy(buffer, b)
		}
	}
	return nil
}

func (c *verified) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.result.Answered+c.result.Refused == c.calls && len(c.pending) == 0
}

// check compares an answer with what was sent.
func (c *verified) check(h header, body []byte) error {
	if h.request() {
		return nil // an event of the provider
	}
	c.mu.Lock()
	data, awaited := c.pending[h.id]
	delete(c.pending, h.id)
	c.mu.Unlock()
	if !awaited {
		c.result.Duplicated++
		return fmt.Errorf("answer %d is not awaited: duplicated or another's", h.id)
	}
	if h.id&heartbeatBit != 0 {
		c.result.Heartbeats++
		if !h.event() || h.status != StatusOK {
			return fmt.Errorf("heartbeat %d: answered with flags %#x status %d", h.id, h.flags, h.status)
		}
		return nil
	}
	<-c.window
	c.result.Statuses[h.status]++
	if h.event() {
		return fmt.Errorf("answer %d is an event", h.id)
	}
	answer, err := parseAnswer(h, body)
	if err != nil {
		return fmt.Errorf("answer %d: %w", h.id, err)
	}
	if answer.Status != StatusOK || answer.Kind != 4 {
		c.result.Refused++
		if c.Tolerant {
			return nil
		}
		return fmt.Errorf("answer %d: status %d kind %d %q", h.id, answer.Status, answer.Kind, answer.Error)
	}
	if !bytes.Equal(answer.Value, data) {
		return fmt.Errorf("answer %d: %d bytes that are not the %d sent", h.id, len(answer.Value), len(data))
	}
	c.mu.Lock()
	c.result.Answered++
	c.mu.Unlock()
	c.result.Providers[answer.Provider]++
	return nil
}
