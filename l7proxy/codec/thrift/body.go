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
var errBody = errors.New("read thrift body: it is not a message's, is nested deeper than 64, or has no attachments")

// The types of values, and the end of a struct.
const (
	stop, boolean, i8, double, i16, i32, i64, text = 0, 2, 3, 4, 6, 8, 10, 11
	structure, mapping, set, list, uuid            = 12, 13, 14, 15, 16

	maxDepth  = 64 // of containers, as Thrift's own default is
	fieldHead = 3  // bytes of a field's type and id
)

// Body reads the arguments of a call: the fields of a struct, of which the one with id
// 1 is the argument with index 0.
type Body struct {
	body []byte
	work int // bytes
}

// Reset is part of codec.Body.
func (b *Body) Reset(_ codec.Header, body []byte, _ codec.Prefix) { b.body = body }

// Lookup is part of codec.Body. There are no attachments.
func (*Body) Lookup(string) (value string, ok bool, err error) { return "", false, nil }

// Spelling is part of codec.Body.
func (*Body) Spelling(string, int) (value string, ok bool, err error) { return "", false, nil }

// Work is part of codec.Body. Eight bytes count as one value.
func (b *Body) Work() (n int) {
	n, b.work = b.work/8, 0
	return n
}

// AppendEdited is part of codec.Body.
func (*Body) AppendEdited(dst, _ []byte, _ ...edit.Edit) ([]byte, error) { return dst, errBody }

// Argument is part of codec.Body. Of two fields with one id servers take either.
func (b *Body) Argument(index int) (value string, ok bool, err error) {
	rest := values(b.body)
	for seen := false; ; {
		kind, id, n, err := field(rest, 0)
		switch {
		case err != nil || id == index+1 && seen:
			return "", false, errBody
		case kind == stop:
			return value, ok, nil
		case id == index+1:
			seen = true
			value, ok = scalar(kind, rest[fieldHead:n])
		}
		rest, b.work = rest[n:], b.work+n
	}
}

// field is the type and id of the field at the start of b, and its length; for the end
// of a struct too.
func field(b []byte, depth int) (kind byte, id, n int, err error) {
	switch {
	case len(b) > 0 && b[0] == stop:
		return stop, 0, 1, nil
	case len(b) < fieldHead:
		return 0, 0, 0, errBody
	}
	n, err = size(b[0], b[fieldHead:], depth)
	return b[0], int(int16(binary.BigEndian.Uint16(b[1:]))), fieldHead + n, err
}

// scalar is the text of a value; false if it has none.
func scalar(kind byte, b []byte) (string, bool) {
	switch kind {
	case boolean:
		return strconv.FormatBool(b[0] != 0), true
	case i8, i16, i32, i64:
		n := int64(int8(b[0]))
		for _, c := range b[1:] {
			n = n<<8 | int64(c)
		}
		return strconv.FormatInt(n, 10), true
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
		return 0, errBody
	}
	if int(kind) < len(fixed) {
		n = fixed[kind]
	}
	switch {
	case kind == structure:
		return structSize(b, depth)
	case kind == mapping && len(b) >= 6:
		return itemsSize(b, 6, depth, b[0], b[1])
	case (kind == set || kind == list) && len(b) >= 5:
		return itemsSize(b, 5, depth, b[0])
	case kind == text && len(b) >= 4:
		n = 4 + int(binary.BigEndian.Uint32(b))
	}
	if n == 0 || n > len(b) {
		return 0, errBody
	}
	return n, nil
}

// fixed is the length of values that have always the same.
var fixed = [...]int{boolean: 1, i8: 1, double: 8, i16: 2, i32: 4, i64: 8, uuid: 16}

func structSize(b []byte, depth int) (n int, err error) {
	for {
		kind, _, m, err := field(b[n:], depth+1)
		if err != nil {
			return 0, err
		}
		if n += m; kind == stop {
			return n, nil
		}
	}
}

// itemsSize is the length of a container whose items, of these kinds in turn, begin at
// n, behind their number. No item is empty, so their number is bounded by the bytes.
func itemsSize(b []byte, n, depth int, kinds ...byte) (int, error) {
	count := int(binary.BigEndian.Uint32(b[n-4:]))
	if count > len(b) {
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
