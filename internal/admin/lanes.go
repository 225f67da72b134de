package admin

import "time"

// The modes of lanes.
const (
	LaneOn      = "on"
	LaneObserve = "observe" // names are learned, and no call takes the lane
	LaneOff     = "off"
)

// The states of a lane.
const (
	LaneOpening = "opening"
	LaneOpen    = "open"
	LaneClosing = "closing"
)

// The ways of a LearnedName.
const (
	WayLane  = "lane"
	WayProxy = "proxy"
)

// LaneList is the answer to /v1/lanes: lanes by number.
type LaneList struct {
	APIVersion string `json:"apiVersion"`
	Mode       string `json:"mode"`             // LaneOn, LaneObserve or LaneOff
	Reason     string `json:"reason,omitempty"` // why it is not on
	// Calls are those that took the lane both ways since the proxy began.
	Calls uint64       `json:"calls"`
	Items []LaneStatus `json:"items"`
}

// LaneStatus is one lane: a consumer's connection whose requests the kernel may route.
// Counts are those of its life.
type LaneStatus struct {
	Lane        uint32    `json:"lane"`
	Workload    string    `json:"workload"` // UID of the consumer
	Consumer    string    `json:"consumer"` // namespace/name of its pod
	Address     string    `json:"address"`  // ip:port of its end
	Destination string    `json:"destination"`
	State       string    `json:"state"`            // LaneOpening, LaneOpen or LaneClosing
	Reason      string    `json:"reason,omitempty"` // why it is closing
	Since       time.Time `json:"since"`            // when it was opened
	Providers   []LaneEnd `json:"providers"`
	InFlight    int       `json:"inFlight"` // requests that wait for their answer
	Requests    uint64    `json:"requests"` // that took the lane
	Answers     uint64    `json:"answers"`  // that took it
	Slow        uint64    `json:"slow"`     // messages of the consumer that went to the proxy
	Returned    uint64    `json:"returned"` // messages of providers that did
	Behind      uint64    `json:"behind"`   // messages that began in the middle of a frame, or where nobody knew
	Full        uint64    `json:"full"`     // requests that found no room
	Scarce      uint64    `json:"scarce"`   // messages that went to the proxy because there may be no memory for them
}

// LaneEnd is a lane's connection to a provider.
type LaneEnd struct {
	Address  string `json:"address"`            // ip:port
	Provider string `json:"provider,omitempty"` // namespace/name of its pod
	Open     bool   `json:"open"`               // requests may go there
}

// LearnedName is a method that a consumer of this node has called, and what the proxy made
// of it.
type LearnedName struct {
	Consumer      string `json:"consumer"` // namespace/name of its pod
	Destination   string `json:"destination"`
	Interface     string `json:"interface"`
	Method        string `json:"method"`
	Version       string `json:"version,omitempty"`
	Serialization string `json:"serialization,omitempty"`
	Route         string `json:"route,omitempty"`  // its name, or its origin
	Way           string `json:"way"`              // WayLane or WayProxy
	Reason        string `json:"reason,omitempty"` // why by the proxy
	// InLane and ByProxy are calls that ended since the proxy began, of all pods with the
	// consumer's labels.
	InLane  uint64 `json:"inLane"`
	ByProxy uint64 `json:"byProxy"`
}

// Share is the share of the name's calls that took the lane, from 0 to 1.
func (n *LearnedName) Share() float64 {
	if all := n.InLane + n.ByProxy; all > 0 {
		return float64(n.InLane) / float64(all)
	}
	return 0
}
