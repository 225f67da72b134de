package dubbo

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// AnswerLen is the number of body bytes with which AnswerKind always tells the
// kind; a shorter part of a longer body may not do.
const AnswerLen = 13

// The kinds of answers with StatusOK, the first number of their body
// (DubboCodec's RESPONSE_ constants).
const (
	answerException = iota
	answerValue
	answerNull
	answerExceptionAttachments
	answerValueAttachments
	answerNullAttachments
)

// AnswerKind tells how the provider answered: by the header's status, and for
// StatusOK by the first bytes of the body. An OK answer that no consumer could
// read counts as ResultError; one of an unread serialization as ResultValue.
func AnswerKind(h codec.Header, body []byte) rpc.Result {
	if h.Status != StatusOK {
		return rpc.ResultError
	}
	var kind int64
	var err error
	switch h.Serialization() {
	case Hessian2:
		kind, _, err = hessian.Int(body)
	case Fastjson2:
		var e []byte
		if e, _, err = attachments.Element(body); err == nil {
			kind, _, err = jsonb.Int(e)
		}
	default:
		return rpc.ResultValue
	}
	if err != nil {
		return rpc.ResultError
	}
	switch kind {
	case answerException, answerExceptionAttachments:
		return rpc.ResultException
	case answerValue, answerNull, answerValueAttachments, answerNullAttachments:
		return rpc.ResultValue
	}
	return rpc.ResultError
}

// MaxClass is the longest class name that ExceptionClass reads, in bytes.
const MaxClass = 256

// ExceptionLen is the number of body bytes with which ExceptionClass always
// reads the class; a shorter part of a longer body may not do.
const ExceptionLen = AnswerLen + MaxClass + 11

// ExceptionClass returns the class of the exception in an answer for which
// AnswerKind said ResultException, or "" if it cannot be read: it is of a class
// that has no name there (a null, a string), or longer than MaxClass. The name
// aliases the body and is valid UTF-8, of whatever characters the provider chose.
//
// In hessian2 the class' definition is the first thing behind the kind. In
// fastjson2 the type is, in which Java's own exceptions have no package:
// IllegalStateException.
func ExceptionClass(serialization byte, body []byte) string {
	var name []byte
	switch serialization {
	case Hessian2:
		name = hessianClass(body)
	case Fastjson2:
		name = fastjsonClass(body)
	}
	if len(name) > MaxClass {
		return ""
	}
	return alias(name)
}

func hessianClass(body []byte) []byte {
	_, n, err := hessian.Int(body)
	if err != nil || n == len(body) || body[n] != 'C' && body[n] != 'M' {
		return nil
	}
	name, _, err := hessian.Text(body[n+1:])
	if err != nil {
		return nil
	}
	return name
}

// fastjsonClass reads the type of the second element. The element may be cut.
func fastjsonClass(body []byte) []byte {
	_, n, err := attachments.Element(body)
	if err != nil || len(body) < n+5 || body[n+4] != jsonb.Typed {
		return nil
	}
	name, _, err := jsonb.Text(body[n+5:])
	if err != nil {
		return nil
	}
	return name
}

// IsReadOnly tells whether a frame is the event by which a provider says that
// it is about to stop: take no new calls to it, those in flight are answered.
func IsReadOnly(h codec.Header, body []byte) bool {
	if !h.Event() || !h.Request() {
		return false
	}
	switch h.Serialization() {
	case Hessian2:
		text, _, err := hessian.Text(body)
		return err == nil && string(text) == "R"
	case Fastjson2:
		e, _, err := attachments.Element(body)
		if err != nil {
			return false
		}
		text, _, err := jsonb.Text(e)
		return err == nil && string(text) == "R"
	}
	return false
}
