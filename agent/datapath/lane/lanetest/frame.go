package lanetest

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dubway/dubway/internal/lane"
)

// HeaderLen is the length of a frame's header in bytes.
const HeaderLen = 16

// Kind is the flags of a frame, in its third byte, without the serialization.
type Kind byte

// The kinds of frames.
const (
	Answer    Kind = 0
	Call      Kind = 0xc0
	OneWay    Kind = 0x80
	Heartbeat Kind = 0xe0
	Beat      Kind = 0x20 // a heartbeat's answer
)

// Frame is a frame of Dubbo2 whose content follows from its members, so that who gets it
// knows every byte.
type Frame struct {
	Kind          Kind
	Serialization byte
	Status        byte // of an answer; 0: 20
	ID            uint64
	Method        string // of a request
	Size          int    // of what follows the names, or the kind of the answer, in bytes
	Says          string // behind that, of a request: one of Sayings
}

// Sayings are what requests may say at their ends of a trace that they are part of, or as if:
// true.
var Sayings = map[string]bool{
	"\x0btraceparent\x3700-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01Z": true,
	"\x54traceparent\x49\xa5":             true,
	"\x02b3\x010Z":                        true,
	"\x4bb3\x4a1\xa5":                     true,
	"\x0cX-B3-Sampled\x011Z":              true,
	"\x55x-b3-traceid\x4a1\xa5":           true,
	"\x04echo\x09interfaceb3-dB3-rec.epa": false,
	"\x0ctrace-parent\x05tracing accept":  false,
}

// Names are the bytes behind the header of requests for a method, up to its end.
func Names(serialization byte, method string) []byte {
	var b []byte
	for _, s := range []string{"2.0.2", "org.example.EchoService", "0.0.0", method} {
		if serialization == lane.Hessian2 {
			b = append(b, byte(len(s)))
		} else {
			b = binary.BigEndian.AppendUint32(b, uint32(len(s)+1))
			b = append(b, byte(0x49+len(s)))
		}
		b = append(b, s...)
	}
	return b
}

// Append appends the frame's bytes.
func (f Frame) Append(b []byte) []byte {
	start := len(b)
	b = append(b, 0xda, 0xbb, byte(f.Kind)|f.Serialization, 0)
	b = binary.BigEndian.AppendUint64(b, f.ID)
	b = append(b, 0, 0, 0, 0)
	switch {
	case f.Kind&0x80 != 0 && f.Kind&0x20 == 0:
		b = append(b, Names(f.Serialization, f.Method)...)
	case f.Kind == Answer:
		b = append(b, f.value()...)
	}
	if f.Kind&0x80 == 0 {
		if b[start+3] = f.Status; f.Status == 0 {
			b[start+3] = 20
		}
	}
	b = append(fill(b, f.ID<<8|uint64(f.Kind), f.Size), f.Says...)
	binary.BigEndian.PutUint32(b[start+12:], uint32(len(b)-start-HeaderLen))
	return b
}

// value says of an answer that it is one with attachments. In fastjson2 Java writes that in
// two bytes; one would do.
func (f Frame) value() []byte {
	switch {
	case f.Serialization == lane.Hessian2:
		return []byte{0x94}
	case f.ID%4 == 0:
		return []byte{0, 0, 0, 1, 4}
	}
	return []byte{0, 0, 0, 2, 0xbd, 4}
}

// fill appends n bytes that follow from a seed.
func fill(b []byte, seed uint64, n int) []byte {
	b = slices.Grow(b, n)
	x := seed*0x9e3779b97f4a7c15 | 1
	for ; n >= 8; n -= 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	for ; n > 0; n-- {
		b = append(b, byte(n)^byte(seed>>8))
	}
	return b
}

// Check tells whether bytes are a frame of these tests, and which. Methods are those that it
// may call.
func Check(raw []byte, methods []string) (f Frame, err error) {
	f = Frame{
		Kind: Kind(raw[2] & 0xe0), Serialization: raw[2] & 0x1f, ID: binary.BigEndian.Uint64(raw[4:]),
	}
	if f.Kind&0x80 == 0 && raw[3] != 20 {
		f.Status = raw[3]
	}
	prefix := 0
	switch f.Kind {
	case Heartbeat, Beat:
	case Answer:
		prefix = len(f.value())
	case Call, OneWay:
		for _, m := range methods {
			if n := Names(f.Serialization, m); len(raw) >= HeaderLen+len(n) && string(raw[HeaderLen:HeaderLen+len(n)]) == string(n) {
				f.Method, prefix = m, len(n)
			}
		}
		if prefix == 0 {
			return f, fmt.Errorf("request %d calls no known method", f.ID)
		}
	}
	for says := range Sayings {
		if f.Kind == Call && strings.HasSuffix(string(raw), says) {
			f.Says = says
		}
	}
	if f.Size = len(raw) - HeaderLen - prefix - len(f.Says); f.Size < 0 {
		return f, fmt.Errorf("frame %d is too short", f.ID)
	}
	if want := f.Append(nil); string(want) != string(raw) {
		return f, fmt.Errorf("frame %d of %d bytes is not what was sent", f.ID, len(raw))
	}
	return f, nil
}

// Reader reads frames.
type Reader struct {
	r   io.Reader
	buf []byte
	at  int // of buf: what was returned
	// Read is how many bytes came.
	Read uint64
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, 0, 64<<10)} }

// Buffered is the number of bytes that came and are in no frame yet.
func (r *Reader) Buffered() int { return len(r.buf) - r.at }

// Next returns the next frame that is whole already, nil if there is none. It is valid until
// the next More.
func (r *Reader) Next() ([]byte, error) {
	b := r.buf[r.at:]
	if len(b) < HeaderLen {
		return nil, nil
	}
	if b[0] != 0xda || b[1] != 0xbb {
		return nil, fmt.Errorf("no frame begins with %x", b[:HeaderLen])
	}
	n := HeaderLen + int(binary.BigEndian.Uint32(b[12:]))
	if len(b) < n {
		return nil, nil
	}
	r.at += n
	return b[:n:n], nil
}

// More reads once.
func (r *Reader) More() error {
	if r.at > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.at:])]
		r.at = 0
	}
	if len(r.buf) == cap(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)[:len(r.buf)]
	}
	n, err := r.r.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.Read += uint64(n)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// Sizes returns a size of a body: half of them small, some large.
func Sizes(rnd *rand.Rand, most int) int {
	if rnd.IntN(2) == 0 {
		return rnd.IntN(min(most, 2048))
	}
	return rnd.IntN(most)
}
