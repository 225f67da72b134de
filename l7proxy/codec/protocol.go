package codec

import (
	"errors"

	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// ErrShort says that a header does not end in the bytes that there are.
var ErrShort = errors.New("read header: more bytes are needed")

// ErrUnattached says that an answer has no attachments, and that whoever gets it could
// not read any.
var ErrUnattached = errors.New("edit answer: its consumer reads no attachments of answers")

// StatusOK is the status of an answer with a result.
const StatusOK byte = 20

// Protocol is a protocol of requests and answers: all that the proxy must know to hold
// its calls against every policy. It is made once and never changed.
type Protocol struct {
	Name     rpc.Protocol
	Frames   Frames
	Requests Requests
	Answers  Answers
	Replies  Replies
	// Events are what both ends say of a connection beside calls. Nil: nothing, and a
	// provider asks nothing of its consumer.
	Events Events
	// Attached is the attachments of answers. Nil: they have none.
	Attached Attached
	// Serial says that a connection carries one request at a time, in both directions,
	// and its id stays its consumer's. Otherwise ids are unique on a connection, which
	// many consumers share, and answers come in any order.
	Serial bool
	// MaxPrefix is the number of body bytes in which a prefix ends.
	MaxPrefix int
	// AnswerLen is the number of an answer's body bytes with which Answers always tell
	// what it is.
	AnswerLen int
}

// Frames reads what stands in front of every body.
type Frames interface {
	// Begins tells whether a connection's first bytes, of which there is one at least,
	// are a consumer's of this protocol. With sure false it takes more bytes to tell: is
	// then says that no other protocol begins so.
	Begins(b []byte) (is, sure bool)
	// ParseHeader reads the header at the start of b. ErrShort: it does not end there.
	ParseHeader(b []byte) (Header, error)
	// PutID overwrites the id of the frame at the start of b.
	PutID(b []byte, id uint64)
}

// Requests reads what is asked.
type Requests interface {
	// Prefix reads what is called, at the start of a request's body. It allocates
	// nothing.
	Prefix(h Header, body []byte) (Prefix, State)
	// NewBody returns a reader of what stands behind prefixes.
	NewBody() Body
	// MakeOneWay makes a request frame want no answer, if that can be; false if not.
	MakeOneWay(frame []byte) bool
}

// Body reads what stands behind the prefix of a request, as it is asked. What it
// returns aliases the body or its own buffer and is valid until the next Reset. One
// goroutine uses it.
type Body interface {
	rpc.Attachments
	rpc.Arguments
	// Reset gives it another request's whole body.
	Reset(h Header, body []byte, p Prefix)
	// Work returns how many values have been read since it was called last, for who
	// counts what reading bodies costs.
	Work() int
	// AppendEdited appends the request's frame with changes made to its attachments.
	AppendEdited(dst, frame []byte, edits ...edit.Edit) ([]byte, error)
}

// Answers reads how a provider answered.
type Answers interface {
	// Kind tells what an answer is, by its header and the start of its body.
	Kind(h Header, body []byte) rpc.Result
	// Class is the class of the exception in an answer whose kind is one; "" if it
	// cannot be read. It may alias the body.
	Class(h Header, body []byte) string
	// Outcome tells what a status says about the provider.
	Outcome(status byte) rpc.Outcome
	// NotServed tells whether the provider has executed nothing because it does not
	// know the interface.
	NotServed(h Header, body []byte, iface string) bool
	// Unreached tells whether a provider's proxy says that its application is not there.
	Unreached(h Header) bool
}

// Attached reads and changes what stands behind the value of an answer.
type Attached interface {
	// NewAnswer returns a reader of answers.
	NewAnswer() Answer
	// Reads tells whether the consumer of a request reads answers with attachments.
	Reads(p Prefix) bool
}

// Answer reads the attachments behind the value of an answer with StatusOK. One
// goroutine uses it.
type Answer interface {
	// Reset gives it another answer's whole frame, which it aliases.
	Reset(h Header, frame []byte) error
	// Lookup is that of rpc.Attachments.
	Lookup(name string) (value string, ok bool)
	// AppendEdited appends the frame with changes made to its attachments. Reads says
	// that its consumer reads them where there were none; ErrUnattached if not.
	AppendEdited(dst []byte, reads bool, edits ...edit.Edit) ([]byte, error)
}

// Asked is what an answer repeats of its request.
type Asked struct {
	ID            uint64
	Serialization byte
	Method        string // "" if it could not be read
}

// Replies makes the answers that the mesh gives in a provider's stead. Each returns the
// status too.
type Replies interface {
	// Local is the answer for a reason, with a text for people.
	Local(req Asked, why rpc.Why, text string) (frame []byte, status byte)
	// Abort is the answer of a fault; text is for one that has none.
	Abort(req Asked, a *snapshot.Abort, text string) (frame []byte, status byte)
	// Unreached is what a provider's proxy says when its application is not there.
	Unreached(req Asked, text string) (frame []byte, status byte)
}

// Events makes and reads the frames of a connection's own.
type Events interface {
	// AppendHeartbeat appends a heartbeat that wants an answer.
	AppendHeartbeat(dst []byte, id uint64) []byte
	// AppendReply appends the answer to one.
	AppendReply(dst []byte, req Header) []byte
	// AppendReadOnly appends the event by which a provider says that it is about to stop.
	AppendReadOnly(dst []byte) []byte
	// ReadOnly tells whether a frame is that event.
	ReadOnly(h Header, body []byte) bool
	// DeclaresCallback tells whether a request may let its provider call its consumer.
	DeclaresCallback(frame []byte) bool
}

// The bits of Header.Flags that have a meaning in every protocol. The low five are
// the serialization, where a protocol has several.
const (
	FlagRequest = 0x80
	FlagTwoWay  = 0x40
	FlagEvent   = 0x20

	serializationMask = 0x1f
)

// Header is a frame's header. The status is an open set: a provider's unknown status
// is forwarded like any other.
type Header struct {
	Flags byte
	// Status is an answer's, in Dubbo's numbers (20 is OK), which policies and telemetry
	// speak; 0 in requests.
	Status byte
	ID     uint64 // opaque
	Head   int    // bytes in front of the body
	Body   int    // bytes of the body
}

// Len is the length of the whole frame in bytes.
func (h Header) Len() int { return h.Head + h.Body }

// Request tells whether the frame asks; otherwise it answers. A provider may send
// requests too.
func (h Header) Request() bool { return h.Flags&FlagRequest != 0 }

// TwoWay tells whether a request wants an answer. Some peers set it in answers, where
// it means nothing.
func (h Header) TwoWay() bool { return h.Flags&FlagTwoWay != 0 }

// Event tells whether the frame is the connection's own, or the answer to such a one,
// and no call.
func (h Header) Event() bool { return h.Flags&FlagEvent != 0 }

// Serialization returns the id of the body's serialization.
func (h Header) Serialization() byte { return h.Flags & serializationMask }

// Prefix is what stands at the start of a request's body. Its strings alias the body:
// they are valid only while the body's buffer is neither changed nor reused. Clone
// what must live longer.
type Prefix struct {
	Dubbo   string // Dubbo: the consumer's protocol version, "2.0.2"
	Path    string // the interface, or the path it is exported under
	Version string // the service version; "" for none
	Method  string // of a generic call the one that it names
	// Generic says that the method on the wire is another one, which names Method.
	Generic bool
	Types   int // Dubbo: offset in the body of the arguments' types
	End     int // offset behind all that the fields above were read from
}

// State tells how far a prefix could be read.
type State uint8

// The states.
const (
	Complete State = iota
	// More says that the body ends inside the prefix: the caller gave its first part
	// only. For a whole body it means the same as Undecodable.
	More
	// Undecodable says that the body is not a request's, or not one that is read, and
	// that no further bytes change that. The frame can still be forwarded; a policy
	// that depends on names must refuse it.
	Undecodable
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case Complete:
		return "complete"
	case More:
		return "more"
	case Undecodable:
		return "undecodable"
	}
	return "unknown"
}
