// Package fields is the table of what is implemented of Envoy's API: one entry
// for each field that a resource may set, saying what becomes of it. A field
// that is not in the table is rejected by its name wherever it is set, so that
// no policy is ever dropped in silence. docs/xds.md is printed from this table.
// Beside it stand Envoy's own rules for what a field may hold. The package converts
// nothing: routes and convert do, and read only fields that the table calls
// implemented.
package fields

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Status says what becomes of a field that is set.
type Status uint8

// The statuses. Every field without an entry is rejected.
const (
	Implemented Status = iota // acted upon
	Accepted                  // has no meaning here; Note says why
)

// String returns the word that docs/xds.md prints.
func (s Status) String() string {
	if s == Accepted {
		return "accepted"
	}
	return "implemented"
}

// Field is one entry of the table.
type Field struct {
	Name   protoreflect.Name
	Status Status
	Note   string // why it is accepted, or what is particular
	// only restricts the values; nil takes all. A refused value is rejected
	// with the first sentence of Note as the reason.
	only func(protoreflect.Value) bool
	// slot is the place of an extension: its Any must be in Extensions(slot).
	slot Slot
}

// limit is the first sentence of the note.
func (f Field) limit() string {
	first, _, _ := strings.Cut(f.Note, ". ")
	return first
}

// Message lists the fields of one message, in the order of docs/xds.md.
type Message struct {
	Name   protoreflect.FullName
	Fields []Field
}

// Section groups the messages of one kind of resource.
type Section struct {
	Kind     string // RouteConfiguration, and so on; a filter's name; Common for shared messages
	Messages []Message
}

// Sections returns the table. The caller must not change it.
func Sections() []Section { return table }

var table = []Section{
	{"Listener", listenerMessages},
	{"RouteConfiguration", routeMessages},
	{"dubbo_proxy", dubboMessages},
	{"MetaProtocolProxy", metaMessages},
	{"RBAC", rbacMessages},
	{"Local rate limits", limitMessages},
	{"Global rate limits", globalMessages},
	{"Faults", faultMessages},
	{"Cluster", clusterMessages},
	{"Load balancing", balancingMessages},
	{"Health", healthMessages},
	{"ClusterLoadAssignment", endpointMessages},
	{"Common", commonMessages},
}

// byName is the same table, for look-ups.
var byName = index(table)

func index(sections []Section) map[protoreflect.FullName]map[protoreflect.Name]Field {
	all := make(map[protoreflect.FullName]map[protoreflect.Name]Field)
	for _, s := range sections {
		for _, m := range s.Messages {
			fields := make(map[protoreflect.Name]Field, len(m.Fields))
			for _, f := range m.Fields {
				fields[f.Name] = f
			}
			all[m.Name] = fields
		}
	}
	return all
}

// yes is a field that is implemented for all its values.
func yes(name protoreflect.Name, note ...string) Field {
	f := Field{Name: name, Status: Implemented}
	if len(note) > 0 {
		f.Note = note[0]
	}
	return f
}

// only is a field that is implemented for some values; note names them.
func only(name protoreflect.Name, check func(protoreflect.Value) bool, note string) Field {
	return Field{Name: name, Status: Implemented, Note: note, only: check}
}

// accept is a field that means nothing here; note says why.
func accept(name protoreflect.Name, note string) Field {
	return Field{Name: name, Status: Accepted, Note: note}
}

// extension is a field that holds one of the extensions of a slot.
func extension(name protoreflect.Name, slot Slot) Field {
	return Field{Name: name, Status: Implemented, Note: "see the table \"" + string(slot) + "\"", slot: slot}
}

// isZeroDuration tells whether a Duration is 0s.
func isZeroDuration(v protoreflect.Value) bool {
	m := v.Message()
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByName("seconds")).Int() == 0 && m.Get(fields.ByName("nanos")).Int() == 0
}

// isFalse tells whether a bool or a BoolValue is false.
func isFalse(v protoreflect.Value) bool {
	if m, ok := v.Interface().(protoreflect.Message); ok {
		return !m.Get(m.Descriptor().Fields().ByName("value")).Bool()
	}
	return !v.Bool()
}

// isUnlimited tells whether a UInt32Value is the largest one, which Envoy's
// control planes send for "no limit".
func isUnlimited(v protoreflect.Value) bool {
	m := v.Message()
	return m.Get(m.Descriptor().Fields().ByName("value")).Uint() == 1<<32-1
}

// bindsIstio tells whether a BindConfig binds nothing but 127.0.0.6 or ::6.
func bindsIstio(v protoreflect.Value) bool {
	m, ok := v.Message().Interface().(*corev3.BindConfig)
	if !ok {
		return false
	}
	at := m.GetSourceAddress()
	rest := proto.CloneOf(m)
	rest.SourceAddress = nil
	return (at.GetAddress() == "127.0.0.6" || at.GetAddress() == "::6") && at.GetPortValue() == 0 && proto.Size(rest) == 0
}

// isEnum returns a check for one of some enum numbers.
func isEnum(numbers ...protoreflect.EnumNumber) func(protoreflect.Value) bool {
	return func(v protoreflect.Value) bool {
		for _, n := range numbers {
			if v.Enum() == n {
				return true
			}
		}
		return false
	}
}

// isString returns a check for one of some strings.
func isString(values ...string) func(protoreflect.Value) bool {
	return func(v protoreflect.Value) bool {
		for _, s := range values {
			if v.String() == s {
				return true
			}
		}
		return false
	}
}

// areStrings returns a check that a list holds nothing but the given strings.
func areStrings(values ...string) func(protoreflect.Value) bool {
	one := isString(values...)
	return func(v protoreflect.Value) bool {
		l := v.List()
		for i := range l.Len() {
			if !one(l.Get(i)) {
				return false
			}
		}
		return true
	}
}
