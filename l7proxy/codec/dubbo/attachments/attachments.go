// Package attachments reads the attachments of one body, a map of hessian2 or of
// fastjson2 that stands behind arguments or behind a value, and writes the body anew
// with changes made to them. Where they begin is its caller's to know: package dubbo
// skips what is before them.
package attachments

import (
	"encoding/binary"
	"errors"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// Max is the number of attachments that are read of one body.
const Max = 1024

// What is wrong with them beyond their values; nobody branches on it.
var (
	errMap  = errors.New("the attachments are no map")
	errMany = errors.New("more than 1024 attachments")
)

// Map is the attachments of one body. What it returns aliases the body or its own
// buffer, and is valid until the body's buffer is changed or the next Reset. Its zero
// value has none; it allocates only to grow. Not safe for concurrent use.
type Map struct {
	Texts

	body    []byte
	jsonb   bool
	entries []entry
	region  region
	work    int // of Work
}

type entry struct {
	name  string
	value string
	ok    bool // the value is a string, a number or a boolean
	// Offsets of the two values in the body.
	start, end int
}

// region is where a body has its attachments: entries between two offsets, or null,
// or nothing yet.
type region struct {
	null        bool
	none        bool
	start, end  int // null: of the null; none: where they would be; else of the entries, end being that of the end mark
	element     int // fastjson2: offset of the element
	elementSize int // with its length; 0: there is none
}

// Reset forgets what was read. The map to be read next stands in body, of fastjson2 or
// else of hessian2.
func (m *Map) Reset(body []byte, fastjson bool) {
	m.Clear()
	m.body, m.jsonb, m.entries, m.region = body, fastjson, m.entries[:0], region{}
}

// Drop forgets what was read before an error.
func (m *Map) Drop() { m.entries = m.entries[:0] }

// None says that the body has no attachments, and that they would stand at an offset.
func (m *Map) None(at int) { m.region = region{none: true, start: at, end: at, element: at} }

// Len is the number of attachments, those of one name each.
func (m *Map) Len() int { return len(m.entries) }

// At returns the attachment of an index. Ok is false if its value is no text, number
// or boolean.
func (m *Map) At(i int) (name, value string, ok bool) {
	e := &m.entries[i]
	return e.name, e.value, e.ok
}

// Lookup returns the attachment with exactly this name. Numbers are returned in
// decimal, booleans as true or false; attachments of other types are absent. Of two
// with one name the last counts, as in Java's map.
func (m *Map) Lookup(name string) (value string, ok bool) {
	for i := len(m.entries) - 1; i >= 0; i-- {
		if e := &m.entries[i]; e.name == name {
			return e.value, e.ok
		}
	}
	return "", false
}

// Spelling returns the nth attachment, from 0, of those whose names differ from the
// given one in the case of ASCII letters at most; false behind the last one. Values
// are as of Lookup; those that it does not return are passed over.
func (m *Map) Spelling(name string, nth int) (value string, ok bool) {
	for i := range m.entries {
		e := &m.entries[i]
		if !e.ok || !sameLetters(e.name, name) {
			continue
		}
		if nth == 0 {
			return e.value, true
		}
		nth--
	}
	return "", false
}

// Work returns how many values have been read since it was called last; in fastjson2 a
// byte counts as one.
func (m *Map) Work() (n int) {
	n, m.work = m.work, 0
	return n
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

// ReadHessian reads the map that is next for a reader of the body: with or without a
// type, or null.
func (m *Map) ReadHessian(r *hessian.Reader) error {
	rest := r.Rest()
	if len(rest) == 0 {
		return hessian.ErrMore
	}
	switch rest[0] {
	case 'N':
		m.region = region{null: true, start: r.Offset(), end: r.Offset() + 1}
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
		return errMap
	}
	m.region = region{start: r.Offset()}
	for {
		rest := r.Rest()
		if len(rest) == 0 {
			return hessian.ErrMore
		}
		if rest[0] == 'Z' {
			m.region.end = r.Offset()
			r.Advance(1)
			return nil
		}
		if err := m.hessianEntry(r); err != nil {
			return err
		}
	}
}

func (m *Map) hessianEntry(r *hessian.Reader) error {
	if len(m.entries) == Max {
		return errMany
	}
	start := r.Offset()
	m.work += 2
	name, named, err := m.hessianValue(r)
	if err != nil {
		return err
	}
	value, ok, err := m.hessianValue(r)
	if err != nil {
		return err
	}
	if named {
		m.entries = append(m.entries, entry{name: name, value: value, ok: ok, start: start, end: r.Offset()})
	}
	return nil
}

// hessianValue reads one value, and returns its text if it has one.
func (m *Map) hessianValue(r *hessian.Reader) (text string, ok bool, err error) {
	text, size, err := m.Hessian(r.Rest())
	if err != nil {
		return "", false, err
	}
	if size == 0 {
		return "", false, r.Skip()
	}
	r.Advance(size)
	return text, true, nil
}

// Element returns the JSONB value of the element of fastjson2 at the start of b, which
// has its length before it, and the element's size. It is hessian.ErrMore if b ends
// inside it.
func Element(b []byte) (value []byte, size int, err error) {
	if len(b) < 4 {
		return nil, 0, hessian.ErrMore
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	if n < 0 {
		return nil, 0, errMap
	}
	if len(b)-4 < n {
		return nil, 0, hessian.ErrMore
	}
	return b[4 : 4+n], 4 + n, nil
}

// ReadElement reads the element at an offset of the body: an object, with or without a
// type, or null.
func (m *Map) ReadElement(at int) error {
	e, size, err := Element(m.body[at:])
	if err != nil {
		return err
	}
	m.region, m.work = region{start: at + size - len(e), element: at, elementSize: size}, m.work+size
	return m.object(e)
}

// object reads what is in the element.
func (m *Map) object(p []byte) error {
	if len(p) == 1 && p[0] == jsonb.Null {
		m.region.null, m.region.end = true, m.region.start+1
		return nil
	}
	end := m.region.start + len(p)
	n, err := jsonb.SkipType(p)
	if err != nil {
		return err
	}
	if p = p[n:]; len(p) == 0 || p[0] != jsonb.Object {
		return errMap
	}
	p = p[1:]
	m.region.start, m.region.end = end-len(p), end-1
	for len(p) > 0 && p[0] != jsonb.ObjectEnd {
		start := end - len(p)
		if len(m.entries) == Max {
			return errMany
		}
		name, named, n, err := m.jsonbValue(p)
		if err != nil {
			return err
		}
		value, ok, k, err := m.jsonbValue(p[n:])
		if err != nil {
			return err
		}
		p = p[n+k:]
		if named {
			m.entries = append(m.entries, entry{name: name, value: value, ok: ok, start: start, end: end - len(p)})
		}
	}
	if len(p) != 1 {
		return errMap
	}
	return nil
}

// jsonbValue reads the value at the start of p and returns its size, and its text if it
// has one.
func (m *Map) jsonbValue(p []byte) (text string, ok bool, size int, err error) {
	text, size, err = m.JSONB(p)
	if err != nil || size > 0 {
		return text, true, size, err
	}
	size, err = jsonb.Skip(p)
	return "", false, size, err
}
