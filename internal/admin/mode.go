package admin

// ModeList is what GET and POST /v1/mode answer: what the mesh does to each workload.
type ModeList struct {
	APIVersion string       `json:"apiVersion"`
	Items      []ModeStatus `json:"items"`
}

// ModeStatus is the mode of one workload: enforce, observe or off.
type ModeStatus struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Mode      string `json:"mode"`
	By        string `json:"by,omitempty"` // who says so; absent: nobody, it is the default
}

// ModeRequest sets the mode of a pod, "namespace/pod", or of all pods of a namespace,
// "namespace/*", until the proxy ends.
type ModeRequest struct {
	Workload string `json:"workload"`
	Mode     string `json:"mode"` // enforce, observe, off; default: as the pods say themselves
}
