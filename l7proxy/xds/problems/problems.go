// Package problems is what is wrong with one resource, each thing by the path of its
// field, and Envoy's own rules for what a field may hold. What is implemented is told by
// package fields.
package problems

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Problem is one thing that is wrong with a resource.
type Problem struct {
	Field  string `json:"field"`  // path in proto names: virtual_hosts[0].routes[2].route.timeout
	Reason string `json:"reason"` // why
}

// Error returns "field: reason".
func (p Problem) Error() string {
	if p.Field == "" {
		return p.Reason
	}
	return p.Field + ": " + p.Reason
}

// List collects what is wrong with one resource.
type List []Problem

// maxPath bounds how deep a resource nests: rules that hold rules do without end.
const maxPath = 4 << 10

// Enter notes what is wrong with any message at a path; false if it nests so deep that
// nobody looks into it.
func (p *List) Enter(path string, m protoreflect.Message) bool {
	if len(path) > maxPath {
		p.Addf(path[:maxPath]+"...", "nests too deep")
		return false
	}
	if len(m.GetUnknown()) > 0 {
		p.Addf(path, "has a field that this version does not know")
	}
	return true
}

// Addf notes one problem at a path.
func (p *List) Addf(path, format string, args ...any) {
	*p = append(*p, Problem{Field: path, Reason: fmt.Sprintf(format, args...)})
}

// Join appends a field's name to the path of its message.
func Join(path string, name protoreflect.Name) string {
	if path == "" {
		return string(name)
	}
	return path + "." + string(name)
}

// Validated is what all generated messages of Envoy's API are.
type Validated interface {
	proto.Message
	ValidateAll() error
}

// Validate adds what Envoy's rules say of m, which is at path.
func (p *List) Validate(path string, m Validated) {
	if err := m.ValidateAll(); err != nil {
		p.flatten(path, err)
	}
}

// flatten turns the nested errors of the generated validators into paths.
func (p *List) flatten(path string, err error) {
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
func (p *List) Unpack(path string, config *anypb.Any, m Validated) bool {
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
