package admin

import (
	"fmt"
	"time"
)

// Collector is how things are with a collector of spans.
type Collector struct {
	Cluster  string    `json:"cluster"`
	Exported uint64    `json:"exported"` // spans that it has taken
	Dropped  uint64    `json:"dropped"`  // dubway_spans_dropped_total has the reasons
	Waiting  int       `json:"waiting"`
	Failing  string    `json:"failing,omitempty"` // why the last export failed
	Since    time.Time `json:"since"`             // it fails, or does not
}

// String says it on one line, for people.
func (c *Collector) String() string {
	text := fmt.Sprintf("%s: %d taken, %d dropped, %d wait", c.Cluster, c.Exported, c.Dropped, c.Waiting)
	if c.Failing != "" {
		text += "; failing since " + c.Since.Format(time.RFC3339)
	}
	return text
}
