package jsonb

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// IsText tells whether a value that begins with this byte is a string.
func IsText(tag byte) bool { return tagText0 <= tag && tag <= tagGB18030 }

// Text reads the string at the start of b. The text aliases b and is valid
// UTF-8; size is the length of the whole value. A string in Latin-1 or UTF-16
// is ErrForm, anything but a string ErrMalformed.
func Text(b []byte) (text []byte, size int, err error) {
	head, n, err := textHead(b)
	if err != nil {
		return nil, 0, err
	}
	text = b[head : head+n]
	switch tag := b[0]; {
	case tag <= tagText:
		if !ascii(text) {
			return nil, 0, ErrForm
		}
	case tag == tagUTF8:
		if !utf8.Valid(text) {
			return nil, 0, ErrMalformed
		}
	default:
		return nil, 0, ErrForm
	}
	return text, head + n, nil
}

// AppendText appends the text of the string at the start of b to dst as UTF-8.
// The two forms that fastjson2 reads and does not write, UTF-16 with a byte
// order mark and GB18030, are ErrMalformed.
func AppendText(dst, b []byte) (text []byte, size int, err error) {
	head, n, err := textHead(b)
	if err != nil {
		return dst, 0, err
	}
	raw := b[head : head+n]
	switch tag := b[0]; {
	case tag <= tagText:
		for _, c := range raw {
			dst = utf8.AppendRune(dst, rune(c))
		}
	case tag == tagUTF8 && utf8.Valid(raw):
		dst = append(dst, raw...)
	case tag == tagUTF16LE && n%2 == 0:
		dst = appendUTF16(dst, raw, binary.LittleEndian)
	case tag == tagUTF16BE && n%2 == 0:
		dst = appendUTF16(dst, raw, binary.BigEndian)
	default:
		return dst, 0, ErrMalformed
	}
	return dst, head + n, nil
}

// AppendString appends s as a string value that Java reads, with invalid UTF-8 as
// U+FFFD.
func AppendString(dst []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\ufffd")
	dst = append(dst, tagUTF8)
	if len(s) <= 0x2f {
		dst = append(dst, byte(len(s)))
	} else {
		dst = binary.BigEndian.AppendUint32(append(dst, tagInt32), uint32(len(s)))
	}
	return append(dst, s...)
}

// AppendName appends s, which is ASCII, in the form that Java writes the name of a type
// in.
func AppendName(dst []byte, s string) []byte {
	const shortest = tagText - tagText0 // that needs a length
	if len(s) < shortest {
		return append(append(dst, tagText0+byte(len(s))), s...)
	}
	return append(binary.BigEndian.AppendUint32(append(dst, tagText, tagInt32), uint32(len(s))), s...)
}

// textHead returns the size of a string's head, and the number of bytes behind
// it, which are there.
func textHead(b []byte) (head, n int, err error) {
	if len(b) == 0 || !IsText(b[0]) {
		return 0, 0, ErrMalformed
	}
	head, n = 1, int(b[0])-tagText0
	if b[0] >= tagText {
		var size int
		if n, size, err = length(b[1:]); err != nil {
			return 0, 0, err
		}
		head += size
	}
	if len(b)-head < n {
		return 0, 0, ErrMalformed
	}
	return head, n, nil
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func appendUTF16(dst, raw []byte, order binary.ByteOrder) []byte {
	for i := 0; i < len(raw); i += 2 {
		r := rune(order.Uint16(raw[i:]))
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if i+4 <= len(raw) {
				low = rune(order.Uint16(raw[i+2:]))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 2
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
