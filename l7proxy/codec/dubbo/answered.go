package dubbo

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/edit"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

var errAnswer = errors.New("the body is not an answer's")

// Answer reads the attachments behind the value of an answer with StatusOK. Keep one
// per reader: it then allocates only to grow. Its zero value has none. Not safe for
// concurrent use.
type Answer struct {
	frame    []byte
	kind     int // offset in the body of the last byte of the number that says the kind
	attached attachments.Map
	reader   hessian.Reader
}

// Reset gives it the whole frame of another answer, which it aliases until the next
// Reset. An error means that it has another status, or cannot be read up to its
// attachments: it then has none.
func (a *Answer) Reset(h codec.Header, frame []byte) error {
	a.frame = frame
	body := frame[HeaderLen:]
	a.attached.Reset(body, h.Serialization() == Fastjson2)
	err := errSerialization
	switch {
	case h.Status != StatusOK:
		err = errAnswer
	case h.Serialization() == Hessian2:
		err = a.hessian(body)
	case h.Serialization() == Fastjson2:
		err = a.fastjson(body)
	}
	if err != nil {
		a.attached.Drop()
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (a *Answer) hessian(body []byte) error {
	kind, n, err := hessian.Int(body)
	if err != nil {
		return err
	}
	a.kind = n - 1
	a.reader.Reset(body)
	a.reader.Advance(n)
	switch kind {
	case answerException, answerValue, answerExceptionAttachments, answerValueAttachments:
		if err := a.reader.Skip(); err != nil {
			return err
		}
	case answerNull, answerNullAttachments:
	default:
		return errAnswer
	}
	if kind < answerExceptionAttachments {
		a.attached.None(a.reader.Offset())
		return nil
	}
	return a.attached.ReadHessian(&a.reader)
}

func (a *Answer) fastjson(body []byte) error {
	e, at, err := attachments.Element(body)
	if err != nil {
		return err
	}
	kind, n, err := jsonb.Int(e)
	if err != nil {
		return err
	}
	a.kind = at - 1
	switch {
	case n != len(e), kind < answerException, kind > answerNullAttachments:
		return errAnswer
	case kind != answerNull && kind != answerNullAttachments:
		_, n, err := attachments.Element(body[at:])
		if err != nil {
			return err
		}
		at += n
	}
	if kind < answerExceptionAttachments {
		a.attached.None(at)
		return nil
	}
	return a.attached.ReadElement(at)
}

// Lookup returns the attachment with exactly this name, as Body.Lookup does.
func (a *Answer) Lookup(name string) (value string, ok bool) { return a.attached.Lookup(name) }

// AppendEdited appends the frame with the edits made to its attachments, in their
// order. The value, or the exception, stays byte by byte. An answer that has no
// attachments, and gets some, becomes one of a kind that has: that is codec.ErrUnattached
// unless the one who asked reads such kinds (ReadsAttachments). After an error dst is
// returned as it was.
func (a *Answer) AppendEdited(dst []byte, reads bool, edits ...edit.Edit) ([]byte, error) {
	draft, err := a.attached.Draft(edits)
	switch missing := a.attached.Missing(); {
	case err != nil:
		return dst, fmt.Errorf("edit answer: %w", err)
	case draft.Empty():
		return append(dst, a.frame...), nil
	case missing && !reads:
		return dst, codec.ErrUnattached
	default:
		start := len(dst)
		dst = append(dst, a.frame[:HeaderLen]...)
		dst = a.attached.Append(dst, &draft)
		if missing {
			// The kinds with attachments are those without, plus 3. From 0 to 2 the last
			// byte of each form of a number says how much it is.
			dst[start+HeaderLen+a.kind] += answerExceptionAttachments - answerException
		}
		return seal(dst, start), nil
	}
}

// The versions between which a request's first string is not the protocol's version
// but the library's: such consumers know no attachments of answers. Dubbox has 2.8.
var (
	firstAttached = [3]int{2, 0, 2}
	libraries     = [...][2][3]int{{{2, 0, 10}, {2, 6, 3}}, {{2, 8, 0}, {2, 9, 0}}}
)

// ReadsAttachments tells whether a consumer that says this version in its requests
// (Prefix.Dubbo) reads answers with attachments: Dubbo's own rule,
// Version.isSupportResponseAttachment.
func ReadsAttachments(version string) bool {
	var v [3]int
	parts := strings.SplitN(version, ".", len(v)+1)
	if len(parts) < len(v) {
		return false
	}
	for i := range v {
		digits := parts[i]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			return false
		}
		v[i] = n
	}
	for _, l := range libraries {
		if !before(v, l[0]) && before(v, l[1]) {
			return false
		}
	}
	return !before(v, firstAttached)
}

func before(a, b [3]int) bool { return slices.Compare(a[:], b[:]) < 0 }
