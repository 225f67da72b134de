package thrift

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/edit"
)

// What is wrong with a body; nobody branches on it.
var (
	errBody   = errors.New("read thrift body: it is not a message's")
	errDepth  = errors.New("read thrift body: nested deeper than 64")
	errNoEdit = errors.New("edit thrift message: it has no attachments")
)

// maxDepth bounds nested containers, as Thrift's own default does.
const maxDepth = 64

// The types of values, by which they are skipped (thrift-binary-protocol.md).
const (
	boolean   = 2
	i8        = 3
	double    = 4
	i16       = 6
	i64       = 10
	structure = 12
	mapping   = 13
	set       = 14
	list      = 15
	uuid      = 16
)

// Body reads the arguments of a call: the fields of a struct, of which the one with id
// 1 is the argument with index 0.
type Body struct{ body []byte }

// Reset is part of codec.Body.
func (b *Body) Reset(_ codec.Header, body []byte, _ codec.Prefix) { b.body = body }

// Lookup is part of codec.Body. There are no attachments.
func (*Body) Lookup(string) (value string, ok bool, err error) { return "", false, nil }

// Spelling is part of codec.Body.
func (*Body) Spelling(string, int) (value string, ok bool, err error) { return "", false, nil }

// AppendEdited is part of codec.Body.
func (*Body) AppendEdited(dst, _ []byte, _ ...edit.Edit) ([]byte, error) { return dst, errNoEdit }

// Argument is part of codec.Body.
func (b *Body) Argument(index int) (value string, ok bool, err error) {
	rest, ok := values(b.body)
	if !ok {
		return "", false, errBody
	}
	for {
		if len(rest) == 0 {
			return "", false, errBody
		}
		kind := rest[0]
		if kind == stop {
			return "", false, nil
		}
		if len(rest) < 3 {
			return "", false, errBody
		}
		id := int(int16(binary.BigEndian.Uint16(rest[1:])))
		rest = rest[3:]
		n, err := size(kind, rest, 0)
		if err != nil {
			return "", false, err
		}
		if id == index+1 {
			value, ok = scalar(kind, rest[:n])
			return value, ok, nil
		}
		rest = rest[n:]
	}
}

// scalar is the text of a value; false if it has none.
func scalar(kind byte, b []byte) (string, bool) {
	switch kind {
	case boolean:
		return strconv.FormatBool(b[0] != 0), true
	case i8:
		return strconv.Itoa(int(int8(b[0]))), true
	case i16:
		return strconv.Itoa(int(int16(binary.BigEndian.Uint16(b)))), true
	case i32:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(b)))), true
	case i64:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(b)), 10), true
	case double:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(b)), 'f', -1, 64), true
	case text:
		return unsafe.String(unsafe.SliceData(b[4:]), len(b)-4), true
	}
	return "", false
}

// size is the length in bytes of the value at the start of b.
func size(kind byte, b []byte, depth int) (n int, err error) {
	if depth == maxDepth {
		return 0, errDepth
	}
	switch kind {
	case structure:
		return structSize(b, depth)
	case mapping:
		if len(b) < 6 {
			return 0, errBody
		}
		return itemsSize(b, 6, depth, b[0], b[1])
	case set, list:
		if len(b) < 5 {
			return 0, errBody
		}
		return itemsSize(b, 5, depth, b[0])
	case text:
		if len(b) < 4 {
			return 0, errBody
		}
		if n = int(int32(binary.BigEndian.Uint32(b))); n < 0 {
			return 0, errBody
		}
		n += 4
	default:
		if n = fixed(kind); n == 0 {
			return 0, errBody
		}
	}
	if n > len(b) {
		return 0, errBody
	}
	return n, nil
}

// fixed is the length of values that have always the same; 0 for others.
func fixed(kind byte) int {
	switch kind {
	case boolean, i8:
		return 1
	case i16:
		return 2
	case i32:
		return 4
	case i64, double:
		return 8
	case uuid:
		return 16
	}
	return 0
}

func structSize(b []byte, depth int) (n int, err error) {
	for {
		if n >= len(b) {
			return 0, errBody
		}
		kind := b[n]
		if kind == stop {
			return n + 1, nil
		}
		if n+3 > len(b) {
			return 0, errBody
		}
		field, err := size(kind, b[n+3:], depth+1)
		if err != nil {
			return 0, err
		}
		n += 3 + field
	}
}

// itemsSize is the length of a container whose items, of these kinds in turn, begin at
// n, behind their number. No item is empty, so their number is bounded by the bytes.
func itemsSize(b []byte, n, depth int, kinds ...byte) (int, error) {
	count := int(int32(binary.BigEndian.Uint32(b[n-4:])))
	if count < 0 || count > len(b) {
		return 0, errBody
	}
	for range count {
		for _, kind := range kinds {
			item, err := size(kind, b[n:], depth+1)
			if err != nil {
				return 0, err
			}
			n += item
		}
	}
	return n, nil
}
