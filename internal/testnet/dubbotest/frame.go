// Package dubbotest is a Dubbo consumer and a Dubbo provider in plain Go, for
// tests and measurements: they speak raw frames, check every byte that comes
// back, and are fast enough to saturate what lies between them. They share no
// code with the proxy's codec, so that an error there cannot hide here.
//
// A call has one argument, a hessian2 byte array, or a string behind it; the provider
// echoes the first:
//
//	request   header, "2.0.2", interface, service version, method, "[B", argument, attachments
//	answer    header with status 20, 4 (value with attachments), argument, attachments
//
// The answer's attachments name the provider that gave it, and what it saw as
// its consumer's address.
package dubbotest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The parts of a header (Dubbo's ExchangeCodec).
const (
	headerLen     = 16
	flagRequest   = 0x80
	flagTwoWay    = 0x40
	flagEvent     = 0x20
	serialization = 2 // hessian2
)

// StatusOK is the status of an answer that carries a value or an exception.
const StatusOK = 20

// DefaultInterface is what a consumer calls unless told otherwise.
const DefaultInterface = "org.dubway.test.Echo"

// header is a frame's header.
type header struct {
	flags, status byte
	id            uint64
	body          int
}

func (h header) request() bool { return h.flags&flagRequest != 0 }
func (h header) twoWay() bool  { return h.flags&flagTwoWay != 0 }
func (h header) event() bool   { return h.flags&flagEvent != 0 }

var errMagic = errors.New("read frame: no magic da bb")

func parseHeader(b []byte) (header, error) {
	if b[0] != 0xda || b[1] != 0xbb {
		return header{}, fmt.Errorf("%w: % x", errMagic, b[:headerLen])
	}
	return header{
		flags: b[2], status: b[3],
		id: binary.BigEndian.Uint64(b[4:]), body: int(binary.BigEndian.Uint32(b[12:])),
	}, nil
}

// appendHeader appends a header whose length is still to be sealed.
func appendHeader(b []byte, flags, status byte, id uint64) []byte {
	b = append(b, 0xda, 0xbb, flags|serialization, status)
	b = binary.BigEndian.AppendUint64(b, id)
	return append(b, 0, 0, 0, 0)
}

// seal writes the body's length into the header at start.
func seal(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start+12:], uint32(len(b)-start-headerLen))
	return b
}

// appendString appends a hessian2 string of ASCII.
func appendString(b []byte, s string) []byte {
	switch {
	case len(s) < 32:
		b = append(b, byte(len(s)))
	case len(s) < 1024:
		b = append(b, 0x30+byte(len(s)>>8), byte(len(s)))
	default:
		b = append(b, 'S', byte(len(s)>>8), byte(len(s)))
	}
	return append(b, s...)
}

// chunk is the size of the pieces of a long byte array.
const chunk = 32 << 10

// appendBytes appends a hessian2 byte array.
func appendBytes(b, data []byte) []byte {
	for len(data) > chunk {
		b = append(b, 'A', chunk>>8, chunk&0xff)
		b = append(b, data[:chunk]...)
		data = data[chunk:]
	}
	b = append(b, 'B', byte(len(data)>>8), byte(len(data)))
	return append(b, data...)
}

var errBody = errors.New("read body: not what this peer writes or reads")

// skipValue returns what follows the string, byte array, null or small number at
// the start of b.
func skipValue(b []byte) ([]byte, error) {
	for len(b) > 0 {
		var length, head int
		last := true
		switch c := b[0]; {
		case c == 'N' || c >= 0x80 && c <= 0xbf: // null, one-byte int
			return b[1:], nil
		case c < 0x20: // string
			length, head = int(c), 1
		case c < 0x30: // byte array
			length, head = int(c-0x20), 1
		case c < 0x34 && len(b) > 1: // string
			length, head = int(c-0x30)<<8|int(b[1]), 2
		case c < 0x38 && len(b) > 1: // byte array
			length, head = int(c-0x34)<<8|int(b[1]), 2
		case (c == 'A' || c == 'B' || c == 'R' || c == 'S') && len(b) > 2:
			length, head, last = int(b[1])<<8|int(b[2]), 3, c == 'B' || c == 'S'
		default:
			return nil, fmt.Errorf("%w: tag %#x", errBody, c)
		}
		if len(b) < head+length {
			return nil, fmt.Errorf("%w: %d bytes missing", errBody, head+length-len(b))
		}
		if b = b[head+length:]; last {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: it ends early", errBody)
}

// text reads the short string at the start of b.
func text(b []byte) (value, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%w: it ends early", errBody)
	}
	head := 1
	switch {
	case b[0] >= 0x30 && b[0] <= 0x33:
		head = 2
	case b[0] == 'S':
		head = 3
	}
	if rest, err = skipValue(b); err != nil {
		return nil, nil, err
	}
	if b[0] == 'N' {
		return nil, rest, nil
	}
	return b[head : len(b)-len(rest)], rest, nil
}

// RawAnswer is an answer as a load looks at it.
type RawAnswer struct {
	ID     uint64
	Status byte
	Body   []byte // what it was cut from
}

// CutAnswer takes the first frame off b; false if it is not whole. Anything but
// an answer is an error.
func CutAnswer(b []byte) (a RawAnswer, rest []byte, whole bool, err error) {
	if len(b) < headerLen {
		return a, b, false, nil
	}
	h, err := parseHeader(b)
	if err != nil {
		return a, b, false, err
	}
	if h.flags&^0x1f != 0 {
		return a, b, false, fmt.Errorf("frame %d: flags %#x are no answer's", h.id, h.flags)
	}
	if len(b) < headerLen+h.body {
		return a, b, false, nil
	}
	return RawAnswer{h.id, h.status, b[headerLen : headerLen+h.body]}, b[headerLen+h.body:], true, nil
}

// AppendEcho appends what the body of an echo of data begins with.
func AppendEcho(b, data []byte) []byte { return appendBytes(append(b, 0x94), data) }
