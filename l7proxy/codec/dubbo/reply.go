package dubbo

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// AppendError appends the answer to req that tells of a status other than
// StatusOK, with a text for people.
//
// The body is always a hessian2 string and says so (id 2): consumers read it in
// answer to a fastjson2 request as well. It is never empty: a Go consumer
// closes its session at that and its callers hang.
func AppendError(dst []byte, req codec.Header, status byte, text string) []byte {
	start := len(dst)
	dst = appendHeader(dst, Hessian2, status, req.ID)
	dst = hessian.AppendString(dst, text)
	return seal(dst, start)
}

// RPCException is the class that every consumer of Dubbo 2.7 to 3.3 has and, in
// Dubbo's own list of classes, may read.
const RPCException = "org.apache.dubbo.rpc.RpcException"

// An exception in hessian2: the kind of the answer, the class with the fields that
// matter, an instance of it. In fastjson2 kind and exception are an element each; the
// class has a number behind its name, by which later values could name it, the
// fields' names have none. Code is RpcException's alone; the message is a field of
// Throwable.
const (
	hessianMessage = "\x91\x0ddetailMessage" + "\x60"
	hessianCode    = "\x92\x04code\x0ddetailMessage" + "\x60"

	fastjsonKind    = "\x00\x00\x00\x02\xbd\x00"
	fastjsonCode    = "\x4dcode"
	fastjsonMessage = "\x56detailMessage"
)

// Code is an RpcException's code, as Java's constants of that class have it: from
// 0 to 47, which is one byte in both serializations.
type Code byte

// The codes that the mesh uses.
const (
	CodeSerialization Code = 5
	CodeNoInvoker     Code = 6
	CodeLimitExceeded Code = 7
	CodeAuthorization Code = 13
)

// CanThrow tells whether AppendException writes a serialization.
func CanThrow(serialization byte) bool {
	return serialization == Hessian2 || serialization == Fastjson2
}

// Exception is what an answer throws in a consumer.
type Exception struct {
	// Class is its Java name, in ASCII. A consumer of Dubbo 3.2 and later must have it
	// among the classes that it may read: the unchecked ones of java.lang are.
	Class   string
	Code    Code // of an RPCException
	Message string
}

// AppendException appends the answer to req that throws in the consumer. A Java
// consumer does not retry it, as it does every status other than StatusOK; a Go
// consumer retries both. Java demands an OK answer in the request's own serialization:
// the caller has seen that it is one of CanThrow.
func AppendException(dst []byte, req codec.Header, e Exception) []byte {
	start := len(dst)
	dst = appendHeader(dst, req.Serialization(), StatusOK, req.ID)
	if req.Serialization() == Hessian2 {
		dst = hessian.AppendString(append(dst, 0x90, 'C'), e.Class)
		if e.Class == RPCException {
			dst = append(append(dst, hessianCode...), 0x90+byte(e.Code))
		} else {
			dst = append(dst, hessianMessage...)
		}
		return seal(hessian.AppendString(dst, e.Message), start)
	}
	dst = append(dst, fastjsonKind...)
	element := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(jsonb.AppendName(append(dst, jsonb.Typed), e.Class), 0, jsonb.Object)
	if e.Class == RPCException {
		dst = append(append(dst, fastjsonCode...), byte(e.Code))
	}
	dst = append(dst, fastjsonMessage...)
	dst = jsonb.AppendString(dst, e.Message)
	dst = append(dst, jsonb.ObjectEnd)
	binary.BigEndian.PutUint32(dst[element:], uint32(len(dst)-element-4))
	return seal(dst, start)
}

// AppendHeartbeat appends a heartbeat that wants an answer.
func AppendHeartbeat(dst []byte, id uint64) []byte {
	start := len(dst)
	dst = appendHeader(dst, codec.FlagRequest|codec.FlagTwoWay|codec.FlagEvent|Hessian2, 0, id)
	return seal(append(dst, 'N'), start)
}

// AppendReadOnly appends the event by which a provider says that it is about to stop.
func AppendReadOnly(dst []byte) []byte {
	start := len(dst)
	dst = appendHeader(dst, codec.FlagRequest|codec.FlagEvent|Hessian2, 0, 0)
	return seal(append(dst, 1, 'R'), start)
}

// AppendHeartbeatReply appends the answer to a heartbeat; the caller has seen
// that req wants one (TwoWay). Its body is the null of the request's
// serialization, by which Java knows a heartbeat; for a serialization that is
// not read here it is hessian2's.
func AppendHeartbeatReply(dst []byte, req codec.Header) []byte {
	start := len(dst)
	if req.Serialization() == Fastjson2 {
		dst = appendHeader(dst, codec.FlagEvent|Fastjson2, StatusOK, req.ID)
		return seal(append(dst, 0, 0, 0, 1, jsonb.Null), start)
	}
	dst = appendHeader(dst, codec.FlagEvent|Hessian2, StatusOK, req.ID)
	return seal(append(dst, 'N'), start)
}
