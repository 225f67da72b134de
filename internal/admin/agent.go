package admin

import "time"

// Role is what an agent is among those of its node.
type Role string

// The roles.
const (
	RoleActive  Role = "active"  // it enrols
	RoleStandby Role = "standby" // it gets ready to take over from the active one
	RolePassive Role = "passive" // another took over: it serves what its own proxy has accepted
	RoleLeft    Role = "left"    // the mesh left the node: as passive, and nobody is enrolled
)

// AgentReady is dubway-agent's answer to /v1/ready when it serves.
type AgentReady struct {
	APIVersion string `json:"apiVersion"`
	Role       Role   `json:"role"`
}

// AgentStatus is dubway-agent's answer to /v1/status.
type AgentStatus struct {
	APIVersion string `json:"apiVersion"`
	Process
	Role     Role      `json:"role"`
	Cgroup   string    `json:"cgroup"`
	PinPath  string    `json:"pinPath"`
	Programs []Program `json:"programs"`
	Maps     []Map     `json:"maps"`
	// Counters are the outcomes that the programs counted, by name.
	Counters       map[string]uint64 `json:"counters"`
	ProxyConnected bool              `json:"proxyConnected"`
	ProxyPID       int               `json:"proxyPid,omitempty"`
	// Generation is that of table 0, of the workloads that are in no other.
	Generation uint64          `json:"generation"`
	Tables     []Table         `json:"tables"`
	Workloads  WorkloadSummary `json:"workloads"`
	Kubelet    *Kubelet        `json:"kubelet,omitempty"` // nil if its probes are not to pass
	Lanes      *NodeLanes      `json:"lanes,omitempty"`
	Source     Source          `json:"source"`
	// Problems are sentences that an operator should act on; empty when all is well.
	Problems []string `json:"problems,omitempty"`
	// Conflicts are what gets in the mesh's way on this node, though it runs.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Conflict is one of them. The same are checks of dubwayctl doctor.
type Conflict struct {
	Name   string `json:"name"` // stable, such as "other programs"
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

// Kubelet is where the node's kubelet runs, whose probes pass the inbound listeners.
type Kubelet struct {
	Cgroup string `json:"cgroup,omitempty"`
	PID    int    `json:"pid,omitempty"` // 0 where its cgroup was named
	Passes bool   `json:"passes"`
	Reason string `json:"reason,omitempty"` // why its probes do not pass
}

// Source is where the agent is told of pods.
type Source struct {
	Kind    string `json:"kind"`              // SourceFiles or SourceKubernetes
	From    string `json:"from"`              // directory, or address of the API server
	Synced  bool   `json:"synced"`            // all pods are known
	Waiting string `json:"waiting,omitempty"` // why they are not
}

// String says it in a line.
func (s Source) String() string {
	line := s.Kind + " " + s.From
	if !s.Synced {
		line += ", not known yet"
	}
	return line
}

// The kinds of a Source.
const (
	SourceFiles      = "files"
	SourceKubernetes = "kubernetes"
)

// Program is a loaded BPF program.
type Program struct {
	Name     string `json:"name"`
	ID       uint32 `json:"id"`
	Tag      string `json:"tag"`
	Attached string `json:"attached"` // where; "" when it is not attached
}

// Map is a BPF map. Entries is -1 where the kernel does not count them.
type Map struct {
	Name    string `json:"name"`
	ID      uint32 `json:"id,omitempty"`
	Type    string `json:"type,omitempty"`
	Entries int    `json:"entries"`
	Max     int    `json:"max"`
}

// WorkloadSummary counts the workloads that the agent knows.
type WorkloadSummary struct {
	Enrolled    int `json:"enrolled"`
	NotEnrolled int `json:"notEnrolled"`
}

// WorkloadList is the answer to /v1/workloads.
type WorkloadList struct {
	APIVersion string           `json:"apiVersion"`
	Items      []WorkloadStatus `json:"items"`
}

// WorkloadStatus is one pod of this node, as one process knows it. The agent
// says whether it is enrolled; the proxy says what its connections do.
type WorkloadStatus struct {
	UID            string            `json:"uid"`
	Name           string            `json:"name"`
	Namespace      string            `json:"namespace"`
	Addresses      []string          `json:"addresses"`
	Ports          []uint16          `json:"ports,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Netns          string            `json:"netns,omitempty"`
	NetnsCookie    uint64            `json:"netnsCookie,omitempty"`
	Cgroup         string            `json:"cgroup,omitempty"`
	Enrolled       bool              `json:"enrolled"`
	Reason         string            `json:"reason,omitempty"` // why not, if it is not enrolled
	Connections    Connections       `json:"connections,omitzero"`
	Table          *Table            `json:"table,omitempty"` // that steers it, if one is in force
}

// Table is one of the tables of destinations that are steered.
type Table struct {
	Number     uint32 `json:"number"` // 0: of all workloads that are in no other
	Generation uint64 `json:"generation"`
	Entries    int    `json:"entries"`
	// Unknown is what becomes of connects to what is in no entry: pass, count, which is
	// a dry run, or refuse.
	Unknown   string `json:"unknown"`
	Workloads int    `json:"workloads,omitempty"` // that it steers; in the list of tables only
	// Earlier says that a proxy before the connected one published it.
	Earlier bool `json:"earlier,omitempty"`
}

// UnknownList is the agent's answer to /v1/unknown: by workload, what was last
// connected to first. There is room for some thousands on a node; the counters of
// the outcomes unknown_refused and unknown_counted know all.
type UnknownList struct {
	APIVersion string               `json:"apiVersion"`
	Items      []UnknownDestination `json:"items"`
}

// UnknownDestination is an address in no entry of its workload's table, where the
// table counts or refuses those; and how many connects came to what.
type UnknownDestination struct {
	Workload    string    `json:"workload"` // UID
	Name        string    `json:"name"`
	Namespace   string    `json:"namespace"`
	Destination string    `json:"destination"`
	Passed      uint64    `json:"passed"` // and would have been refused
	Refused     uint64    `json:"refused"`
	Last        time.Time `json:"last"`
}

// Connections counts the open connections of a process or of one workload.
type Connections struct {
	Downstream int `json:"downstream"` // from applications
	Upstream   int `json:"upstream"`   // to providers
}
