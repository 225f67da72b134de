// Package thrift reads and makes the frames of Apache Thrift's strict binary protocol in
// framed transport: a length of four bytes, and a message of which the name says what
// is called and the sequence id belongs to one connection. It works on byte slices.
//
// A service behind Thrift's TMultiplexedProcessor is named in front of its method, as
// "Orders:place", and that is the interface. Any other has the interface "". There are
// no attachments.
//
// Wire facts: the Thrift specification of the binary protocol
// (doc/specs/thrift-binary-protocol.md, thrift-rpc.md) and lib/go/thrift 0.23.
package thrift

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// What stands in front of a message's arguments or result.
const (
	frameLen = 4       // bytes of the frame's length
	nameAt   = 4       // of a message: behind its version and type, the name's length
	maxName  = 512     // bytes of a name

	version = 0x8001_0000
)

// The types of messages.
const (
	call      = 1
	reply     = 2
	exception = 3
	oneway    = 4
)

// The ways in which bytes are no frame of a message. Nobody branches on them.
var (
	errLength  = errors.New("read thrift frame: its length is negative or too short for a message")
	errVersion = errors.New("read thrift message: no strict binary protocol (80 01)")
	errType    = errors.New("read thrift message: no call, reply, exception or oneway")
	errName    = errors.New("read thrift message: its name is longer than 512 bytes, or than the frame")
)

var protocol = codec.Protocol{
	Name: rpc.ProtocolThrift, Frames: frames{}, Requests: requests{}, Answers: answers{}, Replies: replies{},
	Serial: true, MaxPrefix: nameAt + 4 + maxName, AnswerLen: nameAt + 4 + maxName + 4 + 3,
}

// Protocol is Thrift as the proxy sees it. Not to be changed.
func Protocol() *codec.Protocol { return &protocol }

type frames struct{}

// Begins is part of codec.Frames: a length below 16 MiB, version 1, and a call.
func (frames) Begins(b []byte) (is, sure bool) {
	want := [...]byte{frameLen: 0x80, 0x01, 0}
	for i := range min(len(b), len(want)) {
		if b[i] != want[i] && (i == 0 || i >= frameLen) {
			return false, true
		}
	}
	if len(b) <= len(want) {
		return len(b) > frameLen, false
	}
	return b[len(want)] == call || b[len(want)] == oneway, true
}

// ParseHeader is part of codec.Frames. The name is in front of the id.
func (frames) ParseHeader(b []byte) (codec.Header, error) {
	if len(b) < frameLen+nameAt+4 {
		return codec.Header{}, codec.ErrShort
	}
	length := int32(binary.BigEndian.Uint32(b))
	if length < nameAt+4+4 {
		return codec.Header{}, errLength
	}
	first := binary.BigEndian.Uint32(b[frameLen:])
	if first&0xffff_0000 != version {
		return codec.Header{}, errVersion
	}
	h := codec.Header{Head: frameLen, Body: int(length)}
	switch first & 0xff {
	case call:
		h.Flags = codec.FlagRequest | codec.FlagTwoWay
	case oneway:
		h.Flags = codec.FlagRequest
	case reply:
		h.Status = statusReply
	case exception:
		h.Status = statusException
	default:
		return codec.Header{}, errType
	}
	name := int32(binary.BigEndian.Uint32(b[frameLen+nameAt:]))
	if name < 0 || name > maxName || name > length-nameAt-4-4 {
		return codec.Header{}, errName
	}
	at := frameLen + nameAt + 4 + int(name)
	if len(b) < at+4 {
		return codec.Header{}, codec.ErrShort
	}
	h.ID = uint64(binary.BigEndian.Uint32(b[at:]))
	return h, nil
}

// PutID is part of codec.Frames. Ids stay their consumer's.
func (frames) PutID([]byte, uint64) {}

type requests struct{}

// Prefix is part of codec.Requests.
func (requests) Prefix(_ codec.Header, body []byte) (codec.Prefix, codec.State) {
	name, ok := nameOf(body)
	if !ok {
		return codec.Prefix{}, codec.More
	}
	if len(name) == 0 || !utf8.Valid(name) {
		return codec.Prefix{}, codec.Undecodable
	}
	text := unsafe.String(unsafe.SliceData(name), len(name))
	service, method, _ := strings.Cut(text, ":")
	if method == "" {
		service, method = "", text
	}
	return codec.Prefix{Path: service, Method: method, End: nameAt + 4 + len(name)}, codec.Complete
}

// nameOf is the name of a message; false if it does not end in body.
func nameOf(body []byte) ([]byte, bool) {
	if len(body) < nameAt+4 {
		return nil, false
	}
	n := int(int32(binary.BigEndian.Uint32(body[nameAt:])))
	if n < 0 || len(body) < nameAt+4+n {
		return nil, false
	}
	return body[nameAt+4 : nameAt+4+n], true
}

// values is what stands behind a message's name and id.
func values(body []byte) ([]byte, bool) {
	name, ok := nameOf(body)
	if at := nameAt + 4 + len(name) + 4; ok && at <= len(body) {
		return body[at:], true
	}
	return nil, false
}

// NewBody is part of codec.Requests.
func (requests) NewBody() codec.Body { return new(Body) }

// MakeOneWay is part of codec.Requests. Whether a method answers is what its service
// says of it, and no message changes that.
func (requests) MakeOneWay([]byte) bool { return false }
