package admin

import (
	"fmt"
	"time"
)

// ProxyStatus is dubway-proxy's answer to /v1/status.
type ProxyStatus struct {
	APIVersion string `json:"apiVersion"`
	Process
	AgentConnected bool `json:"agentConnected"`
	// Generation is that of the snapshot in use.
	Generation uint64       `json:"generation"`
	Snapshot   SnapshotSize `json:"snapshot"`
	Source     string       `json:"source,omitempty"` // "files /etc/dubway/xds", "control plane istiod.istio-system:15010"
	// ControlPlane is how things are with it; nil where configuration comes from files.
	ControlPlane *ControlPlane `json:"controlPlane,omitempty"`
	// Rejections are the resources whose last version was refused; what they
	// replaced is still in use.
	Rejections  []Rejection `json:"rejections"`
	Workloads   int         `json:"workloads"`
	Connections Connections `json:"connections"`
	AccessLog   bool        `json:"accessLog"`
	Memory      Memory      `json:"memory"`
	// Collectors are told of spans; none where no listener asks for any.
	Collectors []Collector `json:"collectors,omitempty"`
	// Identities are those of the node's pods; none where the agent knows no authority.
	Identities []Identity `json:"identities,omitempty"`
	// StaleAddresses are what consumers still have from their registry although it
	// does not serve them any more, the latest first; a bounded list.
	StaleAddresses []StaleAddress `json:"staleAddresses,omitempty"`
	// InvertedTimeouts are the calls whose route allows longer than their consumer
	// waits, the latest first; a bounded list.
	InvertedTimeouts []InvertedTimeout `json:"invertedTimeouts,omitempty"`
	Problems         []string          `json:"problems,omitempty"`
}

// ControlPlane is how things are with the server that configuration comes from.
type ControlPlane struct {
	Server     string        `json:"server"` // host:port
	Updates    uint64        `json:"updates"`
	Refused    uint64        `json:"refused"` // updates of which something was rejected
	Reconnects uint64        `json:"reconnects"`
	Views      []ControlView `json:"views"`
}

// ControlView is what workloads that see the same are told.
type ControlView struct {
	Key        string     `json:"key"`       // "namespace/serviceaccount label=value ..."
	Node       string     `json:"node"`      // as whom the proxy asks
	Workloads  []string   `json:"workloads"` // UIDs
	Connected  bool       `json:"connected"`
	Since      time.Time  `json:"since"`             // it is connected, or is not
	Reason     string     `json:"reason,omitempty"`  // why it is not
	Updated    *time.Time `json:"updated,omitempty"` // when the last update came; nil: none yet
	Updates    uint64     `json:"updates"`
	Refused    uint64     `json:"refused"` // updates of which something was rejected
	Reconnects uint64     `json:"reconnects"`
	Kept       bool       `json:"kept"` // what holds was read from disk at the start
	// Generation is that of the view; 0: nothing was told yet, and nothing is steered.
	Generation uint64       `json:"generation"`
	Snapshot   SnapshotSize `json:"snapshot"`
	Rejected   int          `json:"rejected"` // resources, at present
	// RouteServers are the servers that have tables of its routes beside the control plane.
	RouteServers []RouteServer `json:"routeServers,omitempty"`
}

// String says it on one line, for people. Why it is away, a problem says.
func (c *ControlPlane) String() string {
	connected := 0
	for i := range c.Views {
		if c.Views[i].Connected {
			connected++
		}
	}
	return fmt.Sprintf("%d of %d views connected; %d updates, %d refused, %d reconnects",
		connected, len(c.Views), c.Updates, c.Refused, c.Reconnects)
}

// Problems are the sentences about views that the control plane does not tell of; none if
// there is no control plane.
func (c *ControlPlane) Problems() []string {
	if c == nil {
		return nil
	}
	var list []string
	for i := range c.Views {
		v := &c.Views[i]
		if !v.Connected {
			list = append(list, v.problem(c.Server))
		}
		for j := range v.RouteServers {
			if problem := v.RouteServers[j].Problem(v.Key); problem != "" {
				list = append(list, problem)
			}
		}
	}
	return list
}

func (v *ControlView) problem(server string) string {
	reason := v.Reason
	if reason == "" {
		reason = "it has not answered yet"
	}
	holds := "what it said last goes on"
	switch {
	case v.Kept:
		holds = "what was kept on disk holds"
	case v.Updated == nil:
		holds = "there is no configuration: their calls go past the mesh"
	}
	return fmt.Sprintf("no control plane at %s for the view %s of %d workloads since %s: %s; %s",
		server, v.Key, len(v.Workloads), v.Since.Format(time.RFC3339), reason, holds)
}

// String says it on one line, for people.
func (v *ControlView) String() string {
	text := "not connected"
	if v.Connected {
		text = "connected"
	}
	text += " since " + v.Since.Format(time.RFC3339) + ", as " + v.Node
	if v.Updated == nil {
		text += "; no update yet"
	} else {
		text += "; last update " + v.Updated.Format(time.RFC3339)
	}
	if v.Kept {
		text += ", what holds was kept on disk"
	}
	return fmt.Sprintf("%s; %d workloads, %d clusters, %d listeners, %d routes, %d rejected", text,
		len(v.Workloads), v.Snapshot.Clusters, v.Snapshot.Listeners, v.Snapshot.Routes, v.Rejected)
}

// InvertedTimeout is a kind of call that its provider may work on longer than its
// consumer waits. The consumer's time holds.
type InvertedTimeout struct {
	Consumer       string    `json:"consumer"` // namespace/name of the pod
	Interface      string    `json:"interface"`
	Method         string    `json:"method"`
	Route          string    `json:"route"`          // its name, or where it is
	RouteMillis    int64     `json:"routeMillis"`    // what the route allows
	ConsumerMillis int64     `json:"consumerMillis"` // what the consumer says that it waits
	Count          uint64    `json:"count"`          // requests
	Last           time.Time `json:"last"`
}

// Memory is what the proxy uses of its limit.
type Memory struct {
	Used  uint64   `json:"used"`           // bytes
	Limit uint64   `json:"limit"`          // bytes; 0: none
	Level string   `json:"level"`          // calm, tight (no new connections) or full
	Shed  []string `json:"shed,omitempty"` // namespace/name of the pods whose requests are refused
}

// StaleAddress is an address that is not the called interface's any more: its pod
// has gone, or it is another pod's. Requests to it went to a live provider, or were
// refused if there is none.
type StaleAddress struct {
	Address   string    `json:"address"` // "10.0.0.1:20880", as it was dialled
	Interface string    `json:"interface"`
	Consumer  string    `json:"consumer"` // namespace/name of the pod
	Count     uint64    `json:"count"`    // requests
	Last      time.Time `json:"last"`
}

// SnapshotSize counts the resources of a snapshot.
type SnapshotSize struct {
	Listeners int `json:"listeners"`
	Routes    int `json:"routes"`
	Clusters  int `json:"clusters"`
	Endpoints int `json:"endpoints"`
}

// Rejection is a resource that was refused.
type Rejection struct {
	File   string `json:"file,omitempty"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Field  string `json:"field,omitempty"` // path of the offending field
	Reason string `json:"reason"`
}

// AccessLog is what GET and POST /v1/accesslog exchange: the share of requests
// that the proxy logs, from 0 (off) to 1. It lasts until the proxy restarts.
type AccessLog struct {
	APIVersion string  `json:"apiVersion"`
	Sample     float64 `json:"sample"`
	// Mesh says that the configuration decides about the calls of which it says something,
	// and Sample is of the others. Otherwise it is of all. A POST with it restores both.
	Mesh bool `json:"mesh"`
}

// RouteList is the answer to /v1/routes, in the order in which they are tried.
type RouteList struct {
	APIVersion string        `json:"apiVersion"`
	Generation uint64        `json:"generation"`
	Items      []RouteStatus `json:"items"`
	// Names are what consumers of this node have called lately, and whether it takes the lane.
	Names []LearnedName `json:"names,omitempty"`
}

// RouteStatus is one route of one listener, or the listener itself when it has
// no route (Path "tcp").
type RouteStatus struct {
	View        string        `json:"view,omitempty"` // whose it is, where workloads see different things
	Listener    string        `json:"listener"`
	Address     string        `json:"address"` // "10.0.0.1:20880", "10.0.0.0/8:*"
	RouteConfig string        `json:"routeConfig,omitempty"`
	VirtualHost string        `json:"virtualHost,omitempty"`
	Domains     []string      `json:"domains,omitempty"`
	Name        string        `json:"name,omitempty"`
	Match       string        `json:"match"`
	Clusters    []RouteTarget `json:"clusters"`
	Origin      string        `json:"origin,omitempty"` // resource and field
	Path        string        `json:"path"`             // "proxy", "tcp"; Names have what takes the lane
}

// RouteTarget is one cluster that a route leads to.
type RouteTarget struct {
	Cluster   string            `json:"cluster"`
	Weight    uint32            `json:"weight"`
	Subset    map[string]string `json:"subset,omitempty"`
	Known     bool              `json:"known"` // false: no such cluster
	Endpoints int               `json:"endpoints"`
	Healthy   int               `json:"healthy"`
}

// ExplainRequest asks what would happen to a call.
type ExplainRequest struct {
	From        string            `json:"from,omitempty"`      // workload: UID, namespace/name or name
	Principal   string            `json:"principal,omitempty"` // SPIFFE identity, without From; "": not authenticated
	To          string            `json:"to"`                  // "ip:port", "host:port" or "host", as the workload's configuration has it
	Interface   string            `json:"interface"`
	Method      string            `json:"method"`
	Group       string            `json:"group,omitempty"`
	Version     string            `json:"version,omitempty"`
	Attachments map[string]string `json:"attachments,omitempty"`
	Arguments   map[int]string    `json:"arguments,omitempty"` // texts, by index from 0
}

// Explanation is the decision on a call and the chain of objects that made it.
type Explanation struct {
	APIVersion string `json:"apiVersion"`
	Generation uint64 `json:"generation"`
	// Destination is the address that is dialled, "ip:port", also where a host was asked for.
	Destination string `json:"destination,omitempty"`
	// Outcome is "route", "tcp" (opaque), "pass" (not steered), "refuse" (by the proxy, with
	// an error reply) or "unreachable" (connect fails).
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason,omitempty"`
	Listener string `json:"listener,omitempty"`
	Route    string `json:"route,omitempty"`  // its name, or its origin
	Origin   string `json:"origin,omitempty"` // resource and field of the route
	Config   string `json:"config,omitempty"` // what it was made of: "virtual-service shop/orders"
	// Share is the percentage of such calls that take the route; what is left
	// takes Otherwise, and what is left then is refused.
	Share     float64       `json:"share,omitempty"`
	Clusters  []RouteTarget `json:"clusters,omitempty"`
	Endpoints []string      `json:"endpoints,omitempty"` // from which one is chosen
	Otherwise []ExplainWay  `json:"otherwise,omitempty"`
	Steps     []ExplainStep `json:"steps"`
}

// ExplainWay is a further route of a call whose first one takes only a fraction.
type ExplainWay struct {
	Route    string        `json:"route,omitempty"`
	Origin   string        `json:"origin,omitempty"`
	Config   string        `json:"config,omitempty"`
	Share    float64       `json:"share"` // percent of such calls
	Clusters []RouteTarget `json:"clusters,omitempty"`
}

// ExplainStep is one link of the chain, in the order of the decision.
type ExplainStep struct {
	Object  string `json:"object"`  // "listener outbound-20880"
	Verdict string `json:"verdict"` // "matches", "no", "chosen", "missing"
	Why     string `json:"why,omitempty"`
}
