package lanetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubway/dubway/agent/datapath/lane/lanetest"
	"github.com/dubway/dubway/internal/lane"
)

// Consumer says what consumers do, each on its own connection.
type Consumer struct {
	Target     string
	First      uint32 // number of the first connection
	Conns      int
	Calls      int // two-way, of each connection
	Depth      int // of them in flight
	Seed       uint64
	Size       int // of a request, at most: half of them are of up to 2 KiB
	Huge       int // requests of 1 to 8 MiB, of each connection
	Lane       int // percent of the calls whose names are Echo's, called as they are
	Most       int // of an answer's size; as the providers have it
	Providers  int
	Subscribes bool          // the first connection does, when it has made half of its calls
	Threads    bool          // two threads write to each socket, whole frames, and nothing serialises them
	Silence    time.Duration // how long nothing may come back
	Tolerant   bool          // answers by somebody else than a provider are counted
	Traces     string        // a file for when each call was made, and by whom answered; or ""
}

// Result is what came of it.
type Result struct {
	Answered, OneWays, Beats, Back int
	By                             []int // answers, by provider
	Refused                        int   // calls that somebody else than a provider answered
	Woken                          int   // reads that waited and returned without a byte, of who waits in them
	traces                         []Trace
	Errors                         []string
}

// Trace is one call: when it was made and answered, in nanoseconds since 1970, and by which
// provider.
type Trace struct {
	Sent, Got int64
	By        byte
}

// Run makes the calls. Each answer is compared with what it must be.
func (k Consumer) Run(ctx context.Context) Result {
	total := Result{By: make([]int, k.Providers)}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range k.Conns {
		all.Go(func() {
			c, err := k.dial(uint32(i))
			if err == nil {
				stop := context.AfterFunc(ctx, func() { c.conn.Close() })
				err = c.run()
				stop()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				total.Errors = append(total.Errors, fmt.Sprintf("connection %d: %v", i, err))
			}
			if c != nil {
				c.add(&total)
			}
		})
	}
	all.Wait()
	if k.Traces != "" {
		text, err := json.Marshal(total.traces)
		if err = errors.Join(err, os.WriteFile(k.Traces, text, 0o600)); err != nil {
			total.Errors = append(total.Errors, err.Error())
		}
	}
	return total
}

// calling is one connection.
type calling struct {
	Consumer

	number uint32
	conn   *net.TCPConn
	room   chan struct{}
	failed chan error
	seq    atomic.Uint32
	sent   atomic.Bool
	beats  atomic.Int64

	writing sync.Mutex // frames are written one behind another

	mu      sync.Mutex
	pending map[uint64]*Call
	made    int // calls
	result  Result
	heard   time.Time
}

func (k Consumer) dial(i uint32) (*calling, error) {
	c, err := (&net.Dialer{Timeout: 30 * time.Second}).Dial("tcp", k.Target)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	tcp, _ := c.(*net.TCPConn)
	if k.Threads {
		_ = tcp.SetWriteBuffer(4 << 20)
	}
	return &calling{
		Consumer: k, number: k.First + i, conn: tcp, room: make(chan struct{}, k.Depth), failed: make(chan error, 3),
		pending: map[uint64]*Call{}, result: Result{By: make([]int, k.Providers)}, heard: time.Now(),
	}, nil
}

func (c *calling) add(total *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total.Answered += c.result.Answered
	total.OneWays += c.result.OneWays
	total.Beats += c.result.Beats
	total.Back += c.result.Back
	total.Refused += c.result.Refused
	total.traces = append(total.traces, c.result.traces...)
	for i, n := range c.result.By {
		total.By[i] += n
	}
}

func (c *calling) run() error {
	defer c.conn.Close()
	go func() { c.failed <- c.read() }()
	writers := 1
	if c.Threads {
		writers = 2
	}
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			if err := c.write(uint64(i), c.Calls/writers); err != nil {
				c.failed <- err
			}
		})
	}
	go func() { writing.Wait(); c.sent.Store(true) }()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case err := <-c.failed:
			return err
		case <-t.C:
		}
		c.mu.Lock()
		ended, silent := c.result.Answered+c.result.Refused, time.Since(c.heard)
		c.mu.Unlock()
		if c.sent.Load() && ended == c.made && c.beats.Load() == 0 {
			return nil
		}
		if silent > c.Silence {
			return c.lost(silent)
		}
	}
}

func (c *calling) lost(silent time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := ""
	for id, call := range c.pending {
		if len(text) < 500 {
			text += fmt.Sprintf(" %d: %+v;", id, *call)
		}
	}
	return fmt.Errorf("nothing for %v: %d calls and %d heartbeats wait, sent all: %t:%s", silent, len(c.pending), c.beats.Load(), c.sent.Load(), text)
}

// The ids of what is no call.
const (
	beatID   = 1 << 50
	oneWayID = 1 << 51
)

// write makes n calls, with everything else between them.
func (c *calling) write(thread uint64, n int) error {
	rnd := rand.New(rand.NewPCG(c.Seed, uint64(c.number)<<1|thread))
	huge := c.Huge
	if thread > 0 {
		huge = 0
	}
	for left := n; left > 0; {
		var frames [][]byte
		for i := 1 + rnd.IntN(6); i > 0 && left > 0; i-- {
			call := c.next(rnd)
			if huge > 0 && rnd.IntN(max(left/huge, 1)) == 0 {
				call.Size = uint32(1<<20 + rnd.IntN(7<<20))
				huge--
			}
			if c.Subscribes && c.number == c.First && left == n/2 && thread == 0 {
				call.Method, call.Generic, call.Serialization = Subscribe, false, lane.Hessian2
			}
			switch rnd.IntN(100) {
			case 0:
				c.beats.Add(1)
				frames = append(frames, seal(append(appendHeader(nil, flagRequest|flagTwoWay|flagEvent|lane.Hessian2, 0, beatID), 'N'), 0))
			case 1:
				once := c.next(rnd)
				once.OneWay, once.Size = true, min(once.Size, small)
				c.mu.Lock()
				c.result.OneWays++
				c.mu.Unlock()
				frames = append(frames, once.Append(nil, oneWayID|uint64(once.Seq)))
			}
			left--
			frame, err := c.expect(&call, frames, rnd)
			if err != nil {
				return err
			}
			if frame == nil { // the others were sent before, for room
				frames = nil
				continue
			}
			frames = append(frames, frame)
		}
		if err := c.send(frames, rnd); err != nil {
			return err
		}
	}
	return nil
}

// next is another call.
func (c *calling) next(rnd *rand.Rand) Call {
	size := rnd.IntN(small)
	if rnd.IntN(2) == 0 {
		size = rnd.IntN(c.Size)
	}
	call := Call{Conn: c.number, Seq: c.seq.Add(1), Method: Echo, Serialization: lane.Hessian2, Size: uint32(tokenLen + size)}
	if rnd.IntN(2) == 0 {
		call.Serialization = lane.Fastjson2
	}
	if rnd.IntN(100) >= c.Lane {
		if call.Method = Held; call.Serialization == lane.Hessian2 && rnd.IntN(2) == 0 {
			call.Method, call.Generic = Echo, true
		}
	}
	return call
}

// expect notes a call and returns its frame. Where there is no room for it those before are
// sent, and it alone behind them; then there is nothing left to send.
func (c *calling) expect(call *Call, before [][]byte, rnd *rand.Rand) ([]byte, error) {
	full := false
	select {
	case c.room <- struct{}{}:
	default:
		full = true
		if err := c.send(before, rnd); err != nil {
			return nil, err
		}
		c.room <- struct{}{} // a reader that has failed makes room
	}
	id := uint64(call.Seq) | uint64(call.Conn)<<32
	c.mu.Lock()
	if len(c.pending) == 0 {
		c.heard = time.Now()
	}
	c.pending[id] = call
	c.made++
	call.sent = time.Now().UnixNano()
	c.mu.Unlock()
	frame := call.Append(nil, id)
	if full {
		return nil, c.send([][]byte{frame}, rnd)
	}
	return frame, nil
}

// send writes frames in one of the shapes.
func (c *calling) send(frames [][]byte, rnd *rand.Rand) error {
	if len(frames) == 0 {
		return nil
	}
	if c.Threads {
		return c.raw(frames)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	s := lanetest.Named("one write for all")
	switch n := rnd.IntN(200); {
	case n < 3:
		s = lanetest.Shapes[rnd.IntN(len(lanetest.Shapes))]
		if s.Most > 0 { // it takes a write for each byte
			s = lanetest.Named("header split")
		}
	case n < 40:
		s = lanetest.Named("writev")
	case n < 60:
		s = lanetest.Named("MSG_MORE")
	case n < 80:
		s = lanetest.Named("sendfile")
	case n < 90:
		s = lanetest.Named("splice")
	case n < 120:
		s = lanetest.Named("one write each")
	}
	return s.Write(c.conn, frames, rnd)
}

// raw writes each frame by one send(), past Go's own lock of the socket. There is room for
// all that may be in flight, so that no frame is written in part.
func (c *calling) raw(frames [][]byte) error {
	control, err := c.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("use socket: %w", err)
	}
	for _, f := range frames {
		n, failed := 0, error(nil)
		err := control.Control(func(fd uintptr) { n, failed = unix.SendmsgN(int(fd), f, nil, nil, unix.MSG_NOSIGNAL) })
		if err = errors.Join(err, failed); err == nil && n < len(f) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("send past the lock: %w", err)
		}
	}
	return nil
}
