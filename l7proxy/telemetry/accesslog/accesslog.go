// Package accesslog writes one JSON line for each request that is sampled, and
// for each opaque connection that closed: Istio's field names, then Dubbo's
// attributes, then what only this mesh knows. It never makes the data path wait:
// a line is copied to a buffer or dropped and counted. It keeps no files and
// rotates none.
package accesslog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
)

const (
	// maxBuffer is how much of the log waits for a slow reader; lines beyond
	// it are dropped.
	maxBuffer = 1 << 20
	// fullBuffer is how much is gathered before it is written at once.
	fullBuffer = 64 << 10
	// delay is how long a line waits for others at most.
	delay = 250 * time.Millisecond
	// closeTimeout is how long a stuck reader holds Close.
	closeTimeout = time.Second
	// everyRequest is the threshold that no 32 random bits reach.
	everyRequest = 1 << 32
)

// errStuck says that Close gave up on the log's reader.
var errStuck = errors.New("close access log: its reader does not read; the last lines are lost")

// Log copies lines into a buffer that one goroutine writes out within half a
// second. Whoever adds a line waits for nothing but other copies. Safe for
// concurrent use.
type Log struct {
	out       io.Writer
	threshold atomic.Uint64 // of 32 random bits: below it, a request is logged
	follows   atomic.Bool   // see Follow
	dropped   atomic.Uint64

	mu     sync.Mutex
	buffer []byte
	lines  uint64 // in buffer
	closed bool

	started chan struct{} // the buffer is no longer empty
	full    chan struct{} // the buffer should be written now
	quit    chan struct{}
	done    chan struct{}
}

// New returns a Log that is off until SetSample. It writes whole lines to out,
// from one goroutine, until Close.
func New(out io.Writer) *Log {
	l := &Log{
		out:     out,
		started: make(chan struct{}, 1), full: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Sample returns the share of requests that are logged, from 0 to 1.
func (l *Log) Sample() float64 { return float64(l.threshold.Load()) / everyRequest }

// SetSample changes the share of requests that are logged.
func (l *Log) SetSample(share float64) { l.threshold.Store(uint64(share * everyRequest)) }

// Follow says whether the configuration decides about the calls that it says something of;
// otherwise the share holds for all of them.
func (l *Log) Follow(follows bool) { l.follows.Store(follows) }

// Follows tells what Follow said last; at first it is false.
func (l *Log) Follows() bool { return l.follows.Load() }

// Dropped returns how many lines were lost because out was slow or failed.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Sampled throws the dice for one request.
func (l *Log) Sampled() bool {
	switch threshold := l.threshold.Load(); threshold {
	case 0:
		return false
	case everyRequest:
		return true
	default:
		return uint64(rand.Uint32()) < threshold
	}
}

// Request logs a request. What Fixed returns for its call is made once by the
// caller.
func (l *Log) Request(fixed string, rec *rpc.Record) {
	line := linePool.Get().(*[]byte)
	*line = appendRequest((*line)[:0], fixed, rec)
	l.add(*line)
	linePool.Put(line)
}

// Connection logs an opaque connection that closed.
func (l *Log) Connection(c *rpc.Connection) {
	line := linePool.Get().(*[]byte)
	*line = appendConnection((*line)[:0], c)
	l.add(*line)
	linePool.Put(line)
}

var linePool = sync.Pool{New: func() any { return new([]byte) }}

// add copies a line, or drops it.
func (l *Log) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.buffer)+len(line) > maxBuffer {
		l.dropped.Add(1)
		return
	}
	if len(l.buffer) == 0 {
		signal(l.started)
	}
	l.buffer = append(l.buffer, line...)
	l.lines++
	if len(l.buffer) >= fullBuffer {
		signal(l.full)
	}
}

func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // told already
	}
}

// run writes the buffer when it is full or has waited; an idle log wakes nobody.
func (l *Log) run() {
	defer close(l.done)
	var spare []byte
	for {
		select {
		case <-l.started:
		case <-l.quit:
			l.flush(spare)
			return
		}
		select {
		case <-time.After(delay):
		case <-l.full:
		case <-l.quit:
		}
		spare = l.flush(spare)
	}
}

// flush writes the buffer and leaves spare in its place. It returns the buffer.
func (l *Log) flush(spare []byte) []byte {
	l.mu.Lock()
	buffer, lines := l.buffer, l.lines
	l.buffer, l.lines = spare[:0], 0
	l.mu.Unlock()
	if len(buffer) == 0 {
		return buffer
	}
	if n, err := l.out.Write(buffer); err != nil {
		written := uint64(bytes.Count(buffer[:max(n, 0)], []byte{'\n'}))
		l.dropped.Add(lines - written)
	}
	return buffer
}

// Close writes what is left and ends the goroutine. It waits for a second at
// most: a reader that is stuck does not hold the process. Later lines are
// dropped.
func (l *Log) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if !closed {
		close(l.quit)
	}
	select {
	case <-l.done:
		return nil
	case <-time.After(closeTimeout):
		return errStuck
	}
}
