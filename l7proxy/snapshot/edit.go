package snapshot

// Edits are those of a share of a route's requests, and of their answers, each in their
// order.
type Edits struct{ Requests, Answers []Edit }

// EditsOf returns what changes the requests to one of the action's clusters, and their
// answers.
func (a *Action) EditsOf(c *WeightedCluster) (requests, answers []Edit) {
	if c.Edits != nil {
		return c.Edits.Requests, c.Edits.Answers
	}
	return a.Edits, a.Answers
}

// To returns the action's entry for a cluster, or one without more than the name.
func (a *Action) To(cluster string) WeightedCluster {
	for _, c := range a.Clusters {
		if c.Cluster == cluster {
			return c
		}
	}
	return WeightedCluster{Cluster: cluster}
}

// Edit changes one attachment of the requests of a route, or of their answers.
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
	Text string // PieceText: itself; of the kinds with a name or a field: that
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

// The kinds of answers alone.
const (
	PieceAnswer      PieceKind = iota + PieceSource + 1 // %RESP(name)%: an attachment of the answer
	PieceUpstream                                       // %UPSTREAM_REMOTE_ADDRESS%, %UPSTREAM_HOST%: the provider's
	PieceUpstreamIP                                     // %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%
	PieceCluster                                        // %UPSTREAM_CLUSTER%
	PieceRoute                                          // %ROUTE_NAME%
	PieceDestination                                    // %DUBWAY_DESTINATION(field)%: of the provider's workload
)

// Own tells whether a piece is an attachment of the request itself: it differs between requests that are otherwise alike.
func (p *Piece) Own() bool {
	if p.Kind != PieceRequest {
		return false
	}
	switch p.Text {
	case "interface", "method", "version":
		return false
	}
	return true
}
