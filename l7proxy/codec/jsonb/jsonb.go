// Package jsonb reads strings and numbers of JSONB, the binary form of
// fastjson2, and skips any other value: what a proxy needs to read a call's
// arguments and attachments. It writes strings alone and knows no Java class.
//
// Dubbo writes each JSONB value behind its length, so a value that ends too
// early is simply malformed. Bytes come from pods and are hostile: everything
// is bounded by the input, nothing recurses, nothing panics.
//
// Wire facts: bytes written by fastjson2 2.0.56 with Dubbo 3.3.6's features
// (testdata/java.txt).
package jsonb

import (
	"encoding/binary"
	"errors"
	"math"
)

// The two ways in which reading can fail, and the one in which Text can.
var (
	// ErrMalformed says that the input is no such value, or ends inside it.
	ErrMalformed = errors.New("read jsonb value: malformed")
	// ErrLimit says that values are nested deeper than MaxDepth.
	ErrLimit = errors.New("read jsonb value: over the limit")
	// ErrForm says that a string's bytes are not its UTF-8 text. AppendText
	// reads it.
	ErrForm = errors.New("read jsonb string: not UTF-8")
)

// MaxDepth is how deep arrays and objects may be nested.
const MaxDepth = 512

// The first bytes that a reader of attachments meets.
const (
	Null      = 0xaf
	False     = 0xb0
	True      = 0xb1
	Object    = 0xa6
	ObjectEnd = 0xa5
	Typed     = 0x92 // a type, then its value
)

const (
	tagChar      = 0x90
	tagBinary    = 0x91
	tagTyped     = Typed
	tagReference = 0x93
	tagArray0    = 0x94 // an array of n <= 15 values is 0x94+n
	tagArray     = 0xa4
	tagLocalTime = 0xa7
	tagLocalDate = 0xa9 // with 0xa8, date and time, before it
	tagZoned     = 0xaa
	tagInstant   = 0xae
	tagDouble0   = 0xb2
	tagDouble1   = 0xb3
	tagDoubleInt = 0xb4 // that is whole
	tagDouble    = 0xb5
	tagFloatInt  = 0xb6
	tagFloat     = 0xb7
	tagDecimal   = 0xb9
	tagBigInt    = 0xbb
	tagSymbol    = 0x7f // a name and its number, or the number alone

	tagInt16    = 0xbc
	tagInt8     = 0xbd
	tagInt32    = 0x48
	tagInt64    = 0xbe
	tagInt64Int = 0xbf

	tagText0   = 0x49 // a string of n <= 47 bytes is 0x49+n
	tagText    = 0x79 // ASCII or Latin-1, like the short form
	tagUTF8    = 0x7a
	tagUTF16LE = 0x7c
	tagUTF16BE = 0x7d
	tagGB18030 = 0x7e
)

// Int reads the whole number at the start of b, of any type and width.
func Int(b []byte) (v int64, size int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrMalformed
	}
	size = intSize(b[0])
	if size == 0 || len(b) < size {
		return 0, 0, ErrMalformed
	}
	c := int64(b[0])
	switch tag := b[0]; {
	case tag <= 0x2f:
		v = c
	case tag <= 0x3f:
		v = (c-0x38)<<8 | int64(b[1])
	case tag <= 0x47:
		v = (c-0x44)<<16 | int64(b[1])<<8 | int64(b[2])
	case tag == tagInt32 || tag == tagInt64Int:
		v = int64(int32(binary.BigEndian.Uint32(b[1:])))
	case tag == tagInt16:
		v = int64(int16(binary.BigEndian.Uint16(b[1:])))
	case tag == tagInt8:
		v = int64(int8(b[1]))
	case tag == tagInt64:
		v = int64(binary.BigEndian.Uint64(b[1:]))
	case tag <= 0xc7:
		v = (c-0xc4)<<16 | int64(b[1])<<8 | int64(b[2])
	case tag <= 0xd7:
		v = (c-0xd0)<<8 | int64(b[1])
	case tag <= 0xef:
		v = c - 0xe0
	default:
		v = c - 0x100
	}
	return v, size, nil
}

// Float reads the double or float at the start of b; bits is 64 or 32.
func Float(b []byte) (v float64, bits, size int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, ErrMalformed
	}
	rest := b[1:]
	switch b[0] {
	case tagDouble0, tagDouble1:
		return float64(b[0] - tagDouble0), 64, 1, nil
	case tagDoubleInt, tagFloatInt:
		n, size, err := Int(rest)
		if err != nil {
			return 0, 0, 0, err
		}
		bits := 64
		if b[0] == tagFloatInt {
			bits = 32
		}
		return float64(n), bits, 1 + size, nil
	case tagDouble:
		if len(rest) >= 8 {
			return math.Float64frombits(binary.BigEndian.Uint64(rest)), 64, 9, nil
		}
	case tagFloat:
		if len(rest) >= 4 {
			return float64(math.Float32frombits(binary.BigEndian.Uint32(rest))), 32, 5, nil
		}
	}
	return 0, 0, 0, ErrMalformed
}

// Char reads the character at the start of b, which is one UTF-16 unit.
func Char(b []byte) (r rune, size int, err error) {
	if len(b) == 0 || b[0] != tagChar {
		return 0, 0, ErrMalformed
	}
	v, size, err := Int(b[1:])
	if err != nil || v < 0 || v > math.MaxUint16 {
		return 0, 0, ErrMalformed
	}
	return rune(v), 1 + size, nil
}

// Array reads the head of an array, with the type that may stand before it, and
// returns the number of the values that follow.
func Array(b []byte) (values, size int, err error) {
	if size, err = SkipType(b); err != nil {
		return 0, 0, err
	}
	b = b[size:]
	switch {
	case len(b) > 0 && tagArray0 <= b[0] && b[0] < tagArray:
		return int(b[0] - tagArray0), size + 1, nil
	case len(b) > 0 && b[0] == tagArray:
		values, n, err := length(b[1:])
		return values, size + 1 + n, err
	}
	return 0, 0, ErrMalformed
}

// intSize returns the size of the whole number with this first byte; 0 if it is
// none.
func intSize(tag byte) int {
	switch {
	case tag <= 0x2f || tag >= 0xd8: // the number itself: ints, longs, negative ints
		return 1
	case tag <= 0x3f || 0xc8 <= tag && tag <= 0xd7 || tag == tagInt8:
		return 2
	case tag <= 0x47 || 0xc0 <= tag && tag <= 0xc7 || tag == tagInt16:
		return 3
	case tag == tagInt32 || tag == tagInt64Int:
		return 5
	case tag == tagInt64:
		return 9
	}
	return 0
}

// length reads a whole number that is a length.
func length(b []byte) (n, size int, err error) {
	v, size, err := Int(b)
	if err != nil || v < 0 || v > math.MaxInt32 {
		return 0, 0, ErrMalformed
	}
	return int(v), size, nil
}
