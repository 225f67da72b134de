package snapshot

import (
	"regexp"
	"time"
)

// Retry is a RetryPolicy: which requests are sent again after their try has failed.
// A request for which no connection could be made is sent to another endpoint
// without one.
type Retry struct {
	Num uint32 // tries behind the first
	On  RetryOn
	// Statuses are those of Dubbo that are listed one by one.
	Statuses []byte
	// Exceptions are classes of business exceptions, each a regular expression that
	// must match the whole name.
	Exceptions []*regexp.Regexp
	PerTry     time.Duration // 0: none
	// Base and Max bound the time between two tries.
	Base, Max time.Duration
	// Elsewhere: not at an endpoint that was tried already, while there are others.
	Elsewhere bool
}

// RetryOn is a set of ways in which a try fails.
type RetryOn uint8

// The ways.
const (
	RetryReset       RetryOn = 1 << iota // the connection ended before the answer
	RetryTimeout                         // the time of one try is over
	RetryError                           // statuses of a provider that failed: 70, 80
	RetryUnavailable                     // of one that is overloaded or late: 30, 31, 35, 100
)

// RetryBudget bounds the retries of one cluster that are in flight: to Max, or to a
// share of the requests in flight. Zero is the default share.
type RetryBudget struct {
	Max     uint32
	None    bool // no retries at all
	Percent uint32
	Least   uint32 // however few the requests are
}
