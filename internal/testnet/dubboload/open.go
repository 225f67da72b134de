package dubboload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/dubway/dubway/internal/testnet/dubbotest"
)

// Open is an open loop: calls start at their times, whether earlier ones have
// been answered or not, and each is measured from the time at which it was due.
// So what stands still for a while pays for every call that it held up.
type Open struct {
	Target  string
	Conns   int
	Rate    float64 // calls per second, over all connections
	Size    int     // of the argument
	Warmup  time.Duration
	Time    time.Duration
	Request dubbotest.Request
	Prime   bool // each connection before
}

// Run runs the load. Every answer's id, status and ends are checked.
func (l Open) Run(ctx context.Context) (Result, error) {
	closed := Closed{Target: l.Target, Conns: l.Conns, Depth: openDepth, Size: l.Size, Request: l.Request, Prime: l.Prime}
	conns, plain := make([]*opened, l.Conns), make([]*loaded, l.Conns)
	for i := range conns {
		conn, err := net.DialTimeout("tcp", l.Target, 10*time.Second)
		if err != nil {
			return Result{}, fmt.Errorf("dial: %w", err)
		}
		defer conn.Close()
		plain[i] = newLoaded(closed, conn)
		conns[i] = newOpened(plain[i])
	}
	primed, err := closed.prime(plain)
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	from, until := start.Add(l.Warmup), start.Add(l.Warmup+l.Time)
	errs := make(chan error, l.Conns+1)
	for _, c := range conns {
		go func() { errs <- c.read(from, until) }()
	}
	errs <- pace(ctx, conns, until, l.Rate)
	var failed error
	for _, c := range conns {
		failed = errors.Join(failed, c.settle(30*time.Second))
	}
	for range l.Conns + 1 {
		failed = errors.Join(failed, <-errs)
	}
	return resultOf(plain, primed, l.Time), failed
}

// openDepth bounds the calls in flight on a connection. A call beyond it waits for
// a slot, and is still measured from the time at which it was due.
const openDepth = 4096

// opened is one connection of an Open: written by the goroutine that paces,
// read by its own.
type opened struct {
	*loaded

	mu   sync.Mutex // of loaded's slots
	free []uint64   // ids to be used next, one for each free slot
}

func newOpened(l *loaded) *opened {
	c := &opened{loaded: l, free: make([]uint64, openDepth)}
	for i := range c.free {
		c.free[i] = openDepth + uint64(i)
	}
	return c
}

// beat is the least time between two moments at which calls are due. Waking for
// each call of a fast load would take a core, and a real-time process that takes
// one is throttled by the kernel.
const beat = 200 * time.Microsecond

// pace starts the calls, those of a beat together. It sleeps in the kernel, on a
// thread of its own: the runtime's timers are late by up to a millisecond in an
// idle process.
func pace(ctx context.Context, conns []*opened, until time.Time, rate float64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	for n, due := 0, start; due.Before(until); due = due.Add(beat) {
		if wait := time.Until(due); wait > 0 {
			t := syscall.NsecToTimespec(wait.Nanoseconds())
			_ = syscall.Nanosleep(&t, nil)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("pace: %w", ctx.Err())
		}
		for total := int(due.Sub(start).Seconds() * rate); n < total; n++ {
			if err := conns[n%len(conns)].add(due); err != nil {
				return err
			}
		}
		// Each connection gets its part in one write.
		for _, c := range conns {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// add begins a call that is, or was, due.
func (c *opened) add(due time.Time) error {
	for {
		c.mu.Lock()
		if n := len(c.free); n > 0 {
			c.begin(c.free[n-1], due)
			c.free = c.free[:n-1]
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if err := c.flush(); err != nil {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (c *opened) pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return openDepth - len(c.free)
}

// settle waits for what is in flight and ends the connection.
func (c *opened) settle(limit time.Duration) error {
	defer c.conn.Close()
	for end := time.Now().Add(limit); c.pending() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d answers are missing %v after the load's end", c.pending(), limit)
		}
	}
	return nil
}

// read takes answers until the connection ends.
func (c *opened) read(from, until time.Time) error {
	buffer, have := make([]byte, max(readBuffer, 2*len(c.frame))), 0
	for {
		n, err := c.conn.Read(buffer[have:])
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		now := time.Now()
		counts := now.After(from) && now.Before(until)
		b := buffer[:have+n]
		for {
			a, rest, whole, err := dubbotest.CutAnswer(b)
			if whole {
				c.mu.Lock()
				err = c.end(a, now, counts)
				c.free = append(c.free, a.ID+openDepth)
				c.mu.Unlock()
			}
			if err != nil {
				return err
			}
			if !whole {
				break
			}
			b = rest
		}
		have = copy(buffer, b)
	}
}
