package sock

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// errDry says that the kernel has no more bytes at present. TLS forgets nothing at an
// error that is temporary, and goes on where it was.
var errDry net.Error = dry{}

type dry struct{}

func (dry) Error() string   { return "no bytes at present" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

// wire is the socket as TLS sees it. In the handshake it is the socket itself. After that
// it reads without waiting, as much at a time as there is, and gathers the records of a
// write: what costs a system call each with a socket costs one for all of them here.
type wire struct {
	*net.TCPConn

	// Of the reader.
	open       bool // the handshake is over
	fd         int  // while reading
	spare      bool // read no more than what is here
	in         *[]byte
	start, end int

	mu      sync.Mutex // writes: the reader's too, which answers TLS itself
	gather  bool
	closing bool
	out     *[]byte
	n       int
}

var _ net.Conn = (*wire)(nil)

// Read is TLS's.
func (w *wire) Read(b []byte) (int, error) {
	if !w.open {
		return w.TCPConn.Read(b) //nolint:wrapcheck // TLS asks what it is
	}
	if w.start == w.end {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, (*w.in)[w.start:w.end])
	if w.start += n; w.start == w.end {
		w.release()
	}
	return n, nil
}

// fill reads what is there, into a buffer that is held as long as it holds something.
func (w *wire) fill() error {
	if w.spare {
		return errDry
	}
	if w.in == nil {
		w.in = take(small)
	}
	for {
		n, err := syscall.Read(w.fd, *w.in)
		switch {
		case err == syscall.EINTR:
			continue
		case err == nil && n > 0:
			w.start, w.end = 0, n
			return nil
		}
		w.release()
		switch err {
		case nil:
			return io.EOF
		case syscall.EAGAIN:
			return errDry
		}
		return fmt.Errorf("read: %w", err)
	}
}

func (w *wire) release() {
	if w.in != nil {
		give(w.in)
		w.in = nil
	}
	w.start, w.end = 0, 0
}

// Write is TLS's: one record, most of the time.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closing:
		return w.offer(b)
	case !w.gather:
		return w.TCPConn.Write(b) //nolint:wrapcheck // TLS asks what it is
	}
	if w.out != nil && w.n+len(b) > len(*w.out) {
		if err := w.send(); err != nil {
			return 0, err
		}
	}
	if w.out == nil {
		w.out = take(sizeOf(max(len(b), small)))
	}
	w.n += copy((*w.out)[w.n:], b)
	return len(b), nil
}

// begin gathers what TLS writes, until flush.
func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gather = true
}

// flush writes what was gathered.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gather = false
	return w.send()
}

func (w *wire) send() error {
	if w.out == nil {
		return nil
	}
	_, err := w.TCPConn.Write((*w.out)[:w.n])
	give(w.out)
	w.out, w.n = nil, 0
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// shut makes every write one that does not wait: who closes has no time for a peer that
// reads nothing.
func (w *wire) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
}

// offer writes what the kernel takes at once.
func (w *wire) offer(b []byte) (int, error) {
	raw, err := w.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("get raw connection: %w", err)
	}
	var n int
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = syscall.Write(int(fd), b) })
	if err = errors.Join(err, failed); err != nil {
		return max(n, 0), fmt.Errorf("write: %w", err)
	}
	return n, nil
}

// SetWriteDeadline does nothing: TLS sets one when it closes, where offer does not wait.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
