// Package lane is the seam between the lane's BPF programs and the proxy: pages of
// memory that both have mapped, and the questions that the proxy may ask of a socket.
// bpf/lane_memory.h has the same layout in C, with what each member means, and a test
// of agent/datapath/lane compares the two. The proxy needs neither a capability nor the
// bpf() system call for them: the agent hands it the maps as files.
package lane

import "unsafe"

// Version is the version of the layout, which agent and proxy must share.
const Version = 4

// The bounds of a lane. See bpf/lane_memory.h.
const (
	Ends    = 8   // provider connections of one lane
	Flights = 512 // requests in flight of one lane
	Prefix  = 256 // bytes of a route's names
	Shares  = 4   // weighted clusters of a route
	Choices = 24  // endpoints of a share, each as often as it weighs

	Candidates = 64 // endpoints of a route's shares by least request
	Weighed    = 16 // of which one share has unequal weights
	Draws      = 8  // of which the least is taken

	probes   = 8
	Bounds   = 19
	MaxWrite = 500_000 // bytes of whole frames in one write into a lane; larger frames need a pause
)

// Flags of a Lane.
const (
	Requests uint32 = 1 << iota // requests may take the lane
	Answers                     // the consumer is written to by redirect alone
	Paused                      // answers go to the proxy
	Logged                      // each call is told of in the log
)

// EndOpen of End.Flags: requests may go there.
const EndOpen uint32 = 1

// The policies of a Share.
const (
	RoundRobin uint8 = iota
	Random
	LeastRequest // of Draws candidates at random
	ByLoad       // of all candidates, by weight / (requests in flight + 1)
)

// Flags of a Route.
const (
	CountsActive uint32 = 1 << iota // Actives count requests in flight to the ends
	Limited                         // Bounds count requests in flight to clusters
	Traced                          // requests that are part of a trace go to the proxy, and of others some
	Mixed                           // some endpoints are the proxy's
)

// Serializations that the programs read.
const (
	Hessian2  = 2
	Fastjson2 = 23
)

// Course is how who reads a connection tells who writes to it where frames begin. Both are
// positions as At has them, or 0. See Follow.
type Course struct {
	Resume uint64 // the proxy's
	Guess  uint64 // the programs'
}

// End is a lane's connection to a provider.
type End struct {
	Flags  uint32 // EndOpen
	_      uint32
	Course Course // of what the provider writes by TCP
}

// Lane is one consumer connection. The programs write what is behind Ends.
type Lane struct {
	Flags  uint32
	Class  uint32 // of its routes; 0: none
	Course Course // of what the consumer writes by TCP
	// Reading is At of where the last frame ends of which the proxy has read any byte, and
	// EndsReading the same sequence number of what the providers wrote, where it is ahead of
	// what was read. They are for the proxy that comes after one that dies.
	Reading     uint64
	EndsReading [Ends]uint32
	Ends        [Ends]End

	Requested uint64 // requests that took the lane
	Answered  uint64 // answers that took it
	Slow      uint64 // messages of the consumer that went to the proxy
	Returned  uint64 // messages of providers that did
	Last      uint64 // CLOCK_MONOTONIC in ns of the last request that took the lane
	Behind    uint64 // messages that began in the middle of a frame, or where nobody knew
	Full      uint64 // requests that found their flight taken, the provider too far behind, or too many in flight
	Scarce    uint64 // messages that went to the proxy because there may be no memory for them
}

// Behind returns how many bytes, of which limit is the most that makes sense, are to come
// of a frame that ends at end, behind those that were read. Ok is false if the next byte may
// be anywhere in a frame. Resume is where a frame began.
func Behind(resume, end uint64, read uint32, limit int) (n int, ok bool) {
	if resume == At(read) {
		return 0, true
	}
	left := uint32(end) - read
	return int(left), end>>32 != 0 && int64(left) <= int64(limit)
}

// At is a position in a TCP stream, of its sequence number.
func At(seq uint32) uint64 { return 1<<32 | uint64(seq) }

// Flight is a request in flight.
type Flight struct {
	Key    uint64 // id + 1; 0: none
	Start  uint64 // CLOCK_MONOTONIC in ns
	Route  uint32 // its place in Memory.Routes
	Bytes  uint32 // of the request, header included
	End    uint32 // or a Drawn, without a key
	Series uint32
}

// Share is a cluster of a route.
type Share struct {
	UpTo    uint32 // a random word up to this, and above the shares before, is its own
	Policy  uint8
	Count   uint8  // of Choices, or of candidates; 0: the share is the proxy's
	First   uint8  // of its candidates in Route.Candidates
	Draws   uint8  // of LeastRequest: how many, at most the constant
	Cursor  uint32 // the programs'
	Limit   uint32 // of requests in flight to the cluster; 0: none
	Beyond  uint32 // of RoundRobin and Random: of 2^32 requests so many are for endpoints elsewhere
	Choices [Choices]uint8
}

// Candidate is an endpoint that may have the least in flight.
type Candidate struct {
	Weight uint32 // 0: it is left alone at present
	Active uint16 // in Memory.Active; 0: nobody counts
	End    uint8  // of the lane; Ends: it is the proxy's
	_      uint8
}

// Route is where requests of a class go that begin with the same bytes.
type Route struct {
	Hash          uint64 // 0: none
	Class         uint32
	Length        uint16 // of Prefix
	Serialization uint8
	Count         uint8 // of Shares
	Prefix        [Prefix]byte
	Shares        [Shares]Share
	Series        [Ends]uint32 // in Memory.Tallies, by end
	Flags         uint32
	Sampled       uint32 // if Traced: random words below it are for a span
	// In Memory.Active, of the end's cluster, and of the end itself in its cluster, in halves: those
	// of lanes, and above the proxy's; 0: none.
	Bounds, Actives [Ends]uint16
	Candidates      [Candidates]Candidate
}

// Tally is what ended well in the lane, of one series on one CPU. The bounds are those of
// l7proxy/telemetry/histogram.
type Tally struct {
	Durations                              [Bounds + 1]uint64 // of nanoseconds, by the bounds of Durations
	RequestSizes, AnswerSizes              [Bounds + 1]uint64 // bytes, by the bounds of Sizes
	Nanoseconds, RequestBytes, AnswerBytes uint64
	_                                      uint64
}

// Record is one call in the log.
type Record struct {
	Lane, Series              uint32
	ID                        uint64
	Start, Duration           uint64 // CLOCK_MONOTONIC in ns; ns
	RequestBytes, AnswerBytes uint32
	Serialization, Status     uint8
	_                         uint16
	End                       uint32
}

// Budget bounds the log.
type Budget struct {
	Second        uint64
	Spent, Limit  uint32 // records; Limit is the proxy's, a second
	Dropped, Told uint64 // so far
}

// Questions to a socket, levels of getsockopt.
const (
	AskState = 0x4c410001 // State
	AskBind  = 0x4c410002 // State; optname is Place
	AskFree  = 0x4c410003 // State; optname is Place
)

// Consumer is the end of a Place that is the consumer's.
const Consumer = 255

// Place names a lane's socket for AskBind.
func Place(lane uint32, end uint8) int { return int(lane)<<8 | int(end) }

// State is what the programs know of a socket of the proxy's and of its peer, the
// application's.
type State struct {
	Cookie  uint64
	Peer    uint64 // 0: it is in no map, and cannot be in a lane
	Holders uint32 // of the peer, beyond its own: 0 when nothing is on its way to it
	Queued  uint32 // bytes that the peer has not read, as the kernel charges them
	Unread  uint32 // bytes that the socket wrote by TCP and the peer has not read
	Copied  uint32 // sequence number behind the last byte that was read from the socket
	Flags   uint32 // Charged, Scarce, MemoryLimited
	_       uint32
}

// Flags of a State.
const (
	Charged       uint32 = 1 << iota // this kernel charges redirected bytes to the peer
	Scarce                           // there may be no memory for more at the peer: nothing is written to it by redirect
	MemoryLimited                    // nor will there be: the peer's cgroup, of version 1, limits sockets
)

// The sizes of what the programs and the proxy share.
const (
	SizeOfLane   = unsafe.Sizeof(Lane{})
	SizeOfFlight = unsafe.Sizeof(Flight{})
	SizeOfRoute  = unsafe.Sizeof(Route{})
	SizeOfTally  = unsafe.Sizeof(Tally{})
	SizeOfRecord = unsafe.Sizeof(Record{})
	SizeOfBudget = unsafe.Sizeof(Budget{})
	SizeOfState  = unsafe.Sizeof(State{})
)
