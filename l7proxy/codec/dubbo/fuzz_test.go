package dubbo

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unicode/utf8"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// FuzzHeader: a header that is accepted is written again as the same bytes.
func FuzzHeader(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.frame[:min(HeaderLen, len(g.frame))])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if h != (codec.Header{}) {
				t.Fatalf("%+v beside %v", h, err)
			}
			return
		}
		again := appendHeader(nil, h.Flags, h.Status, 0)
		PutID(again, h.ID)
		binary.BigEndian.PutUint32(again[12:], uint32(h.Body))
		if h.Body < 0 || !bytes.Equal(again, b[:HeaderLen]) {
			t.Fatalf("% x is written as % x", b[:HeaderLen], again)
		}
	})
}

// FuzzFrame: whatever the body is, the prefix, the attachments and the kind of
// an answer are read without a panic; a prefix does not depend on what follows
// it; and what is incomplete stays inside MaxPrefix.
func FuzzFrame(f *testing.F) {
	for _, g := range goldens(f) {
		if h, err := ParseHeader(g.frame); err == nil {
			f.Add(h.Flags, h.Status, g.frame[HeaderLen:])
		}
	}
	var a Body
	f.Fuzz(func(t *testing.T, flags, status byte, body []byte) {
		h := codec.Header{Flags: flags, Status: status, Body: len(body)}
		if k := AnswerKind(h, body); k != rpc.ResultValue && k != rpc.ResultException && k != rpc.ResultError {
			t.Fatalf("an answer of kind %v", k)
		}
		if class := ExceptionClass(h.Serialization(), body); len(class) > MaxClass || !utf8.ValidString(class) {
			t.Fatalf("a class %q", class)
		}
		if IsReadOnly(h, body) && len(body) < 2 {
			t.Fatal("READONLY without its letter")
		}
		if NotExported(h, body, "x") && AnswerKind(h, body) == rpc.ResultValue {
			t.Fatal("a value of an interface that is not exported")
		}
		p, st := ParsePrefix(h.Serialization(), body)
		if st != codec.Complete {
			if p != (codec.Prefix{}) || st == codec.More && len(body) >= MaxPrefix {
				t.Fatalf("%v with %d bytes: %+v", st, len(body), p)
			}
			return
		}
		if p.End < 1 || p.End > len(body) {
			t.Fatalf("prefix ends at %d of %d", p.End, len(body))
		}
		if q, st := ParsePrefix(h.Serialization(), body[:p.End:p.End]); st != codec.Complete || q != p {
			t.Fatalf("what follows matters: %v %+v, not %+v", st, q, p)
		}
		if _, st := ParsePrefix(h.Serialization(), body[:p.End-1]); st != codec.More {
			t.Fatalf("without its last byte: %v", st)
		}
		if p.Types > p.End || p.Generic == (p.Types == p.End) {
			t.Fatalf("the types are at %d, the prefix ends at %d", p.Types, p.End)
		}
		a.Reset(h, body, p)
		checkArguments(t, &a)
		checkAttachments(t, &a)
	})
}

// checkArguments: the text of an argument depends neither on what was asked
// before nor on the attachments, which are the same before and after it.
func checkArguments(t *testing.T, b *Body) {
	t.Helper()
	var late Body
	late.Reset(codec.Header{Flags: b.serialization}, b.body, b.prefix)
	_, _, lateErr := late.Lookup("")
	for _, i := range []int{1, 0, 2, MaxArguments - 1, MaxArguments, -1} {
		text, ok, err := b.Argument(i)
		again, okAgain, errAgain := late.Argument(i)
		if text != again || ok != okAgain || (err == nil) != (errAgain == nil) || ok && err != nil {
			t.Fatalf("argument %d: %q, %v, %v; after the attachments %q, %v, %v", i, text, ok, err, again, okAgain, errAgain)
		}
	}
	if _, _, err := b.Lookup(""); (err == nil) != (lateErr == nil) || b.attached.Len() != late.attached.Len() {
		t.Fatalf("%d attachments, %v; before the arguments %d, %v", b.attached.Len(), err, late.attached.Len(), lateErr)
	}
}

// checkAttachments: every attachment is found by its name, and a second reading
// of the same body finds the same.
func checkAttachments(t *testing.T, a *Body) {
	t.Helper()
	if _, _, err := a.Lookup(""); err != nil {
		if n := a.attached.Len(); n != 0 {
			t.Fatalf("%d attachments beside %v", n, err)
		}
		return
	}
	var fresh Body
	fresh.Reset(codec.Header{Flags: a.serialization}, a.body, a.prefix)
	for i := range a.attached.Len() {
		name, _, _ := a.attached.At(i)
		value, ok, err := a.Lookup(name)
		again, okAgain, errAgain := fresh.Lookup(name)
		if err != nil || errAgain != nil || value != again || ok != okAgain {
			t.Fatalf("%q: %q, %v, %v; then %q, %v, %v", name, value, ok, err, again, okAgain, errAgain)
		}
		if !ok {
			continue
		}
		found := false
		for nth := 0; !found; nth++ {
			spelled, more, err := a.Spelling(name, nth)
			if err != nil || !more {
				t.Fatalf("%q is not among its spellings: %v", name, err)
			}
			found = spelled == value
		}
	}
}
