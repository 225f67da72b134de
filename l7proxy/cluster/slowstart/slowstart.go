// Package slowstart says what part of its weight an endpoint has that has just become
// ready: the arithmetic of Envoy's slow start. It knows no endpoint.
package slowstart

import (
	"math"
	"time"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Weights are computed anew so often in a window, but not more often than every least.
const (
	steps = 50
	least = 100 * time.Millisecond
)

// Unit is the weight of 1 while an endpoint of the cluster starts slowly, so that there are
// fractions of it.
const Unit = 1000

// Weight returns what of a weight an endpoint has that has been ready for so long, in Units of
// it. Never 0, unless the weight is.
func Weight(s *snapshot.SlowStart, full uint64, ready time.Duration) uint64 {
	full *= Unit
	if ready >= s.Window || full == 0 {
		return full
	}
	factor := max(float64(ready)/float64(s.Window), 0)
	if s.Aggression != 1 {
		factor = math.Pow(factor, 1/s.Aggression)
	}
	return max(uint64(float64(full)*max(factor, s.Least)), 1)
}

// Interval is the time after which weights are computed anew.
func Interval(s *snapshot.SlowStart) time.Duration { return max(s.Window/steps, least) }
