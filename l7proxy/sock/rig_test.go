package sock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a connection over loopback whose kernel buffers are
// small, so that a slow peer is felt soon.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		// Of a network: loopback's segments of 64 KiB stall on small windows.
		ctl := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400)
		})
		return errors.Join(ctl, err)
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer := far.(*net.TCPConn)
	_ = peer.SetReadBuffer(128 << 10)
	_ = near.(*net.TCPConn).SetWriteBuffer(64 << 10)
	c, err := New(near.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(2 * time.Minute)
	_ = peer.SetDeadline(deadline)
	t.Cleanup(func() {
		_ = c.Close()
		_ = peer.Close()
	})
	return c, peer
}

// The test's frames: length of the body, sender, number, then a body that is a
// function of the three.
const headLen = 12

func frame(sender, number, body int) []byte {
	b := make([]byte, headLen+body)
	binary.BigEndian.PutUint32(b, uint32(body))
	binary.BigEndian.PutUint32(b[4:], uint32(sender))
	binary.BigEndian.PutUint32(b[8:], uint32(number))
	for i := range body {
		b[headLen+i] = pattern(sender, number, i)
	}
	return b
}

func pattern(sender, number, i int) byte { return byte(sender*31 + number*7 + i + i>>8) }

// parse tells what frame is at the start of b and how long it is; 0 if b is too
// short for its head.
func parse(b []byte) (sender, number, length int) {
	if len(b) < headLen {
		return 0, 0, 0
	}
	return int(binary.BigEndian.Uint32(b[4:])), int(binary.BigEndian.Uint32(b[8:])), headLen + int(binary.BigEndian.Uint32(b))
}

// intact checks the body of a whole frame.
func intact(b []byte) error {
	sender, number, length := parse(b)
	if length != len(b) {
		return fmt.Errorf("frame of %d bytes says %d", len(b), length)
	}
	for i, got := range b[headLen:] {
		if got != pattern(sender, number, i) {
			return fmt.Errorf("frame %d of sender %d is damaged at byte %d", number, sender, i)
		}
	}
	return nil
}

// readFrames reads frames until the end and returns how many each sender sent.
// It checks that each is whole and follows the one before of its sender.
func readFrames(r io.Reader) (map[int]int, error) {
	next := make(map[int]int)
	head := make([]byte, headLen)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			if errors.Is(err, io.EOF) {
				return next, nil
			}
			return next, err
		}
		sender, number, length := parse(head)
		if length > 8<<20 {
			return next, fmt.Errorf("a frame says it has %d bytes: frames were mixed", length)
		}
		b := append(make([]byte, 0, length), head...)[:length]
		if _, err := io.ReadFull(r, b[headLen:]); err != nil {
			return next, err
		}
		if err := intact(b); err != nil {
			return next, err
		}
		if number != next[sender] {
			return next, fmt.Errorf("sender %d: frame %d came where %d was due", sender, number, next[sender])
		}
		next[sender]++
	}
}

// slow reads a little at a time, with pauses.
type slow struct{ r io.Reader }

func (s slow) Read(b []byte) (int, error) {
	time.Sleep(100 * time.Microsecond)
	return s.r.Read(b[:min(len(b), 32<<10)])
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// watchGoroutines fails the test if more goroutines stay than are there now.
func watchGoroutines(t *testing.T) (check func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		eventually(t, "every goroutine ends", func() bool { return runtime.NumGoroutine() <= before })
	}
}

// halving holds back the second half of what is written, while it is on.
type halving struct {
	net.Conn

	on   atomic.Bool
	rest chan struct{}
}

func (h *halving) Write(b []byte) (int, error) {
	if !h.on.Load() {
		return h.Conn.Write(b)
	}
	n, err := h.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	<-h.rest
	more, err := h.Conn.Write(b[n:])
	return n + more, err
}
