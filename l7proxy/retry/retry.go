// Package retry decides whether a request is sent again after its try has failed,
// when, and whether its cluster can bear it. It sends nothing and chooses no
// endpoint.
package retry

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Answer tells whether an answer asks for another try: by its status, what that says of
// the provider, and the class of a business exception, "" if it is none or cannot be
// read.
func Answer(p *snapshot.Retry, status byte, says rpc.Outcome, class string) bool {
	if slices.Contains(p.Statuses, status) {
		return true
	}
	switch says {
	case rpc.OutcomeError:
		return p.On&snapshot.RetryError != 0
	case rpc.OutcomeUnavailable:
		return p.On&snapshot.RetryUnavailable != 0
	case rpc.OutcomeNone, rpc.OutcomeOK, rpc.OutcomeConnected, rpc.OutcomeUnreachable,
		rpc.OutcomeReset, rpc.OutcomeTimeout:
	}
	return class != "" && slices.ContainsFunc(p.Exceptions, func(r *regexp.Regexp) bool { return r.MatchString(class) })
}

// Lost tells whether a try that ended without an answer asks for another one.
func Lost(p *snapshot.Retry, why rpc.Why) bool {
	switch why { //nolint:exhaustive // the rest is no try's end
	case rpc.WhyUpstreamClosed:
		return p.On&snapshot.RetryReset != 0
	case rpc.WhyTimeout:
		return p.On&snapshot.RetryTimeout != 0
	}
	return false
}

// Wait returns how long to wait before try n, from 1: a random time below a bound
// that doubles with each, as Envoy does, so that those who failed together do not come
// back together.
func Wait(p *snapshot.Retry, n uint8) time.Duration {
	bound := p.Max
	if shift := n - 1; shift < 16 && p.Base<<shift < p.Max {
		bound = p.Base << shift
	}
	if bound <= 0 {
		return 0
	}
	return rand.N(bound)
}

// The bounds of a cluster's retries in flight, where it gives none: a share of its
// requests in flight, and what is allowed at least (Envoy's retry_budget).
const (
	percent = 20
	least   = 3
)

// Limit is how many retries may be in flight by a budget. Active counts the cluster's
// requests in flight; it is asked where a share of them counts.
func Limit(b snapshot.RetryBudget, active func() int64) int64 {
	if b.Max != 0 {
		return int64(b.Max)
	}
	if b.Percent == 0 && b.Least == 0 {
		b.Percent, b.Least = percent, least
	}
	return max(active()*int64(b.Percent)/100, int64(b.Least))
}

// Budget counts the retries of one cluster that are in flight. Its zero value has
// none. Safe for concurrent use.
type Budget struct{ active atomic.Int64 }

// Take begins a retry if no more than limit are in flight with it; nil if not.
func (b *Budget) Take(limit int64) *Token {
	if b.active.Add(1) > limit {
		b.active.Add(-1)
		return nil
	}
	return &Token{budget: b}
}

// Active is the number of retries in flight.
func (b *Budget) Active() int64 { return b.active.Load() }

// Token is one retry in flight. A nil one is none.
type Token struct {
	budget *Budget
	ended  atomic.Bool
}

// End ends the retry. It may be called more than once.
func (t *Token) End() {
	if t != nil && !t.ended.Swap(true) {
		t.budget.active.Add(-1)
	}
}
