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

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dubway/dubway/l7proxy/xds/fields/value"
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
	// Loose says that who converts it reports what is not implemented of it: no reason
	// to refuse the resource.
	Loose bool
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
	{"Tracing", tracingMessages},
	{"Telemetry", reportMessages},
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
	{"Mutual TLS", tlsMessages},
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

// reported is a field of which nothing is refused; what is not done is a problem that the
// status tells of.
func reported(name protoreflect.Name, note string) Field {
	return Field{Name: name, Status: Implemented, Note: note, Loose: true}
}

// extension is a field that holds one of the extensions of a slot.
func extension(name protoreflect.Name, slot Slot) Field {
	return Field{Name: name, Status: Implemented, Note: "see the table \"" + string(slot) + "\"", slot: slot}
}

// The checks, by short names, so that the tables can be read.
var (
	isZeroDuration, isFalse, isUnlimited, bindsIstio = value.IsZeroDuration, value.IsFalse, value.IsUnlimited, value.BindsIstio
	isEnum, isString, areStrings                     = value.IsEnum, value.IsString, value.AreStrings
)
