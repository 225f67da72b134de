package thrift

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// The status of an answer that is no reply, in the numbers of codec.Header (the server
// failed), and the types of TApplicationException that the mesh uses (thrift-rpc.md).
const (
	statusException = 80
	unknownMethod   = 1
	internalError   = 6
	protocolError   = 7
)

type answers struct{}

// Kind is part of codec.Answers: a result of field 0 is a value, any other field is one
// of the exceptions that the method declares, and an empty result is void.
func (answers) Kind(h codec.Header, body []byte) rpc.Result {
	if h.Status != codec.StatusOK {
		return rpc.ResultError
	}
	result := values(body)
	switch {
	case len(result) == 0:
		return rpc.ResultError // no consumer can read it
	case result[0] != stop && len(result) >= fieldHead && binary.BigEndian.Uint16(result[1:]) != 0:
		return rpc.ResultException
	}
	return rpc.ResultValue // or void
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
func (replies) Local(req codec.Asked, why rpc.Why, text string) (frame []byte, status byte) {
	switch why { //nolint:exhaustive // the rest has no kind of its own
	case rpc.WhyNoRoute, rpc.WhyNoCluster:
		return thrown(req, unknownMethod, text)
	case rpc.WhyTooLarge, rpc.WhyProtocolError:
		return thrown(req, protocolError, text)
	}
	return thrown(req, internalError, text)
}

// Abort is part of codec.Replies. Dubbo's statuses and classes mean nothing here.
func (replies) Abort(req codec.Asked, a *snapshot.Abort, text string) (frame []byte, status byte) {
	if a.Message != "" {
		text = a.Message
	}
	return thrown(req, internalError, text)
}

// Unreached is part of codec.Replies.
func (replies) Unreached(req codec.Asked, text string) (frame []byte, status byte) {
	return thrown(req, internalError, text)
}

// thrown is an answer with a TApplicationException. Go's consumers go by its name too.
func thrown(req codec.Asked, kind uint32, message string) (frame []byte, status byte) {
	b := binary.BigEndian.AppendUint32(make([]byte, head, 64+len(message)), version|exception)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(req.Method))), req.Method...)
	b = binary.BigEndian.AppendUint32(b, uint32(req.ID))
	b = binary.BigEndian.AppendUint16(append(b, text), 1)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(message))), message...)
	b = binary.BigEndian.AppendUint16(append(b, i32), 2)
	b = append(binary.BigEndian.AppendUint32(b, kind), stop)
	binary.BigEndian.PutUint32(b, uint32(len(b)-head))
	return b, statusException
}
