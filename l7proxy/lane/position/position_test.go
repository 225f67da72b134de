package position

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/sock/socktest"
)

// first is the sequence number of a stream's first byte: it begins anew within the test.
const first = ^uint32(0) - 30

// behind is so many bytes behind the first.
func behind(n uint32) uint32 { return first + n }

// frame is one of Dubbo, of 16 bytes and a body.
func frame(body int) []byte {
	f := append([]byte{0xda, 0xbb, 0xc2}, make([]byte, 9)...)
	return append(binary.BigEndian.AppendUint32(f, uint32(body)), make([]byte, body)...)
}

// TestPosition: what is told of a stream is right after each read of it, of whole frames,
// parts and several, also where the numbers begin anew, and what was known before somebody is
// told is told at once.
func TestPosition(t *testing.T) {
	c, far := socktest.Pair(t)
	p := New(c, seam.Protocol().Frames, first)
	var course lane.Course
	var reading uint32
	told := Told{Course: &course, Reading: func(end uint32) { reading = end }}
	for i, step := range []struct {
		write []byte
		used  int    // bytes of whole frames that are taken then
		next  uint32 // behind first
		end   uint32
	}{
		{frame(4), 20, 20, 20},
		{frame(10)[:18], 0, 20, 46}, // a part
		{frame(10)[18:], 26, 46, 46},
		{frame(0)[:9], 0, 46, 46}, // no header: who knows
		{append(frame(0)[9:], frame(100)[:50]...), 16, 62, 178},
		{append(frame(100)[50:], frame(0)...), 132, 194, 194},
	} {
		if i == 2 {
			p.Tell(told)
			if course.Resume != lane.At(behind(20)) || reading != behind(46) {
				t.Errorf("told at first: %x, %x", course.Resume, reading)
			}
		}
		had := len(c.Bytes())
		if _, err := far.Write(step.write); err != nil {
			t.Fatal(err)
		}
		for len(c.Bytes()) < had+len(step.write) {
			if err := c.Fill(); err != nil {
				t.Fatal(err)
			}
			p.Got()
		}
		p.Read(step.used)
		c.Discard(step.used)
		if i >= 2 && (course.Resume != lane.At(behind(step.next)) || reading != behind(step.end)) {
			t.Errorf("step %d: %d, %d behind the first byte", i, uint32(course.Resume)-first, reading-first)
		}
	}
	p.Hush()
	if _, err := far.Write(frame(0)); err != nil {
		t.Fatal(err)
	}
	if err := c.Fill(); err != nil {
		t.Fatal(err)
	}
	p.Got()
	p.Read(16)
	if course.Resume != lane.At(behind(194)) || reading != behind(194) {
		t.Error("it is told still")
	}
	(*Position)(nil).Got()
	(*Position)(nil).Read(1)
}

// TestGoOn: behind a proxy that read a part of a frame nothing is told until its rest was
// passed over, and then what is buffered already is counted.
func TestGoOn(t *testing.T) {
	c, far := socktest.Pair(t)
	const skip = 5
	p := New(c, seam.Protocol().Frames, first)
	course, reading := lane.Course{Resume: 7}, uint32(8)
	p.GoOn(Told{Course: &course, Reading: func(end uint32) { reading = end }})
	if course.Resume != 7 || reading != 8 {
		t.Errorf("told before anything was read: %x, %x", course.Resume, reading)
	}
	if _, err := far.Write(append(bytes.Repeat([]byte{1}, skip), frame(20)[:30]...)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pump(sock.Nowhere{}, skip); err != nil {
		t.Fatal(err)
	}
	for len(c.Bytes()) < 30 {
		if err := c.Fill(); err != nil {
			t.Fatal(err)
		}
	}
	p.Here()
	if course.Resume != lane.At(behind(skip)) || reading != behind(skip+36) {
		t.Errorf("%d, %d behind the first byte", uint32(course.Resume)-first, reading-first)
	}
}

// TestAhead: at any place where reading may stop, the end of the frame is known once its
// header is there.
func TestAhead(t *testing.T) {
	frame := frame(20)
	two := slices.Concat(frame, frame)
	for n := range len(two) + 1 {
		in := n % len(frame)
		more, ok := ahead(seam.Protocol().Frames, two[:n])
		switch {
		case in > 0 && in < 16:
			if ok {
				t.Errorf("%d bytes: %d", n, more)
			}
		case !ok || int(more) != (len(frame)-in)%len(frame):
			t.Errorf("%d bytes: %d %t", n, more, ok)
		}
	}
}
