package sock

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waiting returns how many senders wait and how much is queued.
func (w *writer) waiting() (waiters, queued, kept int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiters, len(w.queue), cap(w.queue) + cap(w.spare)
}

// TestManySenders lets many senders meet a peer that does not read at first and
// reads slowly then.
func TestManySenders(t *testing.T) {
	const (
		senders = 16
		frames  = 150
		maxBody = 6000
	)
	check := watchGoroutines(t)
	c, peer := pair(t)
	var accepted atomic.Int64
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for n := range frames {
				b := frame(s, n, (s*977+n*463)%maxBody)
				cut := len(b) * (n % 4) / 4
				if err := c.Send(b[:cut], b[cut:]); err != nil {
					t.Errorf("Send = %v", err)
					return
				}
				clear(b) // the bytes may be reused
				accepted.Add(int64(len(b)))
			}
		})
	}
	eventually(t, "senders wait", func() bool { w, _, _ := c.waiting(); return w > 0 })
	for range 20 {
		if _, queued, _ := c.waiting(); queued > maxQueued+headLen+maxBody {
			t.Errorf("%d bytes are queued, want at most the bound and a frame", queued)
		}
		time.Sleep(time.Millisecond)
	}
	// One half of the queue waits, the other is being written, and the kernel
	// doubles the buffers that it was asked for.
	if got := accepted.Load(); got > 2*(maxQueued+headLen+maxBody)+4<<20 {
		t.Errorf("senders got rid of %d bytes while nobody read", got)
	}
	got := make(chan map[int]int, 1)
	go func() {
		counts, err := readFrames(bufio.NewReaderSize(slow{peer}, 32<<10))
		if err != nil {
			t.Errorf("read: %v", err)
		}
		got <- counts
	}()
	sending.Wait()
	eventually(t, "the queue drains", func() bool {
		_, queued, _ := c.waiting()
		return queued == 0 && !c.isBusy()
	})
	if _, _, kept := c.waiting(); kept > keptQueue {
		t.Errorf("an idle writer keeps %d bytes, want at most %d", kept, keptQueue)
	}
	_ = c.Close()
	counts := <-got
	for s := range senders {
		if counts[s] != frames {
			t.Errorf("sender %d: %d frames arrived, want %d", s, counts[s], frames)
		}
	}
	check()
}

func (w *writer) isBusy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}

// TestAcquire mixes senders of whole frames with writers of pieces.
func TestAcquire(t *testing.T) {
	const each = 60
	c, peer := pair(t)
	var sending sync.WaitGroup
	var inside atomic.Int32
	for s := range 4 {
		sending.Go(func() {
			for n := range each {
				if err := c.Send(frame(s, n, 700*s+n)); err != nil {
					t.Errorf("Send = %v", err)
				}
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	for s := 4; s < 7; s++ {
		sending.Go(func() {
			for n := range each / 4 {
				if err := c.Acquire(); err != nil {
					t.Errorf("Acquire = %v", err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two goroutines have acquired the writer")
				}
				var err error
				for b := frame(s, n, 20_000+n); len(b) > 0 && err == nil; {
					piece := b[:min(len(b), 3001)]
					b = b[len(piece):]
					err = c.Write(piece)
				}
				inside.Add(-1)
				if err = c.Done(err); err != nil {
					t.Errorf("Done = %v", err)
				}
			}
		})
	}
	got := make(chan map[int]int, 1)
	go func() {
		counts, err := readFrames(bufio.NewReaderSize(slow{peer}, 32<<10))
		if err != nil {
			t.Errorf("read: %v", err)
		}
		got <- counts
	}()
	sending.Wait()
	eventually(t, "the queue drains", func() bool { return !c.isBusy() })
	_ = c.Close()
	counts := <-got
	for s := range 7 {
		want := each
		if s >= 4 {
			want = each / 4
		}
		if counts[s] != want {
			t.Errorf("sender %d: %d frames arrived, want %d", s, counts[s], want)
		}
	}
}

// TestBroken ends a connection while senders wait in every place.
func TestBroken(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *Conn, peer *net.TCPConn)
	}{
		{"the peer resets", func(_ *Conn, peer *net.TCPConn) { _ = peer.SetLinger(0); _ = peer.Close() }},
		{"closed here", func(c *Conn, _ *net.TCPConn) { _ = c.Close() }},
		{"reset here", func(c *Conn, _ *net.TCPConn) { _ = c.Reset() }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			check := watchGoroutines(t)
			c, peer := pair(t)
			const senders = 8
			errs := make(chan error, senders+2)
			send := func(s, size int) {
				var err error
				for n := 0; err == nil; n++ {
					err = c.Send(frame(s, n, size))
				}
				errs <- err
			}
			go send(0, 8<<20) // more than the kernel takes: the writer stays busy
			eventually(t, "one writes", c.isBusy)
			for s := 1; s < senders; s++ {
				go send(s, 8000)
			}
			eventually(t, "all but the writer wait", func() bool { w, _, _ := c.waiting(); return w >= senders-1 })
			go func() { errs <- c.Acquire() }()
			go func() { errs <- c.Fill() }()
			eventually(t, "Acquire waits", func() bool { w, _, _ := c.waiting(); return w >= senders })
			test.end(c, peer)
			for range senders + 2 {
				select {
				case err := <-errs:
					if err == nil {
						t.Error("a waiter of a broken connection got no error")
					}
				case <-time.After(30 * time.Second):
					t.Fatal("a waiter of a broken connection still waits")
				}
			}
			for _, err := range []error{c.Err(), c.Send([]byte("x")), c.Acquire()} {
				if err == nil {
					t.Error("the broken connection takes more")
				}
			}
			check()
		})
	}
}

// TestDoneWithError leaves the peer with half a frame: nothing may follow it.
func TestDoneWithError(t *testing.T) {
	c, peer := pair(t)
	if err := c.Acquire(); err != nil {
		t.Fatal(err)
	}
	if err := c.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	if err := c.Send([]byte("queued")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the provider died")
	if err := c.Done(broken); !errors.Is(err, broken) {
		t.Errorf("Done = %v, want %v", err, broken)
	}
	if err := c.Send([]byte("later")); !errors.Is(err, broken) {
		t.Errorf("Send = %v, want %v", err, broken)
	}
	_ = c.Close()
	b := make([]byte, 100)
	n, _ := peer.Read(b)
	if more, _ := peer.Read(b[n:]); string(b[:n+more]) != "half" {
		t.Errorf("the peer got %q, want only the half frame", b[:n+more])
	}
}

// TestStall tells a peer that takes nothing from one that reads.
func TestStall(t *testing.T) {
	c, peer := pair(t)
	var stall Stall
	for range 3 {
		if looks := stall.Look(c); looks != 0 || c.Writing() {
			t.Errorf("an idle connection has been stalled for %d looks", looks)
		}
	}
	sent := make(chan error, 1)
	go func() { sent <- c.Send(make([]byte, 8<<20)) }()
	eventually(t, "a write is in progress", c.Writing)
	first := stall.Look(c)
	for i := range 3 {
		if looks := stall.Look(c); looks != first+1+i {
			t.Errorf("look %d: stalled for %d looks, want %d", i, looks, first+1+i)
		}
	}
	b := make([]byte, 1<<20)
	for got := 0; got < 8<<20; {
		n, err := peer.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if looks := stall.Look(c); looks != 0 || c.Writing() {
		t.Errorf("stalled for %d looks after the write", looks)
	}
}
