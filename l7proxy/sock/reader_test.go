package sock

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nextFrame reads one frame as a session does: Fill, and Need for what is not
// whole.
func nextFrame(c *Conn) ([]byte, error) {
	for {
		if _, _, length := parse(c.Bytes()); length > 0 {
			if length <= len(c.Bytes()) {
				b := slices.Clone(c.Bytes()[:length])
				c.Discard(length)
				return b, nil
			}
			c.Need(length)
		}
		if err := c.Fill(); err != nil {
			return nil, err
		}
	}
}

func wantFrame(t *testing.T, c *Conn, number int) {
	t.Helper()
	b, err := nextFrame(c)
	if err != nil {
		t.Fatalf("frame %d: %v", number, err)
	}
	if err = intact(b); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := parse(b); got != number {
		t.Fatalf("frame %d came where %d was due", got, number)
	}
}

// TestEverySplit cuts three frames at every place.
func TestEverySplit(t *testing.T) {
	c, peer := pair(t)
	stream := slices.Concat(frame(1, 0, 5), frame(1, 1, 0), frame(1, 2, 20))
	for cut := 1; cut < len(stream); cut++ {
		send(t, peer, stream[:cut])
		for len(c.Bytes()) < cut {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
		}
		send(t, peer, stream[cut:])
		for n := range 3 {
			wantFrame(t, c, n)
		}
	}
}

// TestPauses: a frame whose rest comes later, when what has come fills one of the
// buffers to its last byte, or nearly.
func TestPauses(t *testing.T) {
	for _, size := range sizes {
		for _, cut := range []int{size - 1, size, size + 1} {
			c, peer := pair(t)
			whole := frame(1, 0, cut+50_000)
			got := make(chan error, 1)
			go func() {
				b, err := nextFrame(c)
				if err == nil {
					err = intact(b)
				}
				if err == nil && len(b) != len(whole) {
					err = errors.New("it is cut")
				}
				got <- err
			}()
			for start := 0; start < cut; start += 30_000 { // as the reader takes it
				send(t, peer, whole[start:min(start+30_000, cut)])
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(10 * time.Millisecond)
			send(t, peer, whole[cut:])
			if err := <-got; err != nil {
				t.Errorf("a pause behind %d bytes: %v", cut, err)
			}
		}
	}
}

func TestByteByByte(t *testing.T) {
	c, peer := pair(t)
	stream := slices.Concat(frame(1, 0, 50), frame(1, 1, 0), frame(1, 2, 70))
	var got int
	for i := range stream {
		send(t, peer, stream[i:i+1])
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
		if _, _, length := parse(c.Bytes()); length > 0 && length == len(c.Bytes()) {
			wantFrame(t, c, got)
			got++
		}
	}
	if got != 3 {
		t.Errorf("%d frames, want 3", got)
	}
}

func send(t *testing.T, peer *net.TCPConn, b []byte) {
	t.Helper()
	if _, err := peer.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestNeed reads frames of the sizes around those of the buffers, behind a
// frame that moves them away from the buffer's start.
func TestNeed(t *testing.T) {
	sizes := []int{small - 1, small, small + 1, Largest - 1, Largest, Largest + 1, 100, small}
	for _, before := range []int{headLen, 1000, small - 20} {
		c, peer := pair(t)
		var stream []byte
		for i, size := range sizes {
			stream = append(stream, frame(1, 2*i, before-headLen)...)
			stream = append(stream, frame(1, 2*i+1, size-headLen)...)
		}
		go peer.Write(stream)
		for n := range 2 * len(sizes) {
			wantFrame(t, c, n)
		}
		c.Interrupt()
		if err := c.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Fill = %v", err)
		}
		if c.buf != nil {
			t.Error("the reader keeps a buffer although nothing is buffered")
		}
	}
}

// TestNeedGrows: a frame that is announced costs what has come of it, and not what
// its header says.
func TestNeedGrows(t *testing.T) {
	const announced = 3 << 20
	c, peer := pair(t)
	bytes := frame(1, 0, announced-headLen)
	for _, sent := range []int{500, 5000, small, small + 1, Largest + 1, 1<<20 + 1, announced} {
		send(t, peer, bytes[len(c.Bytes()):sent])
		for len(c.Bytes()) < sent {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			c.Need(announced)
		}
		c.Interrupt()
		if err := c.Fill(); sent < announced && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Fill = %v", err)
		}
		c.Resume()
		if size := len(*c.buf); size < sent || size > 4*max(sent, small) {
			t.Errorf("%d bytes are in a buffer of %d", sent, size)
		}
	}
	if !slices.Equal(c.Bytes(), bytes) {
		t.Error("other bytes than were sent")
	}
	c.Release()
	if c.buf != nil || c.Bytes() != nil {
		t.Errorf("Release left %d bytes", len(c.Bytes()))
	}
	for i, size := range sizes {
		if b := len(*buffers[i].Get().(*[]byte)); b != size {
			t.Errorf("the pool of %d holds a buffer of %d bytes", size, b)
		}
	}
}

// bound is a Quota of one reader. It is looked at while the reader waits.
type bound struct{ limit, used atomic.Int64 }

func (b *bound) Hold(n int) bool {
	if b.used.Add(int64(n)) <= b.limit.Load() {
		return true
	}
	b.Free(n)
	return false
}

func (b *bound) Free(n int) { b.used.Add(-int64(n)) }

// TestQuota: a buffer counts as long as it is held, by the least that holds what
// has come while its rest is waited for; with a quota that is used up a Reader has
// the least buffer, and what needs more is told so and can go on.
func TestQuota(t *testing.T) {
	c, peer := pair(t)
	var b bound
	b.limit.Store(small)
	c.Limit(&b)
	whole := frame(1, 0, 5000)
	send(t, peer, whole[:100])
	if err := c.Fill(); err != nil || b.used.Load() != small {
		t.Fatalf("Fill = %v, %d bytes are held", err, b.used.Load())
	}
	filled := make(chan error, 1)
	go func() { filled <- c.Fill() }()
	for b.used.Load() != least {
		time.Sleep(time.Millisecond)
	}
	b.limit.Store(least)
	send(t, peer, whole[100:3000])
	for range 2 {
		if err := <-filled; err != nil {
			t.Fatal(err)
		}
		go func() { filled <- c.Fill() }()
		if len(c.Bytes()) == least {
			break
		}
	}
	for range 2 {
		if err := <-filled; !errors.Is(err, ErrOver) || b.used.Load() != least || len(c.Bytes()) != least {
			t.Fatalf("Fill over the quota = %v, %d bytes are held, %d buffered", err, b.used.Load(), len(c.Bytes()))
		}
		go func() { filled <- c.Fill() }()
	}
	<-filled
	b.limit.Store(small)
	send(t, peer, whole[3000:])
	wantFrame(t, c, 0)
	c.Release()
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are held by nobody", b.used.Load())
	}

	b.limit.Store(0)
	send(t, peer, frame(1, 1, 500))
	wantFrame(t, c, 1)
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are held over the quota", b.used.Load())
	}
}

// TestIdle: a Fill that waits holds no buffer, unless a part of a frame is there.
func TestIdle(t *testing.T) {
	c, peer := pair(t)
	send(t, peer, frame(1, 0, 10))
	wantFrame(t, c, 0)
	filled := make(chan error, 1)
	go func() { filled <- c.Fill() }()
	time.Sleep(5 * time.Millisecond)
	c.Interrupt()
	// The deadline ends the wait without another look at the socket: what the
	// reader holds now is what it held while it waited.
	if err := <-filled; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("interrupted Fill = %v", err)
	}
	if c.buf != nil {
		t.Error("a waiting Fill holds a buffer")
	}
	if err := c.Fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Fill before Resume = %v", err)
	}
	c.Resume()

	whole := frame(1, 1, 10)
	send(t, peer, whole[:15])
	for len(c.Bytes()) < 15 {
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	go func() { filled <- c.Fill() }()
	time.Sleep(5 * time.Millisecond)
	c.Interrupt()
	<-filled
	c.Resume()
	send(t, peer, whole[15:])
	wantFrame(t, c, 1)
}

func TestEnd(t *testing.T) {
	t.Run("closed by the peer", func(t *testing.T) {
		c, peer := pair(t)
		send(t, peer, frame(1, 0, 3))
		_ = peer.CloseWrite()
		wantFrame(t, c, 0)
		for range 2 {
			if err := c.Fill(); !errors.Is(err, io.EOF) {
				t.Errorf("Fill = %v, want EOF", err)
			}
		}
	})
	t.Run("reset by the peer", func(t *testing.T) {
		c, peer := pair(t)
		_ = peer.SetLinger(0)
		_ = peer.Close()
		if err := c.Fill(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Fill = %v, want a reset", err)
		}
	})
	t.Run("reset here", func(t *testing.T) {
		c, peer := pair(t)
		_ = c.Reset()
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer reads %v, want a reset", err)
		}
	})
}

// TestPeek looks at bytes that Fill reads afterwards.
func TestPeek(t *testing.T) {
	c, peer := pair(t)
	b := make([]byte, 4)
	if _, err := c.Peek(b, 0, 5*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Peek of silence = %v, want a deadline", err)
	}
	send(t, peer, []byte("hello"))
	for range 3 {
		if n, err := c.Peek(b, 0, 30*time.Second); err != nil || string(b[:n]) != "hell" {
			t.Errorf("Peek = %q, %v", b[:n], err)
		}
	}
	if n, err := c.Peek(b, 0, 0); err != nil || n != 4 {
		t.Errorf("Peek without a limit = %d, %v", n, err)
	}
	if _, err := c.Peek(b, 4, 5*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Peek beyond what is there = %v, want a deadline", err)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		send(t, peer, []byte("!"))
	}()
	if n, err := c.Peek(make([]byte, 8), 5, 30*time.Second); n != 6 || err != nil {
		t.Errorf("Peek beyond 5 bytes = %d, %v", n, err)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		_ = peer.CloseWrite()
	}()
	if n, err := c.Peek(make([]byte, 8), 6, 30*time.Second); n != 6 || err != nil {
		t.Errorf("Peek beyond the last byte = %d, %v", n, err)
	}
	for len(c.Bytes()) < 6 {
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(c.Bytes()); got != "hello!" {
		t.Errorf("after Peek %q is read, want hello!", got)
	}
	c.Discard(6)
	if n, err := c.Peek(b, 0, 30*time.Second); n != 0 || err != nil {
		t.Errorf("Peek at the end = %d, %v", n, err)
	}
	_ = c.Close()
	if _, err := c.Peek(b, 0, 30*time.Second); err == nil {
		t.Error("Peek of a closed connection gave no error")
	}
}
