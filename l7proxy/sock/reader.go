package sock

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
)

// The sizes of read buffers. Reads go to a small one or a larger one; what is
// left of a frame whose rest has not come waits in the least that holds it. A frame
// of at most Largest bytes is held whole in one; larger ones are streamed, unless a
// caller asks for more with Need.
const (
	least   = 1 << 10
	less    = 8 << 10
	small   = 64 << 10
	Largest = 256 << 10
)

// ErrOver is returned by Fill if a frame needs a larger buffer than the quota
// leaves. Nothing is lost: Fill goes on if it is called again.
var ErrOver = errors.New("read: no more buffers for frames that are not finished")

// Quota bounds the buffers of many Readers together. A Reader that gets nothing
// still has the least buffer.
type Quota interface {
	// Hold takes n bytes, or returns false and takes nothing.
	Hold(n int) bool
	// Free gives them back.
	Free(n int)
}

// sizes are those of the pools, in order.
var (
	sizes   = [...]int{least, less, small, Largest}
	buffers = [len(sizes)]sync.Pool{pool(least), pool(less), pool(small), pool(Largest)}
)

func pool(size int) sync.Pool {
	return sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// sizeOf returns the size of a buffer of at least n bytes.
func sizeOf(n int) int {
	for _, size := range sizes {
		if n <= size {
			return size
		}
	}
	return n
}

// take returns a buffer of n bytes.
func take(n int) *[]byte {
	for i, size := range sizes {
		if n == size {
			return buffers[i].Get().(*[]byte)
		}
	}
	b := make([]byte, n)
	return &b
}

// give returns a buffer to the pool that it is from, if any.
func give(b *[]byte) {
	for i, size := range sizes {
		if len(*b) == size {
			buffers[i].Put(b)
		}
	}
}

// Reader is the read side of a Conn, for one goroutine.
type Reader struct {
	raw        syscall.RawConn
	quota      Quota   // nil: none
	held       int     // of quota, for buf
	buf        *[]byte // borrowed; nil while nothing is buffered
	start, end int
	want       int // of the frame that Need told of
	n          int // of the last read
	taken      uint32
	err        error
	secure     *secured              // nil: plaintext
	ahead      bool                  // Peek has read what Fill has not told of yet
	reads      atomic.Uint64         // that gave bytes, to tell a silent peer
	try        func(fd uintptr) bool // read once; made once, so that Fill allocates nothing
}

func (r *Reader) init(raw syscall.RawConn) {
	r.raw = raw
	r.try = r.read
}

// Bytes returns what is buffered. It is valid until Discard, Need or Fill.
func (r *Reader) Bytes() []byte {
	if r.buf == nil {
		return nil
	}
	return (*r.buf)[r.start:r.end]
}

// Reads counts the reads that gave bytes. Any goroutine may ask.
func (r *Reader) Reads() uint64 { return r.reads.Load() }

// Discard drops the first n buffered bytes.
func (r *Reader) Discard(n int) { r.start += n }

// Fill waits until at least one more byte is buffered. It returns io.EOF when
// the peer has closed its side.
func (r *Reader) Fill() error {
	if r.ahead {
		r.ahead = false
		return nil
	}
	return r.fill()
}

func (r *Reader) fill() error {
	if r.start == r.end {
		r.Release()
	} else if r.end == len(*r.buf) && !r.widen() {
		return ErrOver
	}
	r.err = nil
	if err := r.raw.Read(r.try); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	if r.n == 0 {
		return io.EOF
	}
	r.end += r.n
	r.taken += uint32(r.n)
	r.reads.Add(1)
	return nil
}

// Need says that a frame of n bytes starts at the first buffered one. It gets
// room as its bytes come: who announces a frame has sent nothing yet.
func (r *Reader) Need(n int) {
	r.want = n
	if n > len(*r.buf)-r.start {
		r.compact()
	}
}

// widen makes room in a buffer that is full: at most four times what has come.
// False: the quota is used up.
func (r *Reader) widen() bool {
	if r.start > 0 {
		r.compact()
		return true
	}
	n := 4 * len(*r.buf)
	if r.want > len(*r.buf) {
		n = min(n, r.want)
	}
	return r.move(n)
}

// move changes the buffer for one of at least n bytes, which must hold what is
// buffered. False: the quota is used up.
func (r *Reader) move(n int) bool {
	n = sizeOf(n)
	if !r.claim(n) {
		return false
	}
	other := take(n)
	copied := copy(*other, r.Bytes())
	give(r.buf)
	r.buf, r.start, r.end = other, 0, copied
	return true
}

// claim makes the quota's part n bytes. It is the least that fails last: that
// much a Reader may have in any case.
func (r *Reader) claim(n int) bool {
	if r.quota == nil {
		return true
	}
	if n > r.held {
		if !r.quota.Hold(n - r.held) {
			return n == least
		}
	} else {
		r.quota.Free(r.held - n)
	}
	r.held = n
	return true
}

// borrow takes the buffer for a read: a small one, or what the quota leaves.
func (r *Reader) borrow() {
	for _, n := range [...]int{small, less, least} {
		if r.claim(n) {
			r.buf = take(n)
			return
		}
	}
}

// room makes room for a read behind what is buffered, which may have waited in a
// buffer that it fills. False: the quota is used up.
func (r *Reader) room() bool {
	if len(*r.buf) < small && r.move(small) {
		return true
	}
	return r.end < len(*r.buf) || r.widen()
}

// shrink makes what is buffered wait in as little memory as it needs.
func (r *Reader) shrink() {
	if n := sizeOf(r.end - r.start); n < len(*r.buf) {
		r.move(n)
	}
}

// Release gives the buffer back, with whatever is in it.
func (r *Reader) Release() {
	if r.buf != nil {
		give(r.buf)
		r.buf = nil
		r.claim(0)
	}
	r.start, r.end, r.want = 0, 0, 0
}

// compact moves what is buffered to the front.
func (r *Reader) compact() {
	r.end = copy(*r.buf, r.Bytes())
	r.start = 0
}

// read is one non-blocking read; false means wait. A buffer is taken before the
// read and given back if there was nothing, so that waiting costs none.
func (r *Reader) read(fd uintptr) bool {
	if r.buf == nil {
		r.borrow()
	} else if !r.room() {
		r.err = ErrOver
		return true
	}
	if r.secure != nil {
		return r.decrypt(fd)
	}
	for {
		n, err := syscall.Read(int(fd), (*r.buf)[r.end:])
		switch err {
		case nil:
			r.n = n
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			r.nothing()
			return false
		default:
			r.err = fmt.Errorf("read: %w", err)
			return true
		}
	}
}

// nothing gives back what a read that got nothing does not need.
func (r *Reader) nothing() {
	if r.start == r.end {
		r.Release()
	} else {
		r.shrink()
	}
}
