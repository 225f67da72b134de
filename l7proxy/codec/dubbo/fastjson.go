package dubbo

import (
	"encoding/binary"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// A fastjson2 body is a row of elements: a length of four bytes, then one JSONB
// value. Arguments are elements too, so that they are skipped by their lengths.

func fastjsonPrefix(body []byte) (p Prefix, err error) {
	if p.Dubbo, err = p.fastjsonText(body, false); err != nil {
		return Prefix{}, err
	}
	if p.Path, err = p.fastjsonText(body, false); err != nil {
		return Prefix{}, err
	}
	if p.Version, err = p.fastjsonText(body, true); err != nil {
		return Prefix{}, err
	}
	if p.Method, err = p.fastjsonText(body, false); err != nil {
		return Prefix{}, err
	}
	if p.Types = p.End; !isGeneric(p.Method) {
		return p, nil
	}
	args, n, err := fastjsonTypes(body[p.End:])
	if err != nil {
		return Prefix{}, err
	}
	p.End += n
	method, err := p.fastjsonText(body, false)
	if err != nil {
		return Prefix{}, err
	}
	return p.named(method, args)
}

// fastjsonText reads the string element at p.End and moves p.End behind it.
func (p *Prefix) fastjsonText(body []byte, null bool) (string, error) {
	e, n, err := element(body[p.End:])
	if err != nil {
		return "", err
	}
	p.End += n
	if null && len(e) == 1 && e[0] == jsonb.Null {
		return "", nil
	}
	text, n, err := jsonb.Text(e)
	if err != nil {
		return "", err
	}
	if n != len(e) {
		return "", errBody
	}
	return alias(text), nil
}

// element returns the JSONB value of the element at the start of b, and the
// element's size. It is hessian.ErrMore if b ends inside it.
func element(b []byte) (value []byte, size int, err error) {
	if len(b) < 4 {
		return nil, 0, hessian.ErrMore
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	if n < 0 {
		return nil, 0, errBody
	}
	if len(b)-4 < n {
		return nil, 0, hessian.ErrMore
	}
	return b[4 : 4+n], 4 + n, nil
}

// fastjsonAttachments reads the last element.
func (b *Body) fastjsonAttachments() error {
	at := b.args.pos
	if b.prefix.Generic {
		at = b.args.end
	}
	e, size, err := element(b.body[at:])
	if err != nil {
		return err
	}
	b.region, b.work = region{start: at + size - len(e), element: at, elementSize: size}, b.work+size
	return b.fastjsonMap(e)
}

// fastjsonMap reads an object, with or without a type, or null.
func (b *Body) fastjsonMap(p []byte) error {
	if len(p) == 1 && p[0] == jsonb.Null {
		b.region.null, b.region.end = true, b.region.start+1
		return nil
	}
	end := b.region.start + len(p)
	n, err := jsonb.SkipType(p)
	if err != nil {
		return err
	}
	if p = p[n:]; len(p) == 0 || p[0] != jsonb.Object {
		return errBody
	}
	p = p[1:]
	b.region.start, b.region.end = end-len(p), end-1
	for len(p) > 0 && p[0] != jsonb.ObjectEnd {
		start := end - len(p)
		if len(b.entries) == MaxAttachments {
			return errAttachments
		}
		name, named, n, err := b.fastjsonValue(p)
		if err != nil {
			return err
		}
		value, ok, m, err := b.fastjsonValue(p[n:])
		if err != nil {
			return err
		}
		p = p[n+m:]
		if named {
			b.entries = append(b.entries, attachment{name: name, value: value, ok: ok, start: start, end: end - len(p)})
		}
	}
	if len(p) != 1 {
		return errBody
	}
	return nil
}

// fastjsonValue reads the value at the start of p and returns its size, and its
// text if it has one.
func (b *Body) fastjsonValue(p []byte) (text string, ok bool, size int, err error) {
	text, size, err = b.fastjsonScalar(p)
	if err != nil || size > 0 {
		return text, true, size, err
	}
	size, err = jsonb.Skip(p)
	return "", false, size, err
}
