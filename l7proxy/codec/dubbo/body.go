package dubbo

import (
	"errors"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/rpc"
)

var (
	_ rpc.Attachments = (*Body)(nil)
	_ rpc.Arguments   = (*Body)(nil)
)

// What is wrong with a body beyond its values; nobody branches on it.
var (
	errBody          = errors.New("the body is not a request's")
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
	prefix        codec.Prefix

	args     arguments
	read     bool // the attachments are, or err says why not
	err      error
	attached attachments.Map
	reader   hessian.Reader
	work     int // of Work, beside what the reader and attached have read
}

// Reset gives it the header and the whole body of another request, and the prefix that
// ParsePrefix read in it.
func (b *Body) Reset(h codec.Header, body []byte, p codec.Prefix) {
	b.serialization, b.body, b.prefix = h.Serialization(), body, p
	b.args.reset()
	b.read, b.err = false, nil
	b.attached.Reset(body, b.serialization == Fastjson2)
}

// Work returns how many values have been read since it was called last, for who counts
// what reading bodies costs. In fastjson2 a byte of the attachments, or of a generic
// call's arguments, counts as one.
func (b *Body) Work() (n int) {
	n, b.work = b.work+b.reader.Taken()+b.attached.Work(), 0
	return n
}
