package dubbo

import (
	"fmt"

	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/edit"
)

// MaxAttachments is the number of attachments that are read of one request.
const MaxAttachments = attachments.Max

// Lookup returns the attachment with exactly this name. Numbers are returned in
// decimal, booleans as true or false; attachments of other types are absent. Of
// two with one name the last counts, as in Java's map. An error means that the
// body cannot be read up to its end: then no attachment is known.
func (b *Body) Lookup(name string) (value string, ok bool, err error) {
	if err := b.readAttachments(); err != nil {
		return "", false, err
	}
	value, ok = b.attached.Lookup(name)
	return value, ok, nil
}

// Spelling returns the nth attachment, from 0, of those whose names differ from
// the given one in the case of ASCII letters at most; false behind the last one.
// Values are as of Lookup; those that it does not return are passed over.
func (b *Body) Spelling(name string, nth int) (value string, ok bool, err error) {
	if err := b.readAttachments(); err != nil {
		return "", false, err
	}
	value, ok = b.attached.Spelling(name, nth)
	return value, ok, nil
}

// AppendEdited appends a request frame with the edits made to its attachments, in
// their order. B has been Reset to the frame's body. Everything else stays byte by
// byte. An error means that the attachments cannot be read, or not be changed so;
// dst is then returned as it was.
func (b *Body) AppendEdited(dst, frame []byte, edits ...edit.Edit) ([]byte, error) {
	if err := b.readAttachments(); err != nil {
		return dst, err
	}
	draft, err := b.attached.Draft(edits)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, frame[:HeaderLen]...)
	return seal(b.attached.Append(dst, &draft), start), nil
}

func (b *Body) readAttachments() error {
	if b.read {
		return b.err
	}
	b.read = true
	if err := b.parse(); err != nil {
		b.err = fmt.Errorf("read attachments: %w", err)
		b.attached.Drop()
	}
	return b.err
}

func (b *Body) parse() error {
	if b.serialization == Fastjson2 && b.prefix.Generic {
		// The arguments are one value, whose length is known.
		if err := b.openArguments(); err != nil {
			return err
		}
		return b.attached.ReadElement(b.args.end)
	}
	for {
		more, err := b.nextArgument()
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if b.serialization == Fastjson2 {
		return b.attached.ReadElement(b.args.pos)
	}
	return b.attached.ReadHessian(&b.reader)
}
