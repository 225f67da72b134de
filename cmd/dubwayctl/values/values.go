// Package values shows what Dubbo calls carry: arguments, attachments, answers
// and exceptions, as JSON for people. It runs in the operator's process and never
// in the proxy: it decodes what pods sent, with a decoder that panics on some of
// it.
//
// Everything is bounded. Before a byte is decoded, the proxy's own reader has
// walked the whole body: what is deeper, longer or other than it says is not
// decoded. Decoding is given a second, and what is shown has limits of its own,
// since a few bytes of references can mean a forest.
package values

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	decoder "github.com/apache/dubbo-go-hessian2"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/telemetry/accesslog"
)

// patience is how long one body may take unless told otherwise.
const patience = time.Second

// maxArguments is how many values of one body are decoded.
const maxArguments = 256

// errSlow says that decoding was given up. What runs still runs, so nothing more
// is decoded by this process.
var errSlow = errors.New("decoding took too long; no more bodies are decoded")

// Request is what a request says behind the method's name.
type Request struct {
	Arguments   []any `json:"arguments"`
	Attachments any   `json:"attachments,omitempty"`
}

// Answer is what an answer says: one of the three, and attachments.
type Answer struct {
	Value       any `json:"value,omitempty"`
	Exception   any `json:"exception,omitempty"`
	Error       any `json:"error,omitempty"` // the text of a status other than OK
	Attachments any `json:"attachments,omitempty"`
}

// Decoder decodes bodies, one at a time. The zero Decoder is ready. Not safe for
// concurrent use.
type Decoder struct {
	// Patience is how long one body may take; 0 means a second.
	Patience time.Duration

	stuck bool
	skip  hessian.Reader
}

// Request decodes a request's body. An error says why it is not decoded.
func (d *Decoder) Request(body *admin.TapBody) (*Request, error) {
	if err := d.readable(body); err != nil {
		return nil, err
	}
	prefix, state := dubbo.ParsePrefix(dubbo.Hessian2, body.Data)
	if state != codec.Complete {
		return nil, fmt.Errorf("decode request: its beginning is %s", state)
	}
	// Types' descriptors, arguments, attachments. Dubbox writes a number first.
	all, err := d.decode(body.Data[prefix.Types:])
	if err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if len(all) > 0 {
		if _, number := all[0].(int32); number {
			all = all[1:]
		}
	}
	if len(all) < 2 {
		return nil, errors.New("decode request: it ends before its attachments")
	}
	shown := newShower()
	r := &Request{Arguments: []any{}, Attachments: shown.value(all[len(all)-1])}
	for _, argument := range all[1 : len(all)-1] {
		r.Arguments = append(r.Arguments, shown.value(argument))
	}
	return r, nil
}

// Answer decodes an answer's body. An error says why it is not decoded.
func (d *Decoder) Answer(body *admin.TapBody, status uint8) (*Answer, error) {
	if err := d.readable(body); err != nil {
		return nil, err
	}
	all, err := d.decode(body.Data)
	if err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	if len(all) == 0 {
		return nil, errors.New("decode answer: it is empty")
	}
	shown := newShower()
	if status != dubbo.StatusOK {
		return &Answer{Error: shown.value(all[0])}, nil
	}
	kind, ok := all[0].(int32)
	if !ok || kind < 0 || kind > 5 {
		// Never print what was decoded: it may hold itself.
		return nil, errors.New("decode answer: there is no kind of answer at its beginning")
	}
	rest := all[1:]
	a := &Answer{}
	if kind%3 != 2 { // DubboCodec: 2 and 5 are null
		if len(rest) == 0 {
			return nil, errors.New("decode answer: it has no value")
		}
		if v := shown.value(rest[0]); kind%3 == 0 {
			a.Exception = v
		} else {
			a.Value = v
		}
		rest = rest[1:]
	}
	if kind >= 3 && len(rest) > 0 {
		a.Attachments = shown.value(rest[0])
	}
	return a, nil
}

// readable tells why a body is not decoded.
func (d *Decoder) readable(body *admin.TapBody) error {
	switch {
	case d.stuck:
		return errSlow
	case body == nil:
		return errors.New("there is no body")
	case body.Serialization != dubbo.Hessian2:
		name := accesslog.SerializationName(body.Serialization)
		return fmt.Errorf("%s (id %d) is not decoded, hessian2 alone is", name, body.Serialization)
	case len(body.Data) < body.Size:
		return fmt.Errorf("the first %d of %d bytes were kept", len(body.Data), body.Size)
	}
	return nil
}

// decode returns all values of a body.
func (d *Decoder) decode(b []byte) ([]any, error) {
	n, err := d.count(b)
	if err != nil {
		return nil, err
	}
	type result struct {
		values []any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		values, err := values(b, n)
		done <- result{values, err}
	}()
	select {
	case r := <-done:
		return r.values, r.err
	case <-time.After(cmp.Or(d.Patience, patience)):
		d.stuck = true
		return nil, errSlow
	}
}

// count walks the body and returns the number of its values: what the decoder
// allocates is then bounded by what is there.
func (d *Decoder) count(b []byte) (n int, err error) {
	d.skip.Reset(b)
	for len(d.skip.Rest()) > 0 {
		if n == maxArguments {
			return 0, fmt.Errorf("more than %d values", maxArguments)
		}
		if err := d.skip.Skip(); err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// values decodes n values that share references and classes. The decoder panics
// on some classes that it does not know.
func values(b []byte, n int) (all []any, err error) {
	defer func() {
		if r := recover(); r != nil {
			all, err = nil, fmt.Errorf("the decoder cannot read it: %v", r)
		}
	}()
	d := decoder.NewDecoder(b)
	for range n {
		v, err := d.Decode()
		if err != nil {
			return nil, fmt.Errorf("the decoder cannot read it: %w", err)
		}
		all = append(all, v)
	}
	return all, nil
}
