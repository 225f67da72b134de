package fields

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/typed"
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

// Problems collects what is wrong with one resource.
type Problems []Problem

// Addf notes one problem at a path.
func (p *Problems) Addf(path, format string, args ...any) {
	*p = append(*p, Problem{Field: path, Reason: fmt.Sprintf(format, args...)})
}

// Check walks the set fields of m, depth first in the order of their numbers,
// and returns one Problem for each that is not implemented.
func Check(m proto.Message) Problems {
	var p Problems
	p.message("", m.ProtoReflect())
	return p
}

// Join appends a field's name to the path of its message.
func Join(path string, name protoreflect.Name) string {
	if path == "" {
		return string(name)
	}
	return path + "." + string(name)
}

// maxPath bounds how deep a resource nests: rules that hold rules do without end.
const maxPath = 4 << 10

func (p *Problems) message(path string, m protoreflect.Message) {
	if len(path) > maxPath {
		p.Addf(path[:maxPath]+"...", "nests too deep")
		return
	}
	if len(m.GetUnknown()) > 0 {
		p.Addf(path, "has a field that this version does not know")
	}
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	rules := byName[m.Descriptor().FullName()]
	for _, fd := range set {
		at := Join(path, fd.Name())
		rule, ok := rules[fd.Name()]
		v := m.Get(fd)
		switch {
		case !ok:
			p.Addf(at, "not implemented")
		case rule.only != nil && !rule.only(v):
			p.Addf(at, "not implemented: %s", rule.limit())
		case rule.Status == Implemented:
			p.values(at, fd, v, rule.slot)
		}
	}
}

// values checks what a field holds: each entry of a list or a map.
func (p *Problems) values(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value, slot Slot) {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return
		}
		for _, k := range sortedKeys(v.Map()) {
			p.value(fmt.Sprintf("%s[%q]", path, k.String()), v.Map().Get(k).Message(), slot)
		}
	case fd.Message() == nil:
	case fd.IsList():
		for i := range v.List().Len() {
			p.value(fmt.Sprintf("%s[%d]", path, i), v.List().Get(i).Message(), slot)
		}
	default:
		p.value(path, v.Message(), slot)
	}
}

func (p *Problems) value(path string, m protoreflect.Message, slot Slot) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		p.extension(path, a, slot)
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return // durations, wrappers and structs are values
	}
	if fd := m.Descriptor().Fields().ByName("typed_config"); fd != nil && slot != SlotNone && !m.Has(fd) {
		p.Addf(Join(path, fd.Name()), "required: the name alone does not tell the type")
	}
	p.message(path, m)
}

func (p *Problems) extension(path string, a *anypb.Any, slot Slot) {
	typ, config, inner := typed.TypeOf(a)
	if typ == "" {
		p.Addf(path, "required: \"@type\"")
		return
	}
	e, ok := find(slot, typ)
	if !ok {
		p.Addf(path, "%s: not implemented", typ)
		return
	}
	if config == nil {
		m, err := a.UnmarshalNew()
		if err != nil {
			p.Addf(path, "%s: %v", typ, err)
			return
		}
		if _, inTable := byName[m.ProtoReflect().Descriptor().FullName()]; inTable {
			p.message(path, m.ProtoReflect())
		}
		return
	}
	if slices.Contains(e.Config, anyConfig) {
		return
	}
	keys := make([]string, 0, len(config.GetFields()))
	for k := range config.GetFields() {
		if !slices.Contains(e.Config, k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		p.Addf(path+inner+"."+k, "not implemented")
	}
}

func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
