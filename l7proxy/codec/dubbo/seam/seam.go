// Package seam is Dubbo as package codec has protocols. It only names what package
// dubbo does.
package seam

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

var protocol = codec.Protocol{
	Name: rpc.ProtocolDubbo, Frames: frames{}, Requests: requests{}, Answers: answers{}, Replies: replies{},
	Events: events{}, Attached: attached{}, MaxPrefix: dubbo.MaxPrefix, AnswerLen: dubbo.ExceptionLen,
}

// Protocol is Dubbo as the proxy sees it. Not to be changed.
func Protocol() *codec.Protocol { return &protocol }

type frames struct{}

// Begins is part of codec.Frames: two bytes of magic.
func (frames) Begins(b []byte) (is, sure bool) {
	if len(b) == 1 {
		return b[0] == 0xda, b[0] != 0xda
	}
	return b[0] == 0xda && b[1] == 0xbb, true
}

// ParseHeader is part of codec.Frames.
func (frames) ParseHeader(b []byte) (codec.Header, error) { return dubbo.ParseHeader(b) }

// PutID is part of codec.Frames.
func (frames) PutID(b []byte, id uint64) { dubbo.PutID(b, id) }

type requests struct{}

// Prefix is part of codec.Requests.
func (requests) Prefix(h codec.Header, body []byte) (codec.Prefix, codec.State) {
	return dubbo.ParsePrefix(h.Serialization(), body)
}

// NewBody is part of codec.Requests.
func (requests) NewBody() codec.Body { return new(dubbo.Body) }

// MakeOneWay is part of codec.Requests.
func (requests) MakeOneWay(frame []byte) bool {
	dubbo.MakeOneWay(frame)
	return true
}

type answers struct{}

// Kind is part of codec.Answers.
func (answers) Kind(h codec.Header, body []byte) rpc.Result { return dubbo.AnswerKind(h, body) }

// Class is part of codec.Answers.
func (answers) Class(h codec.Header, body []byte) string {
	return dubbo.ExceptionClass(h.Serialization(), body)
}

// Outcome is part of codec.Answers.
func (answers) Outcome(status byte) rpc.Outcome { return dubbo.Outcome(status) }

// NotServed is part of codec.Answers.
func (answers) NotServed(h codec.Header, body []byte, iface string) bool {
	return dubbo.NotExported(h, body, iface)
}

// Unreached is part of codec.Answers.
func (answers) Unreached(h codec.Header) bool { return h.Status == dubbo.StatusChannelInactive }

type replies struct{}

// header is that of a request that wants an answer.
func header(req codec.Asked) codec.Header {
	return codec.Header{Flags: codec.FlagRequest | codec.FlagTwoWay | req.Serialization, ID: req.ID}
}

// Local is part of codec.Replies.
func (replies) Local(req codec.Asked, why rpc.Why, text string) (frame []byte, status byte) {
	return dubbo.AppendLocal(nil, header(req), why, text)
}

// Abort is part of codec.Replies.
func (replies) Abort(req codec.Asked, a *snapshot.Abort, text string) (frame []byte, status byte) {
	if a.Message != "" {
		text = a.Message
	}
	if a.Class != "" && dubbo.CanThrow(req.Serialization) {
		e := dubbo.Exception{Class: a.Class, Code: dubbo.Code(a.Code), Message: text}
		return dubbo.AppendException(nil, header(req), e), dubbo.StatusOK
	}
	return dubbo.AppendError(nil, header(req), a.Status, text), a.Status
}

// Unreached is part of codec.Replies.
func (replies) Unreached(req codec.Asked, text string) (frame []byte, status byte) {
	return dubbo.AppendError(nil, header(req), dubbo.StatusChannelInactive, text), dubbo.StatusChannelInactive
}

type events struct{}

// AppendHeartbeat is part of codec.Events.
func (events) AppendHeartbeat(dst []byte, id uint64) []byte { return dubbo.AppendHeartbeat(dst, id) }

// AppendReply is part of codec.Events.
func (events) AppendReply(dst []byte, req codec.Header) []byte {
	return dubbo.AppendHeartbeatReply(dst, req)
}

// AppendReadOnly is part of codec.Events.
func (events) AppendReadOnly(dst []byte) []byte { return dubbo.AppendReadOnly(dst) }

// ReadOnly is part of codec.Events.
func (events) ReadOnly(h codec.Header, body []byte) bool { return dubbo.IsReadOnly(h, body) }

// DeclaresCallback is part of codec.Events.
func (events) DeclaresCallback(frame []byte) bool { return dubbo.DeclaresCallback(frame) }

type attached struct{}

// NewAnswer is part of codec.Attached.
func (attached) NewAnswer() codec.Answer { return new(dubbo.Answer) }

// Reads is part of codec.Attached.
func (attached) Reads(p codec.Prefix) bool { return dubbo.ReadsAttachments(p.Dubbo) }
