// Package handoff is the seam between dubway-agent (privileged) and
// dubway-proxy (without capabilities): versioned messages over one unix
// SOCK_SEQPACKET socket, some of them with file descriptors (SCM_RIGHTS).
// It moves messages; it decides nothing about them.
//
// One message is one packet: a JSON object of at most MaxMessage bytes. The
// proxy connects and says Hello; the agent answers Hello, then Lanes, then one Workload for
// each enrolled pod, then a Lane for each that a dead proxy left, then SnapshotEnd, then
// changes as they happen. The proxy acks all but the Hello; the agent answers each Dial with
// a DialResult, each Sign with a SignResult and the last part of each Destinations
// generation with an Ack.
//
// # How listeners outlive either process
//
// Both sides hold a descriptor of every listener, so its backlog lives while one
// of them does. The proxy is killed: connections wait in the backlog, and the next
// proxy gets the listeners in its snapshot. The agent is killed: the proxy goes on
// accepting; when it finds the new agent, it tells what it holds before it is told
// anything: Hello, then a Workload with its descriptors for each pod, then
// SnapshotEnd. The agent adopts those descriptors that are what they claim to be
// (a TCP listener, at the right address, in the right network namespace) and
// closes the others; only then does it answer. These three are not acked. When
// both processes are dead the listeners are gone: connections are refused until
// both are back, and the agent opens new ones.
//
// One proxy is served at a time. A newer one replaces the older, which gets a
// Goodbye: it drains and does not come back.
//
// # How a proxy takes over from that of another agent
//
// Two agents of a node have the same listeners while one takes over from the other
// (package takeover), and each has its proxy. A proxy that is told to Yield closes what
// it accepts from and goes on with what it has accepted. Told so before it is told of a
// pod, it gets ready without accepting: what it would accept it could not route yet. A
// Yield holds until the connection ends: then a proxy accepts for the pods that it is
// told of without one.
//
// Its agent may die before it can tell that, and another one have its turn back. So an
// agent's Hello lends the proxy the node's note of whose proxy served last (package
// served): one without an agent that reads another's name there lets go of the listeners.
package handoff

import (
	"net/netip"
)

// Version is the version of the messages in this package. Both sides send it in
// Hello and refuse a peer of another version. 3 came with tables of destinations, and with
// Sign: a proxy that proves who its pods are needs an agent that can ask for it. 4 came
// with Yield: a proxy that did not know it would accept beside another; and with
// Certified, by which an agent knows for whom neighbours may encrypt. 5 came with lanes, 6
// with the note of whose proxy serves.
const Version = 6

// MaxMessage is the largest encoded message, in bytes; larger sets are sent in
// parts (Destinations.Last).
const MaxMessage = 64 << 10

// Kind names the one body that a Message carries.
type Kind string

// The kinds of messages, and who sends them.
const (
	KindHello        Kind = "hello"        // both
	KindWorkload     Kind = "workload"     // agent -> proxy, with listener fds; proxy -> agent: held ones
	KindWorkloadGone Kind = "workloadGone" // agent -> proxy
	KindSnapshotEnd  Kind = "snapshotEnd"  // agent -> proxy; proxy -> agent after what it holds
	KindGoodbye      Kind = "goodbye"      // agent -> proxy: a newer proxy took over
	KindYield        Kind = "yield"        // agent -> proxy: do not accept
	KindAck          Kind = "ack"          // both; Seq is the acked message's
	KindDial         Kind = "dial"         // proxy -> agent
	KindDialResult   Kind = "dialResult"   // agent -> proxy, with one fd on success; Seq is the Dial's
	KindDestinations Kind = "destinations" // proxy -> agent
	KindSign         Kind = "sign"         // proxy -> agent
	KindSignResult   Kind = "signResult"   // agent -> proxy; Seq is the Sign's
	KindCertified    Kind = "certified"    // proxy -> agent
	KindLanes        Kind = "lanes"        // agent -> proxy, with the files of their memory
	KindLane         Kind = "lane"         // proxy -> agent, with its sockets; agent -> proxy: one of a proxy that is gone
	KindLaneGone     Kind = "laneGone"     // proxy -> agent
)

// Message is the envelope. Exactly the body named by Kind is set; SnapshotEnd,
// Goodbye and Yield have none, and Ack needs none without an error.
type Message struct {
	Kind Kind `json:"kind"`
	// Seq is chosen by the sender of a message that wants an answer, unique on
	// this connection and never 0; answers repeat it.
	Seq          uint64        `json:"seq,omitempty"`
	Hello        *Hello        `json:"hello,omitempty"`
	Workload     *Workload     `json:"workload,omitempty"`
	WorkloadGone *WorkloadGone `json:"workloadGone,omitempty"`
	Ack          *Ack          `json:"ack,omitempty"`
	Dial         *Dial         `json:"dial,omitempty"`
	DialResult   *DialResult   `json:"dialResult,omitempty"`
	Destinations *Destinations `json:"destinations,omitempty"`
	Sign         *Sign         `json:"sign,omitempty"`
	SignResult   *SignResult   `json:"signResult,omitempty"`
	Certified    *Certified    `json:"certified,omitempty"`
	Lanes        *Lanes        `json:"lanes,omitempty"`
	Lane         *Lane         `json:"lane,omitempty"`
	LaneGone     *LaneGone     `json:"laneGone,omitempty"`
}

// Hello opens the conversation.
type Hello struct {
	Version int    `json:"version"`
	Release string `json:"release"` // internal/version.Version, for people
	Node    string `json:"node,omitempty"`
	// Instance is the proxy's, drawn when it starts: by it an agent knows one that comes
	// back from another one.
	Instance uint64 `json:"instance,omitempty"`
	// Maps is the memory of lanes that the proxy has from an earlier connection, as of
	// Lanes; 0: none.
	Maps uint64 `json:"maps,omitempty"`
	// Note is the agent's name in the note that comes along, open for reading; "": there is
	// none.
	Note string `json:"note,omitempty"`
}

// Workload is an enrolled pod of this node. It replaces an earlier one of the
// same UID. Its listeners come as file descriptors in the order of Listeners.
type Workload struct {
	UID       string            `json:"uid"`
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Annotations are the mesh's own, dubway.io/NAME. Others may be large, and are nobody's
	// business here.
	Annotations    map[string]string `json:"annotations,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	NetnsCookie    uint64            `json:"netnsCookie"`
	Addresses      []netip.Addr      `json:"addresses"`
	// Ports are the pod's enrolled ports: those that the agent hands to the
	// inbound listener, and that the proxy may dial at the pod's own address.
	Ports     []uint16   `json:"ports,omitempty"`
	Listeners []Listener `json:"listeners"`
}

// Direction tells which way a listener's connections go.
type Direction string

// The two listeners that live in a pod's network namespace.
const (
	Outbound Direction = "outbound" // port 15001
	Inbound  Direction = "inbound"  // port 15006
)

// Listener describes one listening socket that travels with a Workload.
type Listener struct {
	Direction Direction `json:"direction"`
	Family    int       `json:"family"` // 4 or 6
}

// WorkloadGone says that a pod left or is no longer enrolled. Its live
// connections are drained by the proxy; its listeners are closed.
type WorkloadGone struct {
	UID string `json:"uid"`
}

// Ack answers a message. Error is empty on success.
type Ack struct {
	Error string `json:"error,omitempty"`
}

// Dial asks for a TCP socket that belongs to the workload's network namespace,
// marked as the mesh's own (never steered), non-blocking, connecting or
// connected to Destination.
type Dial struct {
	Workload    string         `json:"workload"` // UID
	Destination netip.AddrPort `json:"destination"`
	// Client, if valid, is the address that the application which accepts this
	// connection is to see as its peer. Only honoured when Destination is the
	// workload's own address.
	Client netip.AddrPort `json:"client,omitzero"`
	// Lane marks the socket as a lane's too. Only where Destination is the workload's own
	// address, on a node that has lanes, of a workload that may have them; or it is denied.
	Lane bool `json:"lane,omitempty"`
}

// DialCode tells the proxy what to do with a refused Dial.
type DialCode string

// The reasons for which a Dial fails before a socket exists.
const (
	DialDenied    DialCode = "denied"    // not allowed for any proxy: loopback, link-local, node, not enrolled port
	DialUnknown   DialCode = "unknown"   // no such workload
	DialExhausted DialCode = "exhausted" // a limit of the agent
	DialFailed    DialCode = "failed"    // the kernel refused: text in Error
)

// DialResult answers a Dial. On success Code is empty and one fd travels with it.
type DialResult struct {
	Code  DialCode `json:"code,omitempty"`
	Error string   `json:"error,omitempty"`
}

// Destinations is one part of one generation of one table of what to steer. The
// parts of a generation come in order, and no other table's between them; the agent
// publishes the generation atomically when it has the part with Last set, and acks
// that one.
//
// Table 0 is that of all workloads that are in no other. A workload is in one table:
// the last that named it. One that a table's next generation does not name goes to
// table 0 before that generation is in force, so who moves a workload publishes where
// it goes first. A table, other than 0, whose last generation has neither workloads
// nor entries is given back.
//
// Numbers are those of one connection. After a connect the tables of the connection
// before stay in force for their workloads until this one names them, and go with the
// first generation of table 0: who has several tables publishes that one last.
type Destinations struct {
	Table      uint32 `json:"table,omitempty"`
	Generation uint64 `json:"generation"`
	// Workloads are the UIDs of those in the table, enrolled now or later.
	Workloads []string      `json:"workloads,omitempty"`
	Entries   []Destination `json:"entries,omitempty"`
	Unknown   Unknown       `json:"unknown,omitempty"` // in the last part
	Last      bool          `json:"last,omitempty"`
}

// Unknown says what becomes of a workload's TCP connects to addresses that are in no
// entry of its table. Loopback, link-local and the pod's own addresses are never
// unknown.
type Unknown string

// The ways to treat unknown destinations.
const (
	UnknownPass   Unknown = ""       // they pass
	UnknownCount  Unknown = "count"  // they pass; counted and listed as what would be refused
	UnknownRefuse Unknown = "refuse" // the connect fails at once; counted and listed
)

// Destination is an address range and port whose connects are steered. Port 0
// means every port.
type Destination struct {
	Prefix netip.Prefix `json:"prefix"`
	Port   uint16       `json:"port"`
	// Lane says that requests which are read there may take a lane.
	Lane bool `json:"lane,omitempty"`
}
