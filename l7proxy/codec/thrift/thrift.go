// Package thrift reads and makes the frames of Apache Thrift's strict binary protocol in
// framed transport: a length of four bytes, and a message whose name says what is
// called. Its sequence id means something on its own connection only. It works on byte
// slices.
//
// A service behind Thrift's TMultiplexedProcessor is named in front of its method, as
// "Orders:place", and that is the interface. Any other has the interface "". There are
// no attachments.
//
// Wire facts: the specifications thrift-binary-protocol.md and thrift-rpc.md of Apache
// Thrift, and its Go library 0.23.
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

// A frame is its length, and in it a version and type, a name's length and the name, an
// id, and a struct of arguments or of the result. A message has one of four types.
const (
	head    = 4   // bytes of the frame's length
	nameAt  = 8   // where a message's name begins
	idLen   = 4   // bytes of the id behind it
	maxName = 512 // bytes: a header fits into the least buffer that a connection has
	version = 0x80010000

	call      = 1
	reply     = 2
	exception = 3
	oneway    = 4
)

// The ways in which bytes are no frame of a message. Nobody branches on them.
var (
	errVersion = errors.New("read thrift message: no call, reply, exception or oneway of the strict binary protocol")
	errLength  = errors.New("read thrift message: its name is longer than 512 bytes, or does not fit into its frame")
)

var protocol = codec.Protocol{
	Name: rpc.ProtocolThrift, Frames: frames{}, Requests: requests{}, Answers: answers{}, Replies: replies{},
	Serial: true, MaxPrefix: nameAt + maxName, AnswerLen: nameAt + maxName + idLen + 3,
}

// Protocol is Thrift as the proxy sees it. Not to be changed.
func Protocol() *codec.Protocol { return &protocol }

type frames struct{}

// Begins is part of codec.Frames: a length below 16 MiB, the version, and a call.
func (frames) Begins(b []byte) (is, sure bool) {
	want := [...]byte{head: 0x80, 0x01, 0}
	for i := range min(len(b), len(want)) {
		if b[i] != want[i] && (i == 0 || i >= head) {
			return false, true
		}
	}
	if len(b) <= len(want) {
		return len(b) > head, false
	}
	return b[len(want)] == call || b[len(want)] == oneway, true
}

// ParseHeader is part of codec.Frames. The name is in front of the id.
func (frames) ParseHeader(b []byte) (codec.Header, error) {
	if len(b) < head+nameAt {
		return codec.Header{}, codec.ErrShort
	}
	length, name := int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[head+4:]))
	if name < 0 || name > maxName || length < nameAt+name+idLen {
		return codec.Header{}, errLength
	}
	h := codec.Header{Head: head, Body: int(length)}
	switch binary.BigEndian.Uint32(b[head:]) &^ 0xff00 { // a byte that nobody uses
	case version | call:
		h.Flags = codec.FlagRequest | codec.FlagTwoWay
	case version | oneway:
		h.Flags = codec.FlagRequest
	case version | reply:
		h.Status = codec.StatusOK
	case version | exception:
		h.Status = statusException
	default:
		return codec.Header{}, errVersion
	}
	id := head + nameAt + int(name)
	if len(b) < id+idLen {
		return codec.Header{}, codec.ErrShort
	}
	h.ID = uint64(binary.BigEndian.Uint32(b[id:]))
	return h, nil
}

// PutID is part of codec.Frames. Ids stay their consumer's.
func (frames) PutID([]byte, uint64) {}

type requests struct{}

// Prefix is part of codec.Requests.
func (requests) Prefix(_ codec.Header, body []byte) (codec.Prefix, codec.State) {
	end, ok := nameEnd(body)
	if !ok {
		return codec.Prefix{}, codec.More
	}
	name := body[nameAt:end]
	if len(name) == 0 || !utf8.Valid(name) {
		return codec.Prefix{}, codec.Undecodable
	}
	text := unsafe.String(unsafe.SliceData(name), len(name))
	service, method, multiplexed := strings.Cut(text, ":")
	if !multiplexed {
		service, method = "", text
	}
	return codec.Prefix{Path: service, Method: method, End: end}, codec.Complete
}

// nameEnd is where a message's name ends; false if that is not in body.
func nameEnd(body []byte) (int, bool) {
	if len(body) < nameAt {
		return 0, false
	}
	n := int(int32(binary.BigEndian.Uint32(body[4:])))
	return nameAt + n, n >= 0 && nameAt+n <= len(body)
}

// values is the struct behind a message's id; nil if there is none.
func values(body []byte) []byte {
	if end, ok := nameEnd(body); ok && end+idLen <= len(body) {
		return body[end+idLen:]
	}
	return nil
}

// NewBody is part of codec.Requests.
func (requests) NewBody() codec.Body { return new(Body) }

// MakeOneWay is part of codec.Requests. Whether a method answers is what its service
// says of it, and no message changes that.
func (requests) MakeOneWay([]byte) bool { return false }
