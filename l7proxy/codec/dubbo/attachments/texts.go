package attachments

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// Texts reads the values that have a text: strings, numbers and booleans. What it
// returns aliases its input, or its own buffer until the next Clear. Its zero value
// is ready; it allocates only to grow. Not safe for concurrent use.
type Texts struct{ buf []byte } // of texts that the input does not hold as such

// Clear forgets what was read.
func (t *Texts) Clear() { t.buf = t.buf[:0] }

// Hessian reads the hessian2 value at the start of p if it has a text: a string, a
// number or a boolean. Size is 0 if it has none.
func (t *Texts) Hessian(p []byte) (text string, size int, err error) {
	if len(p) == 0 {
		return "", 0, hessian.ErrMore
	}
	switch {
	case hessian.IsText(p[0]):
		return t.hessianText(p)
	case p[0] == 'T':
		return "true", 1, nil
	case p[0] == 'F':
		return "false", 1, nil
	}
	if v, n, err := hessian.Int(p); err == nil {
		return t.decimal(v), n, nil
	}
	if v, n, err := hessian.Double(p); err == nil && isFinite(v) {
		return t.fraction(v, 64), n, nil
	}
	return "", 0, nil
}

// hessianText reads a string, aliasing the body if it can.
func (t *Texts) hessianText(p []byte) (string, int, error) {
	text, n, err := hessian.Text(p)
	if errors.Is(err, hessian.ErrForm) {
		start := len(t.buf)
		t.buf, n, err = hessian.AppendText(t.buf, p)
		text = t.buf[start:]
	}
	if err != nil {
		return "", 0, err
	}
	return alias(text), n, nil
}

// JSONB is Hessian for fastjson2, where a character is a text too.
func (t *Texts) JSONB(p []byte) (text string, size int, err error) {
	if len(p) == 0 {
		return "", 0, errMap
	}
	switch {
	case p[0] == jsonb.True:
		return "true", 1, nil
	case p[0] == jsonb.False:
		return "false", 1, nil
	case jsonb.IsText(p[0]):
		return t.jsonbText(p)
	}
	if v, n, err := jsonb.Int(p); err == nil {
		return t.decimal(v), n, nil
	}
	if v, bits, n, err := jsonb.Float(p); err == nil && isFinite(v) {
		return t.fraction(v, bits), n, nil
	}
	if r, n, err := jsonb.Char(p); err == nil {
		start := len(t.buf)
		t.buf = utf8.AppendRune(t.buf, r)
		return alias(t.buf[start:]), n, nil
	}
	return "", 0, nil
}

// jsonbText reads a string, aliasing the body if it can.
func (t *Texts) jsonbText(p []byte) (string, int, error) {
	text, n, err := jsonb.Text(p)
	if errors.Is(err, jsonb.ErrForm) {
		start := len(t.buf)
		t.buf, n, err = jsonb.AppendText(t.buf, p)
		text = t.buf[start:]
	}
	if err != nil {
		return "", 0, err
	}
	return alias(text), n, nil
}

func (t *Texts) decimal(v int64) string {
	start := len(t.buf)
	t.buf = strconv.AppendInt(t.buf, v, 10)
	return alias(t.buf[start:])
}

// fraction writes the shortest decimal that reads back as v, without an exponent:
// a double that is whole is written as a whole number.
func (t *Texts) fraction(v float64, bits int) string {
	start := len(t.buf)
	t.buf = strconv.AppendFloat(t.buf, v+0, 'f', -1, bits) // -0 is 0
	return alias(t.buf[start:])
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// alias returns b's bytes as a string that changes when they do.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
