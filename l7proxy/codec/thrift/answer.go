package thrift

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The statuses of answers, in the numbers of codec.Header: OK, and the server failed.
const (
	statusReply     = 20
	statusException = 80
)

// The types of TApplicationException that the mesh uses (thrift-rpc.md).
const (
	unknownMethod = 1
	internalError = 6
	protocolError = 7
)

// The types of values that are made here, and the end of a struct.
const (
	stop = 0
	i32  = 8
	text = 11
)

type answers struct{}

// Kind is part of codec.Answers: a result of field 0 is a value, any other field is one
// of the exceptions that the method declares, and an empty result is void.
func (answers) Kind(h codec.Header, body []byte) rpc.Result {
	if h.Status != statusReply {
		return rpc.ResultError
	}
	result, ok := values(body)
	switch {
	case !ok || len(result) == 0:
		return rpc.ResultError // no consumer can read it
	case result[0] == stop:
		return rpc.ResultValue // void
	case len(result) >= 3 && binary.BigEndian.Uint16(result[1:]) != 0:
		return rpc.ResultException
	}
	return rpc.ResultValue
}

// Class is part of codec.Answers. Names of types are not on the wire.
func (answers) Class(codec.Header, []byte) string { return "" }

// Outcome is part of codec.Answers. A TApplicationException is the server's own failure.
func (answers) Outcome(status byte) rpc.Outcome {
	if status == statusException {
		return rpc.OutcomeError
	}
	return rpc.OutcomeOK
}

// NotServed is part of codec.Answers.
func (answers) NotServed(codec.Header, []byte, string) bool { return false }

// Unreached is part of codec.Answers.
func (answers) Unreached(codec.Header) bool { return false }

type replies struct{}

// Local is part of codec.Replies.
func (replies) Local(req codec.Header, why rpc.Why, text string) (frame []byte, status byte) {
	kind := uint32(internalError)
	switch why { //nolint:exhaustive // the rest has no kind of its own
	case rpc.WhyNoRoute, rpc.WhyNoCluster:
		kind = unknownMethod
	case rpc.WhyTooLarge, rpc.WhyProtocolError:
		kind = protocolError
	}
	return appendException(nil, req.ID, kind, text), statusException
}

// Abort is part of codec.Replies. Dubbo's statuses and classes mean nothing here.
func (replies) Abort(req codec.Header, a *snapshot.Abort, text string) (frame []byte, status byte) {
	if a.Message != "" {
		text = a.Message
	}
	return appendException(nil, req.ID, internalError, text), statusException
}

// Unreached is part of codec.Replies.
func (replies) Unreached(req codec.Header, text string) (frame []byte, status byte) {
	return appendException(nil, req.ID, internalError, text), statusException
}

// appendException appends a TApplicationException. Its name is empty: consumers go by the
// id.
func appendException(dst []byte, id uint64, kind uint32, message string) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, 0) // the length, below
	dst = binary.BigEndian.AppendUint32(dst, version|exception)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(id))
	dst = binary.BigEndian.AppendUint16(append(dst, text), 1)
	dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(message))), message...)
	dst = binary.BigEndian.AppendUint16(append(dst, i32), 2)
	dst = append(binary.BigEndian.AppendUint32(dst, kind), stop)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-frameLen))
	return dst
}
