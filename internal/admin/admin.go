// Package admin is the operators' door to a running dubway-agent or
// dubway-proxy: HTTP and JSON over a unix socket, never over a port. It holds
// the JSON documents (stable lowerCamel fields, versioned by apiVersion), the
// server that each process runs and the client that dubwayctl uses. It gathers
// nothing: each process fills in its own documents.
//
// Both processes answer
//
//	GET  /v1/status     AgentStatus or ProxyStatus
//	GET  /v1/workloads  WorkloadList
//	GET  /metrics       Prometheus text
//
// the agent also
//
//	GET  /v1/unknown    UnknownList
//	GET  /v1/ready      AgentReady; 503 and why not
//
// and the proxy also
//
//	GET  /v1/routes     RouteList
//	GET  /v1/lanes      LaneList
//	POST /v1/explain    ExplainRequest -> Explanation
//	GET  /v1/configdump?pod=POD  one envoy.admin.v3.ConfigDump for each view, secrets redacted
//	GET  /v1/accesslog  AccessLog; POST changes it
//	GET  /v1/nodelanes  NodeLanes; POST LaneChoice changes it
//	GET  /v1/mode       ModeList; POST ModeRequest changes it
//	POST /v1/tap        TapRequest -> one TapEvent a line, while they happen
//	POST /v1/top        TopRequest -> one TopReport a line, after each interval
//
// Whoever may open the socket may ask: its owner, its group and root. Bodies of
// requests are shown to its owner and root alone, and only they change modes.
package admin

import (
	"path/filepath"
	"time"
)

// APIVersion is the version of every document in this package.
const APIVersion = "dubway.io/v1alpha1"

// DefaultStateDir is where both processes keep their sockets.
const DefaultStateDir = "/run/dubway"

// The paths that the processes answer.
const (
	PathStatus    = "/v1/status"
	PathWorkloads = "/v1/workloads"
	PathRoutes    = "/v1/routes"
	PathLanes     = "/v1/lanes"
	PathClusters  = "/v1/clusters"
	PathUnknown   = "/v1/unknown"
	PathReady     = "/v1/ready"
	PathExplain   = "/v1/explain"
	PathDump      = "/v1/configdump"
	PathAccessLog = "/v1/accesslog"
	PathMode      = "/v1/mode"
	PathTap       = "/v1/tap"
	PathTop       = "/v1/top"
	PathMetrics   = "/metrics"
)

// AgentSocket is dubway-agent's admin socket in a state directory.
func AgentSocket(stateDir string) string { return filepath.Join(stateDir, "agent", "admin.sock") }

// ProxySocket is dubway-proxy's admin socket in a state directory.
func ProxySocket(stateDir string) string { return filepath.Join(stateDir, "proxy", "admin.sock") }

// Process is what every running process tells of itself.
type Process struct {
	Release      string    `json:"release"`
	PID          int       `json:"pid"`
	UID          int       `json:"uid"`
	Started      time.Time `json:"started"`
	Uptime       string    `json:"uptime"` // "1h2m3s", for people
	Node         string    `json:"node,omitempty"`
	Capabilities []string  `json:"capabilities"` // effective ones, "CAP_BPF"; empty: none
}

// Error is the body of every answer whose status is not 200.
type Error struct {
	APIVersion string `json:"apiVersion"`
	Error      string `json:"error"`
}
