package trace

import (
	"encoding/hex"
	"iter"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// The names of attachments that carry a trace's context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
	b3          = "b3"
)

// b3Names are those of B3's four attachments, as Brave writes them and in lower case.
type b3Names struct{ trace, span, parent, sampled, flags string }

var b3Spellings = [...]b3Names{
	{"X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"},
	{"x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"},
}

// origin is what a request says of the trace that it is part of.
type origin struct {
	trace   [16]byte // zero: none
	span    [8]byte
	decided bool // somebody has decided whether it is sampled
	sampled bool
}

// valid tells whether there is a trace to be part of.
func (o *origin) valid() bool { return o.trace != [16]byte{} && o.span != [8]byte{} }

// read finds the origin of a request: in traceparent (W3C), or in b3 or X-B3-*. What is
// malformed is not there, as W3C says. It allocates nothing. An error means that the
// request's attachments cannot be read.
func read(a rpc.Attachments) (o origin, err error) {
	text, ok, err := a.Lookup(traceparent)
	if err != nil {
		return o, err
	}
	if ok && o.w3c(text) {
		return o, nil
	}
	if text, ok, _ = a.Lookup(b3); ok && o.single(text) {
		return o, nil
	}
	o.multiple(a)
	return o, nil
}

// w3c reads a traceparent of any version: what a later one adds stands behind.
func (o *origin) w3c(text string) bool {
	const length = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")
	if len(text) < length || text[2] != '-' || text[35] != '-' || text[52] != '-' || text[:2] == "ff" ||
		len(text) > length && (text[:2] == "00" || text[length] != '-') {
		return false
	}
	var got origin
	var version, flags [1]byte
	if !lower(version[:], text[:2]) || !lower(got.trace[:], text[3:35]) || !lower(got.span[:], text[36:52]) ||
		!lower(flags[:], text[53:55]) || !got.valid() {
		return false
	}
	got.decided, got.sampled = true, flags[0]&1 != 0
	*o = got
	return true
}

// single reads B3's one header: trace-span, trace-span-sampled, trace-span-sampled-parent,
// or sampled alone.
func (o *origin) single(text string) bool {
	var got origin
	at := 0
	for len(text) > at && text[at] != '-' {
		at++
	}
	if at == len(text) {
		if !got.decide(text) {
			return false
		}
		*o = got
		return true
	}
	trace, rest := text[:at], text[at+1:]
	if len(rest) < 16 || !got.ids(trace, rest[:16]) {
		return false
	}
	if rest = rest[16:]; len(rest) > 1 && rest[0] == '-' {
		got.decide(rest[1:2])
	}
	*o = got
	return true
}

// multiple reads B3's four headers, of which the decision may stand alone.
func (o *origin) multiple(a rpc.Attachments) {
	spelt := func(name string) string {
		text, _, _ := a.Spelling(name, 0)
		return text
	}
	names := &b3Spellings[1]
	trace := spelt(names.trace)
	if trace != "" && !o.ids(trace, spelt(names.span)) {
		return
	}
	if spelt(names.flags) == "1" { // debug
		o.decided, o.sampled = true, true
		return
	}
	o.decide(spelt(names.sampled))
}

func (o *origin) ids(trace, span string) bool {
	var got origin
	at := 0
	if len(trace) == 16 { // of 64 bits
		at = 8
	}
	if !anyCase(got.trace[at:], trace) || !anyCase(got.span[:], span) || !got.valid() {
		return false
	}
	o.trace, o.span = got.trace, got.span
	return true
}

func (o *origin) decide(text string) bool {
	switch text {
	case "1", "d", "true":
		o.decided, o.sampled = true, true
	case "0", "false":
		o.decided, o.sampled = true, false
	default:
		return false
	}
	return true
}

// lower decodes lower-case hexadecimals that fill b.
func lower(b []byte, text string) bool {
	for i := range len(text) {
		if 'A' <= text[i] && text[i] <= 'F' {
			return false
		}
	}
	return anyCase(b, text)
}

// anyCase decodes hexadecimals that fill b.
func anyCase(b []byte, text string) bool {
	if len(text) != 2*len(b) {
		return false
	}
	for i := range b {
		high, low := digit(text[2*i]), digit(text[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		b[i] = high<<4 | low
	}
	return true
}

// digit is the value of a hexadecimal; more than 15 if it is none.
func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// carried are the forms, beside traceparent, in which a request says its context: each is
// told of the new one, since nobody knows which its provider reads.
type carried struct {
	single   bool
	multiple *b3Names // nil: it does not
}

// forms finds them.
func forms(a rpc.Attachments) (c carried) {
	_, c.single, _ = a.Lookup(b3)
	for i := range b3Spellings {
		names := &b3Spellings[i]
		for _, name := range [...]string{names.trace, names.sampled, names.flags} {
			if _, ok, _ := a.Lookup(name); ok {
				c.multiple = names
				return c
			}
		}
	}
	return c
}

// Context is part of rpc.Span. Tracestate is passed on as it came.
func (s *span) Context() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if s.config.Silent {
			return
		}
		trace, id := hex.EncodeToString(s.trace[:]), hex.EncodeToString(s.id[:])
		if !yield(traceparent, "00-"+trace+"-"+id+"-01") {
			return
		}
		if s.carried.single && !yield(b3, trace+"-"+id+"-1") {
			return
		}
		names := s.carried.multiple
		if names == nil || !yield(names.trace, trace) || !yield(names.span, id) || !yield(names.sampled, "1") {
			return
		}
		if s.parent != [8]byte{} {
			yield(names.parent, hex.EncodeToString(s.parent[:]))
		}
	}
}
