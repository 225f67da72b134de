// Package global is what a service is asked about a request for a global rate limit,
// and what its answer comes to. It asks nobody: package ratelimit does.
package global

import (
	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Question is what one filter asks about one request. Immutable.
type Question struct {
	Filter      *snapshot.Global
	Domain      string
	Descriptors []rate.Descriptor // one at least
	// Enforced says that the request is refused when it is over the limit, Deny that it
	// is when the service cannot tell.
	Enforced, Deny bool
	// Observed says that nothing comes of the answer but a count.
	Observed bool
}

// Answer is what a service says.
type Answer uint8

// The answers.
const (
	WithinLimit Answer = iota
	OverLimit
	NoAnswer // none in time, or one that says neither
)

// Decision is what comes of an answer, for counts.
type Decision uint8

// The decisions.
const (
	OK       Decision = iota
	Limited           // over the limit, and refused
	Exceeded          // over the limit; the filter does not enforce that
	Observed          // over the limit, of a workload that is only observed
	Failed            // no answer
	Allowed           // no answer, and so not refused: counted beside Failed
	numDecisions
)

// Decisions is their number, for tables.
const Decisions = int(numDecisions)

// String returns the value of the metric label result.
func (d Decision) String() string {
	switch d {
	case OK:
		return "ok"
	case Limited:
		return "over_limit"
	case Exceeded:
		return "exceeded"
	case Observed:
		return "would_limit"
	case Failed:
		return "error"
	case Allowed:
		return "failure_mode_allowed"
	case numDecisions:
	}
	return ""
}

// Refuses tells whether the request is refused after an answer, and what is counted.
func (q *Question) Refuses(a Answer) (refused bool, counted []Decision) {
	switch {
	case a == WithinLimit:
		return false, []Decision{OK}
	case a == OverLimit && q.Observed:
		return false, []Decision{Observed}
	case a == OverLimit && q.Enforced:
		return true, []Decision{Limited}
	case a == OverLimit:
		return false, []Decision{Exceeded}
	case q.Deny && !q.Observed:
		return true, []Decision{Failed}
	}
	return false, []Decision{Failed, Allowed}
}
