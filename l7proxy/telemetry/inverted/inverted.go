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

// Last remembers the counter of the last such call of some that look alike, so that the
// next one costs no look-up. Its zero value remembers none. Not safe for concurrent use.
type Last struct {
	route any
	waits time.Duration
	count *recent.Count
}

// Is tells whether the last call had this route and waited for so long.
func (l *Last) Is(route any, waits time.Duration) bool { return l.route == route && l.waits == waits }

// Keep remembers a counter.
func (l *Last) Keep(route any, waits time.Duration, count *recent.Count) {
	*l = Last{route, waits, count}
}

// Add counts one more.
func (l *Last) Add() { l.count.Add() }
