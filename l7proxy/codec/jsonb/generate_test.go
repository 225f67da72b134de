package jsonb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// maker writes values as fastjson2 does, out of a fuzzer's bytes: there is no
// other reader of JSONB in Go, so what is known of a value is how it was made.
type maker struct {
	in   []byte
	out  []byte
	left int // values that may still be made
}

func (m *maker) byte() byte {
	if len(m.in) == 0 {
		return 0
	}
	c := m.in[0]
	m.in = m.in[1:]
	return c
}

// bytes writes n bytes of the fuzzer's.
func (m *maker) bytes(n int) {
	for range n {
		m.out = append(m.out, m.byte())
	}
}

// int writes a whole number in one of its forms.
func (m *maker) int() {
	switch m.byte() % 8 {
	case 0:
		m.out = append(m.out, m.byte()%0x30) // 0 to 47
	case 1:
		m.out = append(m.out, 0x30+m.byte()%0x10)
		m.bytes(1)
	case 2:
		m.out = append(m.out, 0x40+m.byte()%8)
		m.bytes(2)
	case 3:
		m.out = append(m.out, tagInt32)
		m.bytes(4)
	case 4:
		m.out = append(m.out, 0xd8+m.byte()%0x18)
	case 5:
		m.out = append(m.out, 0xc8+m.byte()%0x10)
		m.bytes(1)
	case 6:
		m.out = append(m.out, tagInt64)
		m.bytes(8)
	default:
		m.out = append(m.out, tagInt16)
		m.bytes(2)
	}
}

// length writes n as a length.
func (m *maker) length(n int) {
	if n < 0x30 && m.byte()%2 == 0 {
		m.out = append(m.out, byte(n))
		return
	}
	m.out = binary.BigEndian.AppendUint32(append(m.out, tagInt32), uint32(n))
}

func (m *maker) text() {
	n := int(m.byte())
	if n < 48 && m.byte()%2 == 0 {
		m.out = append(m.out, byte(tagText0+n))
	} else {
		m.out = append(m.out, [...]byte{tagText, tagUTF8, tagUTF16LE, tagUTF16BE}[m.byte()%4])
		m.length(n)
	}
	m.bytes(n)
}

// name writes a type or a symbol: a text and its number, or a number alone.
func (m *maker) name() {
	if m.byte()%2 == 0 {
		m.text()
	}
	m.int()
}

func (m *maker) value(depth int) {
	m.left--
	kind := m.byte() % 16
	if depth > 40 || m.left <= 0 {
		kind %= 10
	}
	switch kind {
	case 0:
		m.out = append(m.out, [...]byte{Null, False, True, 0xb2, 0xb3}[m.byte()%5])
	case 1, 2:
		m.int()
	case 3, 4:
		m.text()
	case 5:
		m.out = append(m.out, [...]byte{0xb5, 0xab}[m.byte()%2])
		m.bytes(8)
	case 6:
		n := int(m.byte())
		m.out = append(m.out, tagBinary)
		m.length(n)
		m.bytes(n)
	case 7:
		m.out = append(m.out, tagSymbol)
		m.name()
	case 8:
		m.out = append(m.out, tagReference)
		m.text()
	case 9:
		m.out = append(m.out, tagDecimal)
		m.int()
		m.int()
	default:
		m.container(kind, depth+1)
	}
}

func (m *maker) container(kind byte, depth int) {
	n := min(int(m.byte()%20), max(m.left, 0))
	if kind == 10 { // a type before it
		m.out = append(m.out, tagTyped)
		m.name()
		kind = 11 + m.byte()%3
	}
	if kind < 13 {
		m.out = append(m.out, Object)
		for range n {
			m.text()
			m.value(depth)
		}
		m.out = append(m.out, ObjectEnd)
		return
	}
	if n < 16 && m.byte()%2 == 0 {
		m.out = append(m.out, byte(tagArray0+n))
	} else {
		m.out = append(m.out, tagArray)
		m.length(n)
	}
	for range n {
		m.value(depth)
	}
}

// FuzzGenerated: a value that was written is skipped to its last byte and no
// further, and every beginning of it is malformed.
func FuzzGenerated(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{11, 3, 2, 1, 13, 5, 6}, 20))
	f.Add(bytes.Repeat([]byte{10, 1, 0, 12, 4, 3, 9, 14}, 30))
	f.Fuzz(func(t *testing.T, in []byte) {
		m := &maker{in: in, left: 400}
		m.value(0)
		size := len(m.out)
		n, err := Skip(append(m.out, in...))
		if err != nil || n != size {
			t.Fatalf("ends at %d, not %d, %v: % x", n, size, err, m.out[:min(size, 80)])
		}
		for cut := 0; cut < size; cut += 1 + size/50 {
			if n, err := Skip(m.out[:cut:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("cut at %d of %d: ends at %d, %v", cut, size, n, err)
			}
		}
	})
}
