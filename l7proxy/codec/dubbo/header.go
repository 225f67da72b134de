// Package dubbo reads and makes the frames of Dubbo's binary protocol: the
// 16-byte header, the four strings at the start of a request that say what is
// called, the attachments behind its arguments, the kind of an answer, and the
// frames that the mesh itself sends. It works on byte slices; connections,
// buffers and request ids that must be kept are its caller's.
//
// Every serialization is framed. The bodies of two are read, hessian2 (id 2) and
// fastjson2 (id 23), which are what Dubbo 2.7 to 3.3 speak unless told otherwise;
// a body of another one is forwarded unread.
//
// Wire facts: Dubbo's ExchangeCodec, DubboCodec and DecodeableRpcInvocation, and
// bytes recorded from Dubbo Java 3.3.6 and 3.2.16 and dubbo-go 3.3.1.
package dubbo

import (
	"encoding/binary"
	"errors"

	"github.com/dubway/dubway/l7proxy/codec"
)

// HeaderLen is the number of bytes before a frame's body.
const HeaderLen = 16

// The serializations whose bodies are read.
const (
	Hessian2  byte = 2
	Fastjson2 byte = 23
)

// The two ways in which sixteen bytes are no header.
var (
	ErrMagic  = errors.New("read dubbo header: no magic da bb")
	ErrLength = errors.New("read dubbo header: negative body length")
)

// ParseHeader reads the header at the start of b. It sets no limit for the
// body's length.
func ParseHeader(b []byte) (codec.Header, error) {
	if len(b) < HeaderLen {
		return codec.Header{}, codec.ErrShort
	}
	if b[0] != 0xda || b[1] != 0xbb {
		return codec.Header{}, ErrMagic
	}
	length := int32(binary.BigEndian.Uint32(b[12:]))
	if length < 0 {
		return codec.Header{}, ErrLength
	}
	return codec.Header{
		Flags:  b[2],
		Status: b[3],
		ID:     binary.BigEndian.Uint64(b[4:]),
		Head:   HeaderLen,
		Body:   int(length),
	}, nil
}

// MakeOneWay clears a request frame's flag that asks for an answer.
func MakeOneWay(frame []byte) { frame[2] &^= codec.FlagTwoWay }

// PutID overwrites the id of the frame at the start of frame, which must hold at
// least a header.
func PutID(frame []byte, id uint64) {
	binary.BigEndian.PutUint64(frame[4:12], id)
}

// appendHeader appends a header whose length is not known yet; seal sets it.
func appendHeader(dst []byte, flags, status byte, id uint64) []byte {
	dst = append(dst, 0xda, 0xbb, flags, status)
	dst = binary.BigEndian.AppendUint64(dst, id)
	return append(dst, 0, 0, 0, 0)
}

// seal sets the body length of the frame that began at start.
func seal(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start+12:], uint32(len(dst)-start-HeaderLen))
	return dst
}
