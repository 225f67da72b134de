// Package fields is the table of what is implemented of Envoy's API: one entry
// for each field that a resource may set, saying what becomes of it. A field
// that is not in the table is rejected by its name wherever it is set, so that
// no policy is ever dropped in silence. docs/xds.md is printed from this table.
// Beside it stand Envoy's own rules for what a field may hold. The package converts
// nothing: routes and convert do, and read only fields that the table calls
// implemented.
package fields

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dubway/dubway/l7proxy/xds/fields/entry"
	"github.com/dubway/dubway/l7proxy/xds/fields/value"
)

// Field is one entry of the table.
type Field = entry.Field

// Status says what becomes of a field that is set.
type Status = entry.Status

// The statuses. Every field without an entry is rejected.
const (
	Implemented = entry.Implemented
	Accepted    = entry.Accepted
)

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

// The entries, by short names, so that the tables can be read.
var yes, only, accept, reported, extension = entry.Yes, entry.Some, entry.Accept, entry.Reported, entry.Extension

// The checks, likewise.
var (
	isZeroDuration, isFalse, isTrue, isUnlimited, bindsIstio = value.IsZeroDuration, value.IsFalse, value.IsTrue, value.IsUnlimited, value.BindsIstio
	isEnum, isString, areStrings                             = value.IsEnum, value.IsString, value.AreStrings
)
