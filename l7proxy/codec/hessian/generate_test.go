package hessian

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	oracle "github.com/apache/dubbo-go-hessian2"
)

// maker makes values out of a fuzzer's bytes: whatever the bytes are, the value
// is one that the oracle can write.
type maker struct {
	in    []byte
	left  int // values that may still be made
	seen  []*order
	texts []string // every string that was made, in no order
}

func (m *maker) byte() byte {
	if len(m.in) == 0 {
		return 0
	}
	c := m.in[0]
	m.in = m.in[1:]
	return c
}

func (m *maker) uint64() uint64 {
	var b [8]byte
	// Few bytes make small numbers, of which there are more forms.
	for i := 8 - int(m.byte()%9); i < 8; i++ {
		b[i] = m.byte()
	}
	return binary.BigEndian.Uint64(b[:])
}

// text is a string of one to three scripts around the lengths at which the form
// on the wire changes.
func (m *maker) text() string {
	lengths := [...]int{0, 1, 2, 31, 32, 33, 255, 1023, 1024, 1025, 0x7fff, 0x8000, 0x8001}
	units := [...]string{"a", "é", "中", "😀", "\x00", "~", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff"}
	var b strings.Builder
	for range 1 + m.byte()%3 {
		unit := units[int(m.byte())%len(units)]
		n := lengths[int(m.byte())%len(lengths)]
		if m.left -= n / 64; m.left <= 0 {
			n %= 64
		}
		b.WriteString(strings.Repeat(unit, n))
	}
	m.texts = append(m.texts, b.String())
	return b.String()
}

func (m *maker) value(depth int) any {
	m.left--
	kind := m.byte() % 20
	if m.left <= 0 || depth > 12 {
		kind %= 8
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return m.byte()%2 == 0
	case 2:
		return int32(m.uint64())
	case 3:
		return int64(m.uint64())
	case 4:
		return math.Float64frombits(m.uint64())
	case 5:
		return float64(int16(m.uint64()))
	case 6:
		return m.text()
	case 7:
		return time.UnixMilli(int64(m.uint64() % (1 << 42)))
	case 8:
		return bytes.Repeat([]byte{m.byte()}, int(m.uint64()%10000))
	}
	return m.container(kind, depth+1)
}

func (m *maker) container(kind byte, depth int) any {
	n := min(int(m.byte()%12), max(m.left, 0))
	switch kind {
	case 9, 10, 11:
		list := make([]any, n)
		for i := range list {
			list[i] = m.value(depth)
		}
		return list
	case 12, 13:
		all := make(map[any]any, n)
		for range n {
			all[m.text()] = m.value(depth)
		}
		return all
	case 14:
		list := make([]string, n)
		for i := range list {
			list[i] = m.text()
		}
		return list
	case 15:
		list := make([]int64, n)
		for i := range list {
			list[i] = int64(m.uint64())
		}
		return list
	case 16:
		if len(m.seen) > 0 { // the oracle writes a reference
			return m.seen[int(m.byte())%len(m.seen)]
		}
		return &empty{}
	}
	return m.order(depth)
}

func (m *maker) order(depth int) *order {
	o := &order{Name: m.text(), Price: float64(int32(m.uint64())) / 8, Count: int32(m.uint64()), Raw: []byte{m.byte()}}
	m.seen = append(m.seen, o)
	if m.byte()%2 == 0 && depth < 8 && m.left > 0 {
		o.Parent = m.seen[int(m.byte())%len(m.seen)] // itself, too
	}
	for range m.byte() % 3 {
		if m.left--; m.left > 0 && depth < 8 {
			o.Parts = append(o.Parts, m.order(depth+1))
		}
	}
	if m.byte()%4 == 0 {
		o.Extra = map[string]any{m.text(): m.value(depth + 1)}
	}
	return o
}

// mutate changes b at places and in ways that the rest of the fuzzer's bytes
// say: a byte, a deletion, an insertion, a piece twice, an end.
func (m *maker) mutate(b []byte) []byte {
	b = bytes.Clone(b)
	for len(m.in) > 0 && len(b) > 0 {
		how, at := m.byte(), int(m.uint64()%uint64(len(b)))
		switch how % 6 {
		case 0:
			b[at] = m.byte()
		case 1:
			b[at] ^= 1 << (m.byte() % 8)
		case 2:
			b = append(b[:at], b[at+1:]...)
		case 3:
			b = append(b[:at], append([]byte{m.byte()}, b[at:]...)...)
		case 4:
			piece := bytes.Clone(b[at:min(len(b), at+int(m.byte()))])
			b = append(b[:at], append(piece, b[at:]...)...)
		default:
			b = b[:at]
		}
	}
	return b
}

// FuzzGenerated: values that the oracle writes are skipped to their last byte,
// one after the other in one body, with the classes and references that they
// share; strings among them are read as what they are; and what is made of them
// by mutation ends where the oracle ends, if both read it.
func FuzzGenerated(f *testing.F) {
	oracle.RegisterPOJO(&order{})
	oracle.RegisterPOJO(&empty{})
	for _, seed := range []string{"", "\x02\x09\x03\x06\x01\x02", "\x04\x11\x06\x00\x01\x11\x00\x10", "\x03\x0c\x05\x06\x01\x00\x04\x09\x02\x01\x00\x13\x04\x01\x02\x03\x04\x05\x06"} {
		f.Add([]byte(seed))
	}
	f.Add(bytes.Repeat([]byte{17, 6, 1, 3, 9, 200}, 20))
	f.Add(bytes.Repeat([]byte{12, 3, 14, 2, 7, 18, 0, 4}, 30))
	var r Reader
	f.Fuzz(func(t *testing.T, in []byte) {
		m := &maker{in: in, left: 600}
		count := int(1 + m.byte()%4)
		values, ends := make([]any, count), make([]int, count)
		e := oracle.NewEncoder()
		for i := range values {
			values[i] = m.value(0)
			if err := e.Encode(values[i]); err != nil {
				return // the oracle does not write it
			}
			ends[i] = len(e.Buffer())
		}
		b := bytes.Clone(e.Buffer())
		r.Reset(b)
		for i, end := range ends {
			if err := r.Skip(); err != nil || r.Offset() != end {
				t.Fatalf("value %d of type %T ends at %d, not %d, %v", i, values[i], r.Offset(), end, err)
			}
		}
		for _, want := range m.texts {
			wire := encode(t, want)
			if got, n, err := AppendText(nil, wire); err != nil || n != len(wire) || string(got) != want {
				t.Fatalf("%.40q is read as %.40q, %v", want, got, err)
			}
		}
		compare(t, &r, m.mutate(b), count)
	})
}

// compare skips up to count values of b and asks the oracle after each.
func compare(t *testing.T, r *Reader, b []byte, count int) {
	t.Helper()
	r.Reset(b)
	for i := 1; i <= count; i++ {
		start := r.Offset()
		if r.Skip() != nil {
			return
		}
		end := r.Offset()
		if where, ok := oracleEndOf(b, i); ok && where != end {
			t.Fatalf("value %d ends at %d, for the oracle at %d: % x", i, end, where, clip(b[start:]))
		}
		if IsText(b[start]) {
			checkText(t, b[start:end])
			checkOracleText(t, b[start:end])
		}
	}
}

// checkOracleText: a string that both read is the same to both.
func checkOracleText(t *testing.T, b []byte) {
	t.Helper()
	if _, ok := oracleEnd(b); !ok {
		return
	}
	want, err := oracle.NewDecoder(b).Decode()
	if text, ok := want.(string); err == nil && ok {
		if got, _, err := AppendText(nil, b); err != nil || string(got) != text {
			t.Fatalf("% x is %.40q, for the oracle %.40q; %v", clip(b), got, text, err)
		}
	}
}
