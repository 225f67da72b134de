// Package entry is what the tables of package fields are made of: one Field for each that
// a resource may set.
package entry

import (
	"strings"

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

// Slot is a place where Envoy's API takes one of several extensions, as an Any.
type Slot string

// The slots that resources may fill.
const (
	SlotNone            Slot = ""
	SlotListenerFilter  Slot = "Listener filters"
	SlotNetworkFilter   Slot = "Network filters"
	SlotHTTPFilter      Slot = "HTTP filters"
	SlotPerRoute        Slot = "Per-route filters"
	SlotDubboFilter     Slot = "Dubbo filters"
	SlotMetaFilter      Slot = "MetaProtocol filters"
	SlotTransportSocket Slot = "Transport sockets"
	SlotProtocolOptions Slot = "Protocol options"
	SlotClusterFilter   Slot = "Cluster filters"
	SlotRetryHost       Slot = "Retry host predicates"
	SlotBalancer        Slot = "Load balancing policies"
	SlotHealthChecker   Slot = "Health checkers"
	SlotAccessLog       Slot = "Access logs"
	SlotLogFilter       Slot = "Access log filters"
)

// Slots lists the slots in the order of docs/xds.md.
func Slots() []Slot {
	return []Slot{SlotListenerFilter, SlotNetworkFilter, SlotHTTPFilter, SlotPerRoute, SlotDubboFilter, SlotMetaFilter,
		SlotTransportSocket, SlotProtocolOptions, SlotClusterFilter, SlotRetryHost, SlotBalancer, SlotHealthChecker,
		SlotAccessLog, SlotLogFilter}
}

// Field is one entry of a table.
type Field struct {
	Name   protoreflect.Name
	Status Status
	Note   string // why it is accepted, or what is particular
	// Only restricts the values; nil takes all. A refused value is rejected
	// with the first sentence of Note as the reason.
	Only func(protoreflect.Value) bool
	// Slot is the place of an extension: its Any must be one of those that it takes.
	Slot Slot
	// Loose says that who converts it reports what is not implemented of it: no reason
	// to refuse the resource.
	Loose bool
}

// Limit is the first sentence of the note.
func (f Field) Limit() string {
	first, _, _ := strings.Cut(f.Note, ". ")
	return first
}

// Yes is a field that is implemented for all its values.
func Yes(name protoreflect.Name, note ...string) Field {
	f := Field{Name: name, Status: Implemented}
	if len(note) > 0 {
		f.Note = note[0]
	}
	return f
}

// Some is a field that is implemented for some values; note names them.
func Some(name protoreflect.Name, check func(protoreflect.Value) bool, note string) Field {
	return Field{Name: name, Status: Implemented, Note: note, Only: check}
}

// Accept is a field that means nothing here; note says why.
func Accept(name protoreflect.Name, note string) Field {
	return Field{Name: name, Status: Accepted, Note: note}
}

// Reported is a field of which nothing is refused; what is not done is a problem that the
// status tells of.
func Reported(name protoreflect.Name, note string) Field {
	return Field{Name: name, Status: Implemented, Note: note, Loose: true}
}

// Extension is a field that holds one of the extensions of a slot.
func Extension(name protoreflect.Name, slot Slot) Field {
	return Field{Name: name, Status: Implemented, Note: "see the table \"" + string(slot) + "\"", Slot: slot}
}
