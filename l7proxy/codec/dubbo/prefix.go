package dubbo

import (
	"errors"
	"unsafe"

	"github.com/dubway/dubway/l7proxy/codec/hessian"
)

// MaxPrefix is the number of body bytes in which a prefix must end. A longer one
// is Undecodable, so that a caller never needs more of a body than this.
const MaxPrefix = 8 << 10

// Prefix is what stands at the start of a request's body. Its strings alias the
// body: they are valid only while the body's buffer is neither changed nor
// reused. Clone what must live longer.
//
// A Java provider decodes the arguments by this prefix, but then calls the
// service that the attachments "path", "version" and "group" name (seen with
// 3.3.6). Consumers send the same in both places; a policy that must hold
// against a hostile consumer compares them.
type Prefix struct {
	Dubbo   string // the consumer's protocol version, "2.0.2"
	Path    string // the interface, or the path it is exported under
	Version string // the service version; "" for null, which callbacks send
	Method  string // of a generic call the one that it names
	// Generic says that the method on the wire is $invoke or $invokeAsync and that
	// Method is its first argument.
	Generic bool
	Types   int // offset in the body of the arguments' types
	End     int // offset behind all that the fields above were read from
}

// What a consumer without the interface calls: with the method's name, the names
// of its parameters' types and the arguments (Dubbo's GenericService).
const (
	invoke        = "$invoke"
	invokeAsync   = "$invokeAsync"
	invokeArgs    = 3
	invokeHasArgs = 2 // the index of the argument that holds the arguments
)

// State tells how far ParsePrefix came.
type State uint8

// The states.
const (
	Complete State = iota
	// More says that the body ends inside the prefix: the caller gave its first
	// part only. For a whole body it means the same as Undecodable.
	More
	// Undecodable says that the body is of another serialization or is not a
	// request's, and that no further bytes change that. The frame can still be
	// forwarded; a policy that depends on names must refuse it.
	Undecodable
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case Complete:
		return "complete"
	case More:
		return "more"
	case Undecodable:
		return "undecodable"
	}
	return "unknown"
}

// ParsePrefix reads the prefix of a request's body, or of its first part,
// without allocation.
//
// It accepts one text for each name only: what Java reads as the same name
// although its bytes differ (numbers, chunked strings, overlong UTF-8,
// surrogates) is Undecodable, lest it be a way around a rule for that name. So is
// a generic call without a method's name in its first argument, or with blanks
// around it, which Java cuts off.
func ParsePrefix(serialization byte, body []byte) (p Prefix, st State) {
	var err error
	switch serialization {
	case Hessian2:
		p, err = hessianPrefix(body)
	case Fastjson2:
		p, err = fastjsonPrefix(body)
	default:
		return Prefix{}, Undecodable
	}
	switch {
	case err == nil && p.End <= MaxPrefix:
		return p, Complete
	case errors.Is(err, hessian.ErrMore) && len(body) < MaxPrefix:
		return Prefix{}, More
	}
	return Prefix{}, Undecodable
}

func hessianPrefix(body []byte) (p Prefix, err error) {
	if p.Dubbo, err = p.hessianText(body); err != nil {
		return Prefix{}, err
	}
	if p.Path, err = p.hessianText(body); err != nil {
		return Prefix{}, err
	}
	if p.End < len(body) && body[p.End] == 'N' {
		p.End++
	} else if p.Version, err = p.hessianText(body); err != nil {
		return Prefix{}, err
	}
	if p.Method, err = p.hessianText(body); err != nil {
		return Prefix{}, err
	}
	if p.Types = p.End; !isGeneric(p.Method) {
		return p, nil
	}
	args, n, err := hessianTypes(body[p.End:])
	if err != nil {
		return Prefix{}, err
	}
	p.End += n
	method, err := p.hessianText(body)
	if err != nil {
		return Prefix{}, err
	}
	return p.named(method, args)
}

func isGeneric(method string) bool { return method == invoke || method == invokeAsync }

// named is the prefix of a generic call of a method.
func (p *Prefix) named(method string, args int) (Prefix, error) {
	if args != invokeArgs || isBlank(method, 0) || isBlank(method, len(method)-1) {
		return Prefix{}, errBody
	}
	p.Method, p.Generic = method, true
	return *p, nil
}

// isBlank tells whether Java's trim would cut the byte at i off.
func isBlank(s string, i int) bool { return i >= 0 && i < len(s) && s[i] <= ' ' }

// hessianText reads the string at p.End and moves p.End behind it.
func (p *Prefix) hessianText(body []byte) (string, error) {
	text, n, err := hessian.Text(body[p.End:])
	if err != nil {
		return "", err
	}
	p.End += n
	return alias(text), nil
}

// alias returns b's bytes as a string that changes when they do.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
