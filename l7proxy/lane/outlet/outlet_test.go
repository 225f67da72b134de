package outlet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/sock/socktest"
)

// wire notes each write of several pieces, as a lane's program gets them.
type wire struct {
	net.Conn

	writes [][]byte
}

func (w *wire) Write(b []byte) (int, error) {
	w.writes = append(w.writes, bytes.Clone(b))
	return len(b), nil
}

// gate notes what it is asked, and how much was written by then.
type gate struct {
	w       *wire
	queued  []uint32 // answers, in turn; then 0
	paused  bool
	pauses  int
	left    int // writes, when Leave was called; 0: it was not
	scarce  int // writes, from which on there is no memory for more; 0: there is
	refuses error
}

func (g *gate) Look() (s lane.State, err error) {
	s.Peer = 1
	if g.scarce > 0 && len(g.w.writes) >= g.scarce {
		s.Flags = lane.Scarce
	}
	if len(g.queued) == 0 {
		return s, g.refuses
	}
	s.Queued = g.queued[0]
	g.queued = g.queued[1:]
	return s, nil
}

func (g *gate) Pause() error {
	g.paused = true
	g.pauses++
	return nil
}

func (g *gate) Resume() { g.paused = false }

func (g *gate) Leave() {
	if g.left == 0 && g.paused {
		g.left = len(g.w.writes)
	}
}

// answer is a frame of a length.
func answer(id uint64, length int) []byte {
	f := binary.BigEndian.AppendUint64([]byte{0xda, 0xbb, 2, codec.StatusOK}, id)
	f = binary.BigEndian.AppendUint32(f, uint32(length-16))
	return append(f, make([]byte, length-16)...)
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// TestWholeFrames: what is written arrives in order, and but for what has the lane for
// itself in writes that end with a frame and are not too large for one message.
func TestWholeFrames(t *testing.T) {
	small, half, large := answer(1, 100), answer(2, 300_000), answer(3, lane.MaxWrite+1)
	for _, tt := range []struct {
		name   string
		calls  [][][]byte // each has spans
		writes int        // pieces that the kernel gets
		pauses int
	}{
		{"one", [][][]byte{{small}}, 1, 0},
		{"adjacent ones are one", [][][]byte{{join(small, small, small)}}, 1, 0},
		{"of two spans", [][][]byte{{join(small, small), small}}, 2, 0},
		{"more than a message", [][][]byte{{join(half, half, small)}}, 2, 0},
		{"too large", [][][]byte{{join(small, large, small)}}, 4, 1},
		{"in pieces", [][][]byte{{half[:16]}, {half[16:200_000]}, {half[200_000:]}, {small}}, 4, 1},
		{"the end of one and another", [][][]byte{{half[:50]}, {join(half[50:], small)}}, 3, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &wire{}
			g := &gate{w: w}
			o := New(w, seam.Protocol().Frames, g)
			var want []byte
			for _, spans := range tt.calls {
				if err := o.Write(spans); err != nil {
					t.Fatal(err)
				}
				want = append(want, join(spans...)...)
			}
			if got := join(w.writes...); !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrive, want %d: or they differ", len(got), len(want))
			}
			if len(w.writes) != tt.writes || g.pauses != tt.pauses || g.paused || !o.Whole() {
				t.Errorf("%d writes, %d pauses, paused %t, whole %t; want %d and %d", len(w.writes), g.pauses, g.paused, o.Whole(), tt.writes, tt.pauses)
			}
			for _, b := range w.writes {
				if len(b) > lane.MaxWrite {
					t.Errorf("a write of %d bytes", len(b))
				}
			}
		})
	}
}

// TestBehind: a consumer that does not read is not written to until it has.
func TestBehind(t *testing.T) {
	w := &wire{}
	g := &gate{w: w, queued: []uint32{backlog, 2 * backlog, backlog - 1}}
	o := New(w, seam.Protocol().Frames, g)
	for range 2 { // the second finds no room any more
		if err := o.Write([][]byte{answer(1, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.queued) > 0 || len(w.writes) != 2 {
		t.Errorf("%d looks left, %d writes", len(g.queued), len(w.writes))
	}
	g.refuses = errors.New("closed")
	o.room = 0
	if err := o.Write([][]byte{answer(1, 100)}); !errors.Is(err, g.refuses) || len(w.writes) != 2 {
		t.Errorf("Write = %v after %d writes", err, len(w.writes))
	}
}

// TestScarce: where there may be no memory for what the consumer is sent, what follows goes by
// TCP behind a pause, also in the middle of a frame.
func TestScarce(t *testing.T) {
	small, large := answer(1, 100), answer(2, 2*lane.MaxWrite)
	for _, tt := range []struct {
		name   string
		frames [][]byte
		scarce int
	}{
		{"between frames", [][]byte{small, small, small}, 1},
		{"within a frame", [][]byte{small, large, small}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &wire{}
			g := &gate{w: w, scarce: tt.scarce, queued: slices.Repeat([]uint32{backlog - 1}, 9)} // it is looked at before each write
			o := New(w, seam.Protocol().Frames, g)
			for _, f := range tt.frames {
				if err := o.Write([][]byte{f}); err != nil {
					t.Fatal(err)
				}
			}
			if got := join(w.writes...); !bytes.Equal(got, join(tt.frames...)) {
				t.Errorf("%d bytes arrive, or they differ", len(got))
			}
			if g.left != tt.scarce {
				t.Errorf("by TCP behind %d writes, want %d", g.left, tt.scarce)
			}
		})
	}
}

// TestNoFrame: what is no frame is not written.
func TestNoFrame(t *testing.T) {
	w := &wire{}
	o := New(w, seam.Protocol().Frames, &gate{w: w})
	if err := o.Write([][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}); err == nil || len(w.writes) > 0 {
		t.Errorf("Write = %v after %d writes", err, len(w.writes))
	}
}

// TestOverConn: many senders and a large frame on a real connection.
func TestOverConn(t *testing.T) {
	c, far := socktest.Pair(t)
	if err := c.Acquire(); err != nil {
		t.Fatal(err)
	}
	c.Divert(New(c.TCP(), seam.Protocol().Frames, &gate{w: &wire{}}))
	if err := c.Done(nil); err != nil {
		t.Fatal(err)
	}
	const senders, each = 8, 50
	for s := range senders {
		go func() {
			for n := range each {
				f := answer(uint64(s), 100+n)
				if n == each/2 {
					f = answer(uint64(s), lane.MaxWrite+n)
				}
				if err := c.Send(f); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	seen := make(map[uint64]int)
	for range senders * each {
		head := make([]byte, 16)
		if _, err := io.ReadFull(far, head); err != nil {
			t.Fatal(err)
		}
		h, err := seam.Protocol().Frames.ParseHeader(head)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, far, int64(h.Body)); err != nil {
			t.Fatal(err)
		}
		seen[h.ID]++
	}
	for s := range senders {
		if seen[uint64(s)] != each {
			t.Errorf("%d frames of sender %d", seen[uint64(s)], s)
		}
	}
	_ = c.Close()
}
