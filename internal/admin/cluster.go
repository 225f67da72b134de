package admin

// ClusterList is the answer to /v1/clusters, by name.
type ClusterList struct {
	APIVersion string          `json:"apiVersion"`
	Items      []ClusterStatus `json:"items"`
}

// ClusterStatus is a cluster as this node's proxy has it.
type ClusterStatus struct {
	Name      string           `json:"name"`
	Kind      string           `json:"kind"`   // "EDS", "STATIC"...
	Policy    string           `json:"policy"` // "ROUND_ROBIN", "RING_HASH"...
	Endpoints []EndpointStatus `json:"endpoints"`
	// Unresolved tells of names that do not resolve at present, and why.
	Unresolved []string `json:"unresolved,omitempty"`
}

// EndpointStatus is one endpoint of a cluster.
type EndpointStatus struct {
	Address  string `json:"address"`
	Hostname string `json:"hostname,omitempty"`
	Locality string `json:"locality,omitempty"` // region/zone/subzone
	Priority uint32 `json:"priority"`
	Weight   uint32 `json:"weight"`
	Healthy  bool   `json:"healthy"` // as the control plane says
	// Unfit: it failed its active health checks, or has not passed one yet. Failure is
	// why its last check failed.
	Unfit   bool   `json:"unfit,omitempty"`
	Failure string `json:"failure,omitempty"`
	Ejected bool   `json:"ejected,omitempty"` // by outlier detection
	// Avoided: the last connect failed, or the provider is about to stop.
	Avoided  bool  `json:"avoided"`
	Failures int   `json:"failures"` // connects, since the last success
	Active   int64 `json:"active"`   // requests in flight
}
