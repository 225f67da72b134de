package admin

import "time"

// TapFilter tells which requests are wanted: those that meet every condition
// that is set.
type TapFilter struct {
	// Pod is a pod of either end: namespace/name, or name alone.
	Pod string `json:"pod,omitempty"`
	// Interface, Method and Exception are names; a * at the beginning or the end
	// stands for anything.
	Interface string `json:"interface,omitempty"`
	Method    string `json:"method,omitempty"`
	Exception string `json:"exception,omitempty"` // class of a business exception
	// Statuses are Dubbo's, by name or number; Results those of dubbo_result.
	Statuses   []string `json:"statuses,omitempty"`
	Results    []string `json:"results,omitempty"`
	SlowerThan string   `json:"slowerThan,omitempty"` // "20ms"
}

// TapRequest asks for requests as they end. The answer is one TapEvent a line,
// until the asker closes its connection.
type TapRequest struct {
	TapFilter

	Limit int `json:"limit,omitempty"` // end after so many; 0: never
	// Bodies asks for arguments and answers, for root and the proxy's own user.
	Bodies bool `json:"bodies,omitempty"`
}

// TapEvent is one request that ended. The first line of an answer has no time:
// it says that the tap is on. Another line without a time tells of drops alone.
type TapEvent struct {
	APIVersion string `json:"apiVersion"`
	// Dropped is how many requests that match are not shown, since the line
	// before that told of any: they came faster than lines are written.
	Dropped uint64 `json:"dropped,omitempty"`

	Time          time.Time `json:"time,omitzero"` // when the request's last byte was read
	Protocol      string    `json:"protocol,omitempty"`
	Reporter      string    `json:"reporter,omitempty"` // source, destination or both
	Consumer      TapPeer   `json:"consumer,omitzero"`
	Provider      TapPeer   `json:"provider,omitzero"`
	Service       string    `json:"service,omitempty"`
	Interface     string    `json:"interface,omitempty"`
	Method        string    `json:"method,omitempty"`
	Generic       bool      `json:"generic,omitempty"` // it came as $invoke or $invokeAsync
	Version       string    `json:"version,omitempty"`
	Application   string    `json:"application,omitempty"` // the consumer's, if the proxy reads it
	RequestID     string    `json:"requestId,omitempty"`   // 64 bits: no JSON number
	Serialization string    `json:"serialization,omitempty"`
	Status        uint8     `json:"status"` // Dubbo's; 0: no answer
	StatusName    string    `json:"statusName,omitempty"`
	Result        string    `json:"result,omitempty"`
	Exception     string    `json:"exception,omitempty"`
	Flags         string    `json:"flags,omitempty"`  // Istio's response_flags
	Reason        string    `json:"reason,omitempty"` // of the flags, in words
	DurationMs    float64   `json:"durationMs"`
	OverheadMs    float64   `json:"overheadMs"` // the mesh's part of the duration
	RequestBytes  int       `json:"requestBytes"`
	ResponseBytes int       `json:"responseBytes"`
	Listener      string    `json:"listener,omitempty"`
	Route         string    `json:"route,omitempty"`
	Cluster       string    `json:"cluster,omitempty"`
	Dialled       string    `json:"dialled,omitempty"` // by the consumer
	SameNode      bool      `json:"sameNode,omitempty"`
	Lane          bool      `json:"lane,omitempty"` // both ways

	// Request and Response are what is behind the frames' headers.
	Request  *TapBody `json:"request,omitempty"`
	Response *TapBody `json:"response,omitempty"`
	// BodiesMissing says that bodies were asked for and not kept: the request
	// began before the tap, or there was no room.
	BodiesMissing bool `json:"bodiesMissing,omitempty"`
}

// TapPeer is one end of a request.
type TapPeer struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Workload  string `json:"workload,omitempty"`
	Address   string `json:"address,omitempty"` // ip:port
}

// TapBody is the body of a frame, or its beginning.
type TapBody struct {
	Serialization uint8  `json:"serialization"` // id
	Size          int    `json:"size"`          // of the whole body, in bytes
	Data          []byte `json:"data"`          // base64
}

// The ways in which a top adds requests up.
const (
	TopByBoth   = "both"   // a row for each method and pair
	TopByMethod = "method" // for each interface and method
	TopByPair   = "pair"   // for each consumer and provider
)

// TopBy returns the values of TopRequest.By.
func TopBy() []string { return []string{TopByBoth, TopByMethod, TopByPair} }

// TopRequest asks for what goes on, added up. The answer is one TopReport a line
// after each interval.
type TopRequest struct {
	Interval string `json:"interval,omitempty"` // "2s"; one second
	By       string `json:"by"`
	Reports  int    `json:"reports,omitempty"` // end after so many; 0: never
	// Pod, Interface and Method are as in TapFilter.
	Pod       string `json:"pod,omitempty"`
	Interface string `json:"interface,omitempty"`
	Method    string `json:"method,omitempty"`
}

// TopReport is every request that ended within one interval.
type TopReport struct {
	APIVersion string    `json:"apiVersion"`
	Time       time.Time `json:"time"`
	Seconds    float64   `json:"seconds"` // the length of the interval
	Items      []TopRow  `json:"items"`   // the busiest first
}

// TopRow is the requests of one method, of one pair or of both. Counts are
// exact; P50Ms and P99Ms are within a thirtieth of themselves. Of requests in the lane
// they are those of the ones that its log tells of, if it is on.
type TopRow struct {
	Interface string `json:"interface,omitempty"`
	Method    string `json:"method,omitempty"`
	Consumer  string `json:"consumer,omitempty"` // namespace/workload, or address
	Provider  string `json:"provider,omitempty"`
	// Reporter tells at which end this proxy saw the requests. Where it saw them
	// at both ends and one after the other, each has a row.
	Reporter       string  `json:"reporter"`
	Calls          uint64  `json:"calls"`
	CallsPerSecond float64 `json:"callsPerSecond"`
	Lane           uint64  `json:"lane"`       // calls that took the lane both ways
	Failed         uint64  `json:"failed"`     // no OK answer reached the consumer
	Exceptions     uint64  `json:"exceptions"` // business exceptions
	P50Ms          float64 `json:"p50Ms"`
	P99Ms          float64 `json:"p99Ms"`
}
