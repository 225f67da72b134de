package dubbo

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
	"github.com/dubway/dubway/l7proxy/rpc"
)

var (
	_ rpc.Attachments = (*Body)(nil)
	_ rpc.Arguments   = (*Body)(nil)
)

// What is wrong with a body beyond its values; nobody branches on it.
var (
	errBody          = errors.New("the body is not a request's")
	errAttachments   = errors.New("more than 1024 attachments")
	errSerialization = errors.New("the serialization is not read")
)

// Body reads what stands behind the prefix of a request: its arguments, and
// behind them its attachments. It reads no further than it is asked, and nothing
// twice. What it returns aliases the body or its own buffer and is valid until
// the body's buffer is changed or the next Reset. Keep one per connection: it
// then allocates only to grow. Not safe for concurrent use.
type Body struct {
	serialization byte
	body          []byte
	prefix        Prefix

	args    arguments
	read    bool // the attachments are, or err says why not
	err     error
	entries []attachment
	region  region // of the entries
	buf     []byte // texts that the body does not hold as such
	reader  hessian.Reader
	work    int // of Work, beside what the reader has read
}

// Reset gives it the whole body of another request, and the prefix that
// ParsePrefix read in it.
func (b *Body) Reset(serialization byte, body []byte, p Prefix) {
	b.serialization, b.body, b.prefix = serialization, body, p
	b.args.reset()
	b.read, b.err = false, nil
	b.entries, b.buf = b.entries[:0], b.buf[:0]
}

// hessianScalar reads the value at the start of p if it has a text: a string, a
// number or a boolean. Size is 0 if it has none.
func (b *Body) hessianScalar(p []byte) (text string, size int, err error) {
	if len(p) == 0 {
		return "", 0, hessian.ErrMore
	}
	switch {
	case hessian.IsText(p[0]):
		return b.hessianText(p)
	case p[0] == 'T':
		return "true", 1, nil
	case p[0] == 'F':
		return "false", 1, nil
	}
	if v, n, err := hessian.Int(p); err == nil {
		return b.decimal(v), n, nil
	}
	if v, n, err := hessian.Double(p); err == nil && isFinite(v) {
		return b.fraction(v, 64), n, nil
	}
	return "", 0, nil
}

// hessianText reads a string, aliasing the body if it can.
func (b *Body) hessianText(p []byte) (string, int, error) {
	text, n, err := hessian.Text(p)
	if errors.Is(err, hessian.ErrForm) {
		start := len(b.buf)
		b.buf, n, err = hessian.AppendText(b.buf, p)
		text = b.buf[start:]
	}
	if err != nil {
		return "", 0, err
	}
	return alias(text), n, nil
}

// fastjsonScalar is hessianScalar for JSONB, where a character is one too.
func (b *Body) fastjsonScalar(p []byte) (text string, size int, err error) {
	if len(p) == 0 {
		return "", 0, errBody
	}
	switch {
	case p[0] == jsonb.True:
		return "true", 1, nil
	case p[0] == jsonb.False:
		return "false", 1, nil
	case jsonb.IsText(p[0]):
		return b.fastjsonText(p)
	}
	if v, n, err := jsonb.Int(p); err == nil {
		return b.decimal(v), n, nil
	}
	if v, bits, n, err := jsonb.Float(p); err == nil && isFinite(v) {
		return b.fraction(v, bits), n, nil
	}
	if r, n, err := jsonb.Char(p); err == nil {
		start := len(b.buf)
		b.buf = utf8.AppendRune(b.buf, r)
		return alias(b.buf[start:]), n, nil
	}
	return "", 0, nil
}

// fastjsonText reads a string, aliasing the body if it can.
func (b *Body) fastjsonText(p []byte) (string, int, error) {
	text, n, err := jsonb.Text(p)
	if errors.Is(err, jsonb.ErrForm) {
		start := len(b.buf)
		b.buf, n, err = jsonb.AppendText(b.buf, p)
		text = b.buf[start:]
	}
	if err != nil {
		return "", 0, err
	}
	return alias(text), n, nil
}

func (b *Body) decimal(v int64) string {
	start := len(b.buf)
	b.buf = strconv.AppendInt(b.buf, v, 10)
	return alias(b.buf[start:])
}

// fraction writes the shortest decimal that reads back as v, without an exponent:
// a double that is whole is written as a whole number.
func (b *Body) fraction(v float64, bits int) string {
	start := len(b.buf)
	b.buf = strconv.AppendFloat(b.buf, v+0, 'f', -1, bits) // -0 is 0
	return alias(b.buf[start:])
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Work returns how many values have been read since it was called last, for who counts
// what reading bodies costs. In fastjson2 a byte of the attachments, or of a generic
// call's arguments, counts as one.
func (b *Body) Work() (n int) {
	n, b.work = b.work+b.reader.Taken(), 0
	return n
}
