package handoff

import (
	"errors"
	"fmt"

	"github.com/dubway/dubway/internal/handoff/field"
)

// DialError is a Dial that the agent refused.
type DialError struct {
	Code DialCode
	Text string
}

// Error returns the agent's reason.
func (e *DialError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("dial: %s", e.Code)
	}
	return fmt.Sprintf("dial: %s: %s", e.Code, e.Text)
}

// NewAck returns the answer to the message of number seq; a nil error is
// success.
func NewAck(seq uint64, err error) *Message {
	a := &Ack{}
	if err != nil {
		a.Error = truncate(err.Error())
	}
	return &Message{Kind: KindAck, Seq: seq, Ack: a}
}

// NewDialResult returns the answer to the Dial of number seq; with a nil error
// one descriptor must travel with it. An error that is no *DialError is told as
// DialFailed.
func NewDialResult(seq uint64, err error) *Message {
	r := &DialResult{}
	if err != nil {
		r.Code, r.Error = DialFailed, truncate(err.Error())
		if d, ok := errors.AsType[*DialError](err); ok {
			r.Code, r.Error = d.Code, truncate(d.Text)
		}
	}
	return &Message{Kind: KindDialResult, Seq: seq, DialResult: r}
}

// truncate keeps an error's text within what a message may hold. A character
// cut in the middle becomes U+FFFD.
func truncate(s string) string {
	return string([]rune(s[:min(len(s), field.MaxText/4)]))
}
