package dubbo

import (
	"fmt"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
)

// MaxAttachments is the number of attachments that are read of one request.
const MaxAttachments = 1024

type attachment struct {
	name  string
	value string
	ok    bool // the value is a string, a number or a boolean
	// Offsets of the two values in the body.
	start, end int
}

// Lookup returns the attachment with exactly this name. Numbers are returned in
// decimal, booleans as true or false; attachments of other types are absent. Of
// two with one name the last counts, as in Java's map. An error means that the
// body cannot be read up to its end: then no attachment is known.
func (b *Body) Lookup(name string) (value string, ok bool, err error) {
	if err := b.readAttachments(); err != nil {
		return "", false, err
	}
	for i := len(b.entries) - 1; i >= 0; i-- {
		if e := &b.entries[i]; e.name == name {
			return e.value, e.ok, nil
		}
	}
	return "", false, nil
}

// Spelling returns the nth attachment, from 0, of those whose names differ from
// the given one in the case of ASCII letters at most; false behind the last one.
// Values are as of Lookup; those that it does not return are passed over.
func (b *Body) Spelling(name string, nth int) (value string, ok bool, err error) {
	if err := b.readAttachments(); err != nil {
		return "", false, err
	}
	for i := range b.entries {
		e := &b.entries[i]
		if !e.ok || !sameLetters(e.name, name) {
			continue
		}
		if nth == 0 {
			return e.value, true, nil
		}
		nth--
	}
	return "", false, nil
}

// sameLetters compares without regard to the case of ASCII letters.
func sameLetters(a, b string) bool {
	same := len(a) == len(b)
	for i := 0; same && i < len(a); i++ {
		same = lower(a[i]) == lower(b[i])
	}
	return same
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func (b *Body) readAttachments() error {
	if b.read {
		return b.err
	}
	b.read = true
	if err := b.parse(); err != nil {
		b.err = fmt.Errorf("read attachments: %w", err)
		b.entries = b.entries[:0]
	}
	return b.err
}

func (b *Body) parse() error {
	if b.serialization == Fastjson2 && b.prefix.Generic {
		// The arguments are one value, whose length is known.
		if err := b.openArguments(); err != nil {
			return err
		}
		return b.fastjsonAttachments()
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
		return b.fastjsonAttachments()
	}
	return b.hessianMap(&b.reader)
}

// hessianMap reads the attachments: a map with or without a type, or null.
func (b *Body) hessianMap(r *hessian.Reader) error {
	rest := r.Rest()
	if len(rest) == 0 {
		return hessian.ErrMore
	}
	switch rest[0] {
	case 'N':
		b.region = region{null: true, start: r.Offset(), end: r.Offset() + 1}
		r.Advance(1)
		return nil
	case 'H':
		r.Advance(1)
	case 'M':
		r.Advance(1)
		if err := r.SkipType(); err != nil {
			return err
		}
	default:
		return errBody
	}
	b.region = region{start: r.Offset()}
	for {
		rest := r.Rest()
		if len(rest) == 0 {
			return hessian.ErrMore
		}
		if rest[0] == 'Z' {
			b.region.end = r.Offset()
			r.Advance(1)
			return nil
		}
		if err := b.hessianEntry(r); err != nil {
			return err
		}
	}
}

func (b *Body) hessianEntry(r *hessian.Reader) error {
	if len(b.entries) == MaxAttachments {
		return errAttachments
	}
	start := r.Offset()
	b.work += 2
	name, named, err := b.hessianValue(r)
	if err != nil {
		return err
	}
	value, ok, err := b.hessianValue(r)
	if err != nil {
		return err
	}
	if named {
		b.entries = append(b.entries, attachment{name: name, value: value, ok: ok, start: start, end: r.Offset()})
	}
	return nil
}

// hessianValue reads one value, and returns its text if it has one.
func (b *Body) hessianValue(r *hessian.Reader) (text string, ok bool, err error) {
	text, size, err := b.hessianScalar(r.Rest())
	if err != nil {
		return "", false, err
	}
	if size == 0 {
		return "", false, r.Skip()
	}
	r.Advance(size)
	return text, true, nil
}
