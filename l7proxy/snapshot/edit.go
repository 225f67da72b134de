package snapshot

// Edit changes one attachment of the requests of a route.
type Edit struct {
	Name  string
	How   EditHow
	Value []Piece // concatenated; empty with EditRemove
}

// EditHow says what an Edit does.
type EditHow uint8

// The ways, as HeaderValueOption has them.
const (
	EditSet     EditHow = iota // OVERWRITE_IF_EXISTS_OR_ADD
	EditAppend                 // APPEND_IF_EXISTS_OR_ADD: behind a comma
	EditAdd                    // ADD_IF_ABSENT
	EditReplace                // OVERWRITE_IF_EXISTS
	EditRemove
)

// Piece is a part of an attachment's new value.
type Piece struct {
	Kind PieceKind
	Text string // PieceText: itself; PieceRequest and PieceSource: the name of what is asked for
}

// PieceKind tells where a piece comes from.
type PieceKind uint8

// The kinds.
const (
	PieceText     PieceKind = iota
	PieceRequest            // %REQ(name)%: interface, method, version, group, or an attachment
	PieceRemote             // %DOWNSTREAM_REMOTE_ADDRESS%
	PieceRemoteIP           // %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%
	PieceLocal              // %DOWNSTREAM_LOCAL_ADDRESS%: what the consumer dialled
	PieceSource             // %DUBWAY_SOURCE(field)%: of the consumer's workload
)
