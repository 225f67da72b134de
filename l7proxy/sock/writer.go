package sock

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// maxQueued bounds the bytes that wait behind a write in progress. Senders
// beyond it wait: the proxy then reads less from whoever sends.
const maxQueued = 256 << 10

// keptQueue is what a free writer may keep for the next time.
const keptQueue = 64 << 10

// maxRounds bounds how often one sender flushes what others queued behind it.
const maxRounds = 4

// writer is the write side of a Conn. Whoever finds it free writes directly
// from its own buffer; who finds it busy leaves a copy, which the writer takes
// along in its next system call. So frames of many connections share writes
// exactly when the socket is the bottleneck, and nothing waits for a batch.
type writer struct {
	tcp     *net.TCPConn
	secure  *secured // nil: plaintext
	outlet  Outlet   // nil: the socket itself; the busy writer's
	mu      sync.Mutex
	room    sync.Cond // queue has shrunk, or the writer is free or broken
	waiters int
	// acquiring counts who waits in Acquire: new senders wait for them, because
	// the write side is free only when nothing is queued.
	acquiring int
	busy      bool
	queue     []byte
	spare     []byte // the queue's other half
	err       error
	vec       net.Buffers   // the busy writer's; a field, so that writev allocates nothing
	scratch   [][]byte      // backs vec
	writes    atomic.Uint64 // completed writes, to tell a stalled one
	working   atomic.Bool   // a write is in progress
}

func (w *writer) init(tcp *net.TCPConn) {
	w.tcp = tcp
	w.room.L = &w.mu
}

// Send writes spans, in order and uninterrupted by other senders. The bytes may
// be reused when it returns. It waits while the peer reads too slowly. An error
// means that they were not written: the connection is broken, now and for ever.
func (w *writer) Send(spans ...[]byte) error {
	w.mu.Lock()
	for w.err == nil && (w.acquiring > 0 || w.busy && len(w.queue) > maxQueued) {
		w.wait()
	}
	if w.err != nil {
		defer w.mu.Unlock()
		return w.err
	}
	if w.busy {
		for _, b := range spans {
			w.queue = append(w.queue, b...)
		}
		w.mu.Unlock()
		return nil
	}
	w.busy = true
	w.mu.Unlock()
	return w.done(w.write(spans))
}

// Acquire makes the caller the only writer, for a frame that is written in
// pieces with Write. Others queue, and wait beyond the bound, until Done.
func (w *writer) Acquire() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acquiring++
	for w.busy && w.err == nil {
		w.wait()
	}
	w.acquiring--
	w.wake()
	if w.err == nil {
		w.busy = true
	}
	return w.err
}

// Write writes a piece, between Acquire and Done.
func (w *writer) Write(b []byte) error { return w.write([][]byte{b}) }

// Done ends what Acquire began; err is the first error of its Writes, or what
// else leaves the peer with half a frame.
func (w *writer) Done(err error) error { return w.done(err) }

// Writes counts the writes that the peer took. Any goroutine may ask.
func (w *writer) Writes() uint64 { return w.writes.Load() }

// Stall tells since how many looks a connection's peer has taken nothing. It is
// one goroutine's, which looks at regular times.
type Stall struct {
	writes uint64
	looks  int
}

// Look returns for how many looks in a row the same write has been in progress.
func (s *Stall) Look(c *Conn) int {
	writes, working := c.writes.Load(), c.working.Load()
	s.looks++
	if !working || writes != s.writes {
		s.looks = 0
	}
	s.writes = writes
	return s.looks
}

// Writing tells whether a write is in progress.
func (w *writer) Writing() bool { return w.working.Load() }

// Err returns the error that broke the write side, or nil.
func (w *writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// done sends what others left meanwhile and gives the write side free. A sender
// does that a few times only: then a goroutine of its own goes on, because the
// sender has a connection of its own to read. It returns err: what was written
// before the connection broke has been written.
func (w *writer) done(err error) error {
	last := err
	for range maxRounds {
		queued := w.next(last)
		if queued == nil {
			return err
		}
		last = w.write([][]byte{queued})
	}
	go w.drain(last)
	return err
}

func (w *writer) drain(err error) {
	for {
		queued := w.next(err)
		if queued == nil {
			return
		}
		err = w.write([][]byte{queued})
	}
}

// next returns what is queued, or frees the write side and returns nil.
func (w *writer) next(err error) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err == nil {
		w.err = err
	}
	if w.err != nil || len(w.queue) == 0 {
		w.busy = false
		if cap(w.queue)+cap(w.spare) > keptQueue {
			w.queue, w.spare = nil, nil
		}
		w.wake()
		return nil
	}
	queued := w.queue
	w.queue, w.spare = w.spare[:0], queued
	w.wake()
	return queued
}

// fail breaks the write side: waiting and later senders get err. Idle says that nobody
// was writing, and so nobody will.
func (w *writer) fail(err error) (idle bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	idle = !w.busy && w.err == nil
	if w.err == nil {
		w.err = err
	}
	w.wake()
	return idle
}

// write is one or more system calls; only the busy writer comes here.
func (w *writer) write(spans [][]byte) error {
	w.working.Store(true)
	var err error
	switch {
	case w.secure != nil:
		err = w.secure.write(spans)
	case w.outlet != nil:
		err = w.outlet.Write(spans)
	case len(spans) == 1:
		_, err = w.tcp.Write(spans[0])
	default:
		w.scratch = append(w.scratch[:0], spans...)
		w.vec = w.scratch
		_, err = w.vec.WriteTo(w.tcp)
		clear(w.scratch)
	}
	w.working.Store(false)
	w.writes.Add(1)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (w *writer) wait() {
	w.waiters++
	w.room.Wait()
	w.waiters--
}

func (w *writer) wake() {
	if w.waiters > 0 {
		w.room.Broadcast()
	}
}
