// Package inverted lists the calls whose route allows longer than their consumer
// waits: the provider works on for somebody who has gone. It decides nothing: package
// plan does.
package inverted

import (
	"time"

	"github.com/dubway/dubway/l7proxy/telemetry/recent"
)

// List counts such calls. The zero value is ready. Safe for concurrent use.
type List struct{ recent.List[Key] }

// Key is one kind of call.
type Key struct {
	Consumer  string // namespace/name of the pod
	Interface string
	Method    string
	Route     string        // its name, or where it is
	Allows    time.Duration // the route's timeout
	Waits     time.Duration // the consumer's, as it says in its request
}
