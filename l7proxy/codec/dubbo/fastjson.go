package dubbo

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/attachments"
	"github.com/dubway/dubway/l7proxy/codec/jsonb"
)

// A fastjson2 body is a row of elements: a length of four bytes, then one JSONB
// value. Arguments are elements too, so that they are skipped by their lengths.

func fastjsonPrefix(body []byte) (p codec.Prefix, err error) {
	if p.Dubbo, err = fastjsonText(&p, body, false); err != nil {
		return codec.Prefix{}, err
	}
	if p.Path, err = fastjsonText(&p, body, false); err != nil {
		return codec.Prefix{}, err
	}
	if p.Version, err = fastjsonText(&p, body, true); err != nil {
		return codec.Prefix{}, err
	}
	if p.Method, err = fastjsonText(&p, body, false); err != nil {
		return codec.Prefix{}, err
	}
	if p.Types = p.End; !isGeneric(p.Method) {
		return p, nil
	}
	args, n, err := fastjsonTypes(body[p.End:])
	if err != nil {
		return codec.Prefix{}, err
	}
	p.End += n
	method, err := fastjsonText(&p, body, false)
	if err != nil {
		return codec.Prefix{}, err
	}
	return named(&p, method, args)
}

// fastjsonText reads the string element at p.End and moves p.End behind it.
func fastjsonText(p *codec.Prefix, body []byte, null bool) (string, error) {
	e, n, err := attachments.Element(body[p.End:])
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
