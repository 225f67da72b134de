package admin

import "fmt"

// PathNodeLanes is where the agent is told, by POST of a LaneChoice, whether same-node calls
// take lanes; it answers with NodeLanes.
const PathNodeLanes = "/v1/nodelanes"

// LaneChoice is what the operator wants until the agent ends: auto, on, observe or off.
type LaneChoice struct {
	Mode string `json:"mode"`
}

// NodeLanes is how things are with lanes on a node.
type NodeLanes struct {
	APIVersion string `json:"apiVersion,omitempty"` // of a document of its own
	Choice     string `json:"choice"`               // auto, on, observe or off
	Mode       string `json:"mode"`                 // on, observe or off
	Why        string `json:"why,omitempty"`
	Build      string `json:"build,omitempty"` // of the kernel, as uname says it
	Workloads  int    `json:"workloads"`       // whose sockets may take lanes
	Excluded   int    `json:"excluded"`        // by their annotation
	Open       int    `json:"open"`            // lanes
	Kept       int    `json:"kept"`            // of those, whose sockets outlive the proxy
	Left       int    `json:"left"`            // of those, without a proxy
	// ProxyRefused is why the proxy cannot use their memory.
	ProxyRefused string `json:"proxyRefused,omitempty"`
	// Outcomes are what the programs decided, by name.
	Outcomes map[string]uint64 `json:"outcomes,omitempty"`
}

// String says it in a line.
func (n *NodeLanes) String() string {
	line := n.Mode
	if n.Why != "" {
		line += ": " + n.Why
	}
	if n.Choice != n.Mode {
		line += " (" + n.Choice + ")"
	}
	if n.Mode != "off" || n.Open > 0 {
		line += fmt.Sprintf("; %d open, %d workloads", n.Open, n.Workloads)
	}
	if n.Excluded > 0 {
		line += fmt.Sprintf(", %d excluded", n.Excluded)
	}
	return line
}
