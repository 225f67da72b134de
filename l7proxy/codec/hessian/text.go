package hessian

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"
)

// chunk is the largest number of UTF-16 units that we write, and that Java
// writes, in one chunk of a string.
const chunk = 0x8000

// IsText tells whether a value that begins with this byte is a string.
func IsText(tag byte) bool {
	return tag <= 0x1f || 0x30 <= tag && tag <= 0x33 || tag == 'S' || tag == 'R'
}

// Text reads the string value at the start of b. The text aliases b and is
// valid UTF-8; size is the length of the whole value. A string that is not
// contiguous UTF-8 on the wire is ErrForm, anything but a string ErrMalformed.
//
// Overlong sequences are malformed. Java accepts them, so that two spellings of
// one name would differ for us and be equal for a provider: a way around rules.
func Text(b []byte) (text []byte, size int, err error) {
	// Nearly all names are short and ASCII, one byte for a unit.
	if len(b) > 0 && b[0] <= 0x1f {
		if n := 1 + int(b[0]); n <= len(b) && ascii(b[1:n]) {
			return b[1:n:n], n, nil
		}
	}
	return longText(b)
}

// longText reads what Text reads, whatever its length and script.
func longText(b []byte) (text []byte, size int, err error) {
	head, units, last, err := textHead(b)
	if err != nil {
		return nil, 0, err
	}
	if !last {
		return nil, 0, ErrForm
	}
	n, pairs, err := scan(b[head:], units)
	if err != nil {
		return nil, 0, err
	}
	if pairs {
		return nil, 0, ErrForm
	}
	return b[head : head+n : head+n], head + n, nil
}

// AppendText appends the text of the string value at the start of b to dst as
// UTF-8, whatever its form. A lone surrogate becomes U+FFFD.
func AppendText(dst, b []byte) (text []byte, size int, err error) {
	for last := false; !last; {
		var head, units int
		head, units, last, err = textHead(b[size:])
		if err != nil {
			return dst, 0, err
		}
		size += head
		n, _, err := scan(b[size:], units)
		if err != nil {
			return dst, 0, err
		}
		dst = appendUTF8(dst, b[size:size+n])
		size += n
	}
	return dst, size, nil
}

// skipText returns the size of the string value at the start of b.
func skipText(b []byte) (size int, err error) {
	for last := false; !last; {
		var head, units int
		head, units, last, err = textHead(b[size:])
		if err != nil {
			return 0, err
		}
		size += head
		n, _, err := scan(b[size:], units)
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}

// textHead reads the head of a string or of one of its chunks: its size, the
// number of UTF-16 units that follow it, and whether this is the last chunk.
func textHead(b []byte) (size, units int, last bool, err error) {
	if len(b) == 0 {
		return 0, 0, false, ErrMore
	}
	switch tag := b[0]; {
	case tag <= 0x1f:
		return 1, int(tag), true, nil
	case 0x30 <= tag && tag <= 0x33:
		if len(b) < 2 {
			return 0, 0, false, ErrMore
		}
		return 2, int(tag-0x30)<<8 | int(b[1]), true, nil
	case tag == 'S' || tag == 'R':
		if len(b) < 3 {
			return 0, 0, false, ErrMore
		}
		return 3, int(b[1])<<8 | int(b[2]), tag == 'S', nil
	}
	return 0, 0, false, ErrMalformed
}

// scan returns the number of bytes that hold this many UTF-16 units, and
// whether surrogates are among them. A character beyond U+FFFF is two of them,
// of three bytes each. Its four UTF-8 bytes are malformed, for hessian-lite and
// dubbo-go-hessian2 too.
func scan(b []byte, units int) (size int, surrogates bool, err error) {
	i := 0
	for units > 0 {
		if units >= 8 && len(b)-i >= 8 && binary.LittleEndian.Uint64(b[i:])&0x8080808080808080 == 0 {
			i, units = i+8, units-8
			continue
		}
		if i >= len(b) {
			return 0, false, ErrMore
		}
		if b[i] < 0x80 {
			i, units = i+1, units-1
			continue
		}
		n := sequence(b[i:])
		if n <= 0 {
			return 0, false, sequenceError(n)
		}
		if b[i] == 0xed && b[i+1] >= 0xa0 {
			surrogates = true
		}
		i += n
		units--
	}
	return i, surrogates, nil
}

func sequenceError(n int) error {
	if n == 0 {
		return ErrMore
	}
	return ErrMalformed
}

// ascii tells whether b is ASCII: by words, of which the last overlaps.
func ascii(b []byte) bool {
	const high = 0x8080808080808080
	if len(b) < 8 {
		var or byte
		for _, c := range b {
			or |= c
		}
		return or < utf8.RuneSelf
	}
	or := binary.LittleEndian.Uint64(b[len(b)-8:])
	for ; len(b) > 8; b = b[8:] {
		or |= binary.LittleEndian.Uint64(b)
	}
	return or&high == 0
}

// sequence returns the length of the multi-byte character at the start of b: 0
// if b ends inside it, -1 if it is malformed. Surrogates are characters here.
func sequence(b []byte) int {
	var n int
	low := byte(0x80)
	switch c := b[0]; {
	case c < 0xc2:
		return -1
	case c < 0xe0:
		n = 2
	case c < 0xf0:
		n = 3
		if c == 0xe0 {
			low = 0xa0 // less is overlong
		}
	default:
		return -1
	}
	for i := 1; i < n; i++ {
		if i >= len(b) {
			return 0
		}
		if b[i] < low || b[i] > 0xbf {
			return -1
		}
		low = 0x80
	}
	return n
}

// appendUTF8 appends scanned bytes with their surrogate pairs joined.
func appendUTF8(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != 0xed || b[i+1] < 0xa0 {
			dst = append(dst, b[i])
			i++
			continue
		}
		r := unit(b[i:])
		i += 3
		joined := rune(utf8.RuneError)
		if i < len(b) && b[i] == 0xed && b[i+1] >= 0xa0 {
			if joined = utf16.DecodeRune(r, unit(b[i:])); joined != utf8.RuneError {
				i += 3
			}
		}
		dst = utf8.AppendRune(dst, joined)
	}
	return dst
}

// unit returns the UTF-16 unit of a three-byte sequence.
func unit(b []byte) rune {
	return rune(b[0]&0x0f)<<12 | rune(b[1]&0x3f)<<6 | rune(b[2]&0x3f)
}

// AppendString appends s as a string value that Java's and Go's readers accept:
// characters beyond U+FFFF as surrogate pairs, long strings in chunks that split
// no pair, invalid UTF-8 as U+FFFD.
func AppendString(dst []byte, s string) []byte {
	for {
		n, units := take(s)
		switch {
		case n < len(s):
			dst = append(dst, 'R', byte(units>>8), byte(units))
		case units <= 0x1f:
			dst = append(dst, byte(units))
		case units <= 0x3ff:
			dst = append(dst, 0x30|byte(units>>8), byte(units))
		default:
			dst = append(dst, 'S', byte(units>>8), byte(units))
		}
		for _, r := range s[:n] {
			if r <= 0xffff {
				dst = utf8.AppendRune(dst, r)
				continue
			}
			high, low := utf16.EncodeRune(r)
			dst = appendUnit(appendUnit(dst, high), low)
		}
		if n == len(s) {
			return dst
		}
		s = s[n:]
	}
}

// take returns how many bytes of s one chunk holds, and their UTF-16 units.
func take(s string) (size, units int) {
	for i, r := range s {
		n := 1
		if r > 0xffff {
			n = 2
		}
		if units+n > chunk {
			return i, units
		}
		units += n
	}
	return len(s), units
}

// appendUnit appends a surrogate, which utf8.AppendRune refuses.
func appendUnit(dst []byte, u rune) []byte {
	return append(dst, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0xbf, 0x80|byte(u)&0xbf)
}
