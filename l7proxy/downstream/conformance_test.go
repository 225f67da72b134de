package downstream

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// conformance returns the frames of codec/dubbo's testdata by name. What they
// mean is tested there; here they pass through.
func conformance(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../codec/dubbo/testdata/*.frame")
	if err != nil || len(paths) < 200 {
		t.Fatalf("%d frames, %v", len(paths), err)
	}
	all := make(map[string][]byte)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(text), "\n\n")
		frame, err := hex.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = frame
	}
	return all
}

// asks tells whether a frame is a whole two-way request, and no event.
func asks(frame []byte) bool {
	h, err := dubbo.ParseHeader(frame)
	return err == nil && h.Body == len(frame)-dubbo.HeaderLen && h.Request() && h.TwoWay() && !h.Event()
}

// TestConformanceSplit: every request of the golden frames, decodable or not, passes
// byte for byte, however the bytes come: whole, byte by byte, and in two parts,
// split at every place.
func TestConformanceSplit(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	c := r.dial()
	_ = c.(*net.TCPConn).SetNoDelay(true)
	passed := 0
	for name, frame := range conformance(t) {
		if !asks(frame) {
			continue
		}
		step := 1 + len(frame)/400 // every place of all but the huge ones
		for split := 0; split <= len(frame); split += step {
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			write(t, c, frame[:split])
			time.Sleep(10 * time.Microsecond) // or both parts are read at once
			write(t, c, frame[split:])
			wantEcho(t, c, name, frame)
			passed++
		}
		for i := range frame[:min(len(frame), 400)] {
			write(t, c, frame[i:i+1])
		}
		write(t, c, frame[min(len(frame), 400):])
		wantEcho(t, c, name, frame)
	}
	if passed < 5000 {
		t.Errorf("only %d splits", passed)
	}
}

// wantEcho reads the answer of the rig's provider: the request's body behind the
// kind, with the request's id.
func wantEcho(t *testing.T, c net.Conn, name string, frame []byte) {
	t.Helper()
	h, body := mustAnswer(t, c)
	if id := binary.BigEndian.Uint64(frame[4:]); h.ID != id || h.Status != dubbo.StatusOK {
		t.Fatalf("%s: status %d for id %d, want an answer to %d: %s", name, h.Status, h.ID, id, body)
	}
	if !bytes.Equal(body[1:], frame[dubbo.HeaderLen:]) {
		t.Fatalf("%s: %d bytes came through changed", name, len(body)-1)
	}
}

// TestConformanceTogether: all whole frames in one write, requests, events and
// answers mixed: each request is answered once, each event that wants it too, and
// answers disturb nobody.
func TestConformanceTogether(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	c := r.dial()
	var stream []byte
	want, answers := 0, 0
	for _, frame := range conformance(t) {
		h, err := dubbo.ParseHeader(frame)
		if err != nil || h.Body != len(frame)-dubbo.HeaderLen {
			continue
		}
		stream = append(stream, frame...)
		switch {
		case h.Request() && h.TwoWay():
			want++
		case !h.Request() && !h.Event():
			answers++
		}
	}
	go func() { _, _ = c.Write(stream) }()
	for i := range want {
		f, err := readFrame(c)
		if err != nil {
			t.Fatalf("answer %d of %d: %v", i, want, err)
		}
		if h, _ := dubbo.ParseHeader(f); h.Request() || h.Status != dubbo.StatusOK {
			t.Fatalf("% x is no good answer", f[:dubbo.HeaderLen])
		}
	}
	waitFor(t, "answers are counted", func() bool {
		return r.env.Pool.Stats().Unasked.Load() == uint64(answers)
	})
	write(t, c, request(77, twoWay, nil))
	if h, _ := mustAnswer(t, c); h.ID != 77 {
		t.Errorf("%d is answered, want 77", h.ID)
	}
}

// TestBrokenAnswersFirst: what is no frame ends the connection behind the answers
// to the good ones that are still pending.
func TestBrokenAnswersFirst(t *testing.T) {
	p := newProvider(t)
	p.delay.Store(int64(200 * time.Millisecond))
	r := newRig(t, p.addr)
	c := r.dial()
	good := request(5, twoWay, nil)
	write(t, c, append(good, "this is no frame of Dubbo's"...))
	go func() { // and it goes on
		for {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	wantEcho(t, c, "the good one", good)
	if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

// TestConformanceBroken: what is no frame ends the connection behind a good one,
// after that one's answer, and is never passed on.
func TestConformanceBroken(t *testing.T) {
	p := newProvider(t)
	r := newRig(t, p.addr)
	broken := 0
	for name, frame := range conformance(t) {
		if _, err := dubbo.ParseHeader(frame); err == nil || errors.Is(err, codec.ErrShort) {
			continue
		}
		broken++
		c := r.dial()
		good := request(5, twoWay, nil)
		write(t, c, good)
		wantEcho(t, c, name, good)
		write(t, c, frame)
		if n, err := c.Read(make([]byte, 100)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes, %v; want an end", name, n, err)
		}
	}
	if n := p.requests.Load(); broken < 10 || n != int64(broken) {
		t.Errorf("the provider got %d requests of %d", n, broken)
	}
	waitFor(t, "a record of each good one", func() bool {
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		return r.rec.results[rpc.ResultValue] == broken
	})
}
