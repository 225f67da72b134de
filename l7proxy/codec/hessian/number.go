package hessian

import (
	"encoding/binary"
	"math"
)

// Int reads the whole number (int or long) at the start of b. Anything else is
// ErrMalformed.
func Int(b []byte) (v int64, size int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrMore
	}
	size = int(sizes[b[0]])
	kind := numbers[b[0]]
	if kind == numberNone {
		return 0, 0, ErrMalformed
	}
	if len(b) < size {
		return 0, 0, ErrMore
	}
	switch c := int64(b[0]); kind {
	case numberNone:
	case int1:
		v = c - 0x90
	case int2:
		v = (c-0xc8)<<8 | int64(b[1])
	case int3:
		v = (c-0xd4)<<16 | int64(b[1])<<8 | int64(b[2])
	case long1:
		v = c - 0xe0
	case long2:
		v = (c-0xf8)<<8 | int64(b[1])
	case long3:
		v = (c-0x3c)<<16 | int64(b[1])<<8 | int64(b[2])
	case int4, long4:
		v = int64(int32(binary.BigEndian.Uint32(b[1:])))
	case long8:
		v = int64(binary.BigEndian.Uint64(b[1:]))
	}
	return v, size, nil
}

// Double reads the double at the start of b. Anything else is ErrMalformed.
func Double(b []byte) (v float64, size int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrMore
	}
	tag := b[0]
	if tag != 'D' && (tag < 0x5b || tag > 0x5f) {
		return 0, 0, ErrMalformed
	}
	if size = int(sizes[tag]); len(b) < size {
		return 0, 0, ErrMore
	}
	switch tag {
	case 0x5b:
	case 0x5c:
		v = 1
	case 0x5d:
		v = float64(int8(b[1]))
	case 0x5e:
		v = float64(int16(binary.BigEndian.Uint16(b[1:])))
	case 0x5f:
		// Java writes this form where its own multiplication gives the value back.
		v = 0.001 * float64(int32(binary.BigEndian.Uint32(b[1:])))
	default:
		v = math.Float64frombits(binary.BigEndian.Uint64(b[1:]))
	}
	return v, size, nil
}

// number is a form of a whole number: its type and its bytes.
type number uint8

const (
	numberNone number = iota
	int1              // 0x80-0xbf
	int2              // 0xc0-0xcf
	int3              // 0xd0-0xd7
	int4              // 'I'
	long1             // 0xd8-0xef
	long2             // 0xf0-0xff
	long3             // 0x38-0x3f
	long4             // 'Y'
	long8             // 'L'
)

// isCount tells whether the form may say a length, a class or a reference.
func (n number) isCount() bool { return n >= int1 && n <= int4 }

// numbers is the number form by first byte.
var numbers = tableOf(func(tag byte) number {
	switch {
	case tag >= 0xf0:
		return long2
	case tag >= 0xd8:
		return long1
	case tag >= 0xd0:
		return int3
	case tag >= 0xc0:
		return int2
	case tag >= 0x80:
		return int1
	case 0x38 <= tag && tag <= 0x3f:
		return long3
	case tag == 'I':
		return int4
	case tag == 'Y':
		return long4
	case tag == 'L':
		return long8
	}
	return numberNone
})

// sizes is the whole size of a value by its first byte; 0 where the first byte
// does not tell.
var sizes = tableOf(func(tag byte) uint8 {
	switch n := numbers[tag]; n {
	case numberNone:
	case int1, long1:
		return 1
	case int2, long2:
		return 2
	case int3, long3:
		return 3
	case int4, long4:
		return 5
	case long8:
		return 9
	}
	switch {
	case 0x20 <= tag && tag <= 0x2f: // short binary
		return 1 + tag - 0x20
	case tag == 'N' || tag == 'T' || tag == 'F' || tag == 0x5b || tag == 0x5c: // 0.0, 1.0
		return 1
	case tag == 0x5d: // double of one byte
		return 2
	case tag == 0x5e: // double of two bytes
		return 3
	case tag == 0x5f || tag == 'K': // double of thousandths, date of minutes
		return 5
	case tag == 'D' || tag == 'J': // double, date of milliseconds
		return 9
	}
	return 0
})

func tableOf[T any](f func(tag byte) T) (t [256]T) {
	for i := range t {
		t[i] = f(byte(i))
	}
	return t
}
