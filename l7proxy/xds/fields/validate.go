package fields

import (
	"errors"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Validated is what all generated messages of Envoy's API are.
type Validated interface {
	proto.Message
	ValidateAll() error
}

// Examine returns the problems that need no conversion to be seen: fields that
// are not implemented, and values that Envoy's own rules refuse.
func Examine(m Validated) Problems {
	p := Check(m)
	p.Validate("", m)
	return p
}

// Validate adds what Envoy's rules say of m, which is at path.
func (p *Problems) Validate(path string, m Validated) {
	if err := m.ValidateAll(); err != nil {
		p.flatten(path, err)
	}
}

// flatten turns the nested errors of the generated validators into paths.
func (p *Problems) flatten(path string, err error) {
	var all interface{ AllErrors() []error }
	if errors.As(err, &all) {
		for _, e := range all.AllErrors() {
			p.flatten(path, e)
		}
		return
	}
	var one interface {
		Field() string
		Reason() string
		Cause() error
	}
	if !errors.As(err, &one) {
		p.Addf(path, "%v", err)
		return
	}
	at := snake(one.Field())
	if path != "" {
		at = path + "." + at
	}
	if cause := one.Cause(); cause != nil {
		p.flatten(at, cause)
		return
	}
	p.Addf(at, "%s", one.Reason())
}

// snake turns the validators' Go names into proto names.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && name[i-1] != '_' {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Unpack reads an extension's configuration into m, and validates it; false if a
// problem was added.
func (p *Problems) Unpack(path string, config *anypb.Any, m Validated) bool {
	before := len(*p)
	if !config.MessageIs(m) {
		p.Addf(path, "not implemented: %s inside another message", m.ProtoReflect().Descriptor().FullName())
		return false
	}
	if err := config.UnmarshalTo(m); err != nil {
		p.Addf(path, "%v", err)
		return false
	}
	p.Validate(path, m)
	return len(*p) == before
}
