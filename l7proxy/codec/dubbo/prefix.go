package dubbo

import (
	"errors"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/hessian"
)

// MaxPrefix is the number of body bytes in which a prefix must end. A longer one
// is Undecodable, so that a caller never needs more of a body than this.
const MaxPrefix = 8 << 10

// What a consumer without the interface calls: with the method's name, the names
// of its parameters' types and the arguments (Dubbo's GenericService).
const (
	invoke        = "$invoke"
	invokeAsync   = "$invokeAsync"
	invokeArgs    = 3
	invokeHasArgs = 2 // the index of the argument that holds the arguments
)

// ParsePrefix reads the prefix of a request's body, or of its first part,
// without allocation.
//
// It accepts one text for each name only: what Java reads as the same name
// although its bytes differ (numbers, chunked strings, overlong UTF-8,
// surrogates) is Undecodable, lest it be a way around a rule for that name. So is
// a generic call without a method's name in its first argument, or with blanks
// around it, which Java cuts off.
func ParsePrefix(serialization byte, body []byte) (p codec.Prefix, st codec.State) {
	var err error
	switch serialization {
	case Hessian2:
		p, err = hessianPrefix(body)
	case Fastjson2:
		p, err = fastjsonPrefix(body)
	default:
		return codec.Prefix{}, codec.Undecodable
	}
	switch {
	case err == nil && p.End <= MaxPrefix:
		return p, codec.Complete
	case errors.Is(err, hessian.ErrMore) && len(body) < MaxPrefix:
		return codec.Prefix{}, codec.More
	}
	return codec.Prefix{}, codec.Undecodable
}

func hessianPrefix(body []byte) (p codec.Prefix, err error) {
	if p.Dubbo, err = hessianText(&p, body); err != nil {
		return codec.Prefix{}, err
	}
	if p.Path, err = hessianText(&p, body); err != nil {
		return codec.Prefix{}, err
	}
	if p.End < len(body) && body[p.End] == 'N' {
		p.End++
	} else if p.Version, err = hessianText(&p, body); err != nil {
		return codec.Prefix{}, err
	}
	if p.Method, err = hessianText(&p, body); err != nil {
		return codec.Prefix{}, err
	}
	if p.Types = p.End; !isGeneric(p.Method) {
		return p, nil
	}
	args, n, err := hessianTypes(body[p.End:])
	if err != nil {
		return codec.Prefix{}, err
	}
	p.End += n
	method, err := hessianText(&p, body)
	if err != nil {
		return codec.Prefix{}, err
	}
	return named(&p, method, args)
}

func isGeneric(method string) bool { return method == invoke || method == invokeAsync }

// named is the prefix of a generic call of a method.
func named(p *codec.Prefix, method string, args int) (codec.Prefix, error) {
	if args != invokeArgs || isBlank(method, 0) || isBlank(method, len(method)-1) {
		return codec.Prefix{}, errBody
	}
	p.Method, p.Generic = method, true
	return *p, nil
}

// isBlank tells whether Java's trim would cut the byte at i off.
func isBlank(s string, i int) bool { return i >= 0 && i < len(s) && s[i] <= ' ' }

// hessianText reads the string at p.End and moves p.End behind it.
func hessianText(p *codec.Prefix, body []byte) (string, error) {
	text, n, err := hessian.Text(body[p.End:])
	if err != nil {
		return "", err
	}
	p.End += n
	return alias(text), nil
}

// alias returns b's bytes as a string that changes when they do.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
