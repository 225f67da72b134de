package fields

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
	"github.com/dubway/dubway/l7proxy/xds/problems"
	"github.com/dubway/dubway/l7proxy/xds/typed"
)

// Examine returns the problems that need no conversion to be seen: fields that
// are not implemented, and values that Envoy's own rules refuse.
func Examine(m problems.Validated) problems.List {
	p := Check(m)
	p.Validate("", m)
	return p
}

// Check walks the set fields of m, depth first in the order of their numbers,
// and returns one Problem for each that is not implemented.
func Check(m proto.Message) problems.List {
	var w walker
	w.message("", m.ProtoReflect())
	return w.List
}

// walker walks one resource.
type walker struct{ problems.List }

func (w *walker) message(path string, m protoreflect.Message) {
	if !w.Enter(path, m) {
		return
	}
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	rules := byName[m.Descriptor().FullName()]
	for _, fd := range set {
		at := problems.Join(path, fd.Name())
		rule, ok := rules[fd.Name()]
		v := m.Get(fd)
		switch {
		case !ok:
			w.Addf(at, "not implemented")
		case rule.Only != nil && !rule.Only(v):
			w.Addf(at, "not implemented: %s", rule.Limit())
		case rule.Status == Implemented && !rule.Loose:
			w.values(at, fd, v, rule.Slot)
		}
	}
}

// values checks what a field holds: each entry of a list or a map.
func (w *walker) values(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value, slot entry.Slot) {
	switch {
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return
		}
		for _, k := range sortedKeys(v.Map()) {
			w.value(fmt.Sprintf("%s[%q]", path, k.String()), v.Map().Get(k).Message(), slot)
		}
	case fd.Message() == nil:
	case fd.IsList():
		for i := range v.List().Len() {
			w.value(fmt.Sprintf("%s[%d]", path, i), v.List().Get(i).Message(), slot)
		}
	default:
		w.value(path, v.Message(), slot)
	}
}

func (w *walker) value(path string, m protoreflect.Message, slot entry.Slot) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		w.extension(path, a, slot)
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return // durations, wrappers and structs are values
	}
	if fd := m.Descriptor().Fields().ByName("typed_config"); fd != nil && slot != entry.SlotNone && !m.Has(fd) {
		w.Addf(problems.Join(path, fd.Name()), "required: the name alone does not tell the type")
	}
	w.message(path, m)
}

func (w *walker) extension(path string, a *anypb.Any, slot entry.Slot) {
	typ, config, inner := typed.TypeOf(a)
	if typ == "" {
		w.Addf(path, "required: \"@type\"")
		return
	}
	e, ok := find(slot, typ)
	if !ok {
		w.Addf(path, "%s: not implemented", typ)
		return
	}
	if config == nil {
		m, err := a.UnmarshalNew()
		if err != nil {
			w.Addf(path, "%s: %v", typ, err)
			return
		}
		if _, inTable := byName[m.ProtoReflect().Descriptor().FullName()]; inTable {
			w.message(path, m.ProtoReflect())
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
		w.Addf(path+inner+"."+k, "not implemented")
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
