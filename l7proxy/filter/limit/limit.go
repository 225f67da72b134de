// Package limit holds requests and connections to local rates, as Envoy's local rate
// limit filters do. Buckets are a workload's: one proxy serves all pods of a node,
// and a limit means to each of them what it would mean to its own sidecar. It asks no
// service, and neither refuses nor counts: package filter does.
package limit

import (
	"math/bits"

	"github.com/dubway/dubway/l7proxy/filter/rate"
	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Decision is what a limit makes of a subject.
type Decision uint8

// The decisions.
const (
	Skipped  Decision = iota // the filter is not enabled for this one
	OK                       // there was a token, wherever one was needed
	Exceeded                 // there was none, but the filter does not enforce that
	Limited                  // there was none: to be refused
	Observed                 // Limited, of a workload that is only observed. Package filter says so
)

// Judge takes tokens for a subject: of each descriptor that describes it, the
// smallest rate first, then of the filter's own bucket. Where one is missing, those
// taken before are not given back, as in Envoy. Rates are the route's. It allocates
// only the first time that a workload comes to a bucket.
func (w *Workload) Judge(l *snapshot.Limit, rates []snapshot.Rate, s *subject.Subject) Decision {
	if !snapshot.Hit(l.Enabled, s.Random) {
		return Skipped
	}
	if len(l.Rates) > 0 {
		rates = l.Rates
	}
	described, ok := false, true
	for i := range l.Descriptors {
		d := &l.Descriptors[i]
		if !describe(rates, l.Stage, d, s) {
			continue
		}
		described = true
		if ok = w.take(d.Bucket, s); !ok {
			break
		}
	}
	if ok && l.Bucket != nil && (l.Always || !described) {
		ok = w.take(l.Bucket, s)
	}
	switch {
	case ok:
		return OK
	case snapshot.Hit(l.Enforced, bits.RotateLeft64(s.Random, 32)): // other bits than the first
		return Limited
	}
	return Exceeded
}

// describe tells whether one of the rates makes the descriptor.
func describe(rates []snapshot.Rate, stage uint32, d *snapshot.Descriptor, s *subject.Subject) bool {
	for i := range rates {
		if rates[i].Stage == stage && makes(rates[i].Actions, d.Entries, s) {
			return true
		}
	}
	return false
}

// makes tells whether the entries that actions make of a subject are these.
func makes(actions []snapshot.RateAction, entries []snapshot.Entry, s *subject.Subject) bool {
	made := 0
	for i := range actions {
		a := &actions[i]
		value, verdict := rate.Entry(a, s)
		switch {
		case verdict == rate.Skipped:
			continue
		case verdict == rate.Missing, made == len(entries), entries[made].Key != a.Key, !value.Equals(entries[made].Value, false):
			return false
		}
		made++
	}
	return made > 0 && made == len(entries)
}
