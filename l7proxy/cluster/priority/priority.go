// Package priority shares the load among the priorities of a cluster by the health of
// their endpoints, in the arithmetic of Envoy.
package priority

// Level is a priority while its share of the load is computed.
type Level struct {
	Total uint64 // endpoints
	Fit   uint64 // healthy endpoints
	Load  uint64 // percent
	Panic bool   // too few are healthy: all endpoints are used

	health uint64 // Fit of Total in percent, times the overprovisioning factor, at most 100
}

// Share computes Load and Panic of each level as Envoy does (its documentation,
// "priority levels" and "panic threshold"), in the same integer arithmetic:
// load spills to the next priority when health falls below 100, and a level
// panics when fewer than threshold percent of it are healthy, but not while all
// levels together still reach 100.
func Share(levels []Level, factor, threshold uint64) {
	if len(levels) == 0 {
		return
	}
	var available uint64
	for i := range levels {
		l := &levels[i]
		if l.Total > 0 {
			l.health = min(100, factor*l.Fit/l.Total)
		}
		available += l.health
	}
	available = min(available, 100)
	total := false
	if available < 100 {
		total = alarm(levels, min(threshold, 100))
	}
	switch {
	case total:
		shareBySize(levels)
	case available > 0:
		shareByHealth(levels, available)
	}
}

// alarm tells levels to panic, and reports whether all do.
func alarm(levels []Level, threshold uint64) (all bool) {
	all = true
	for i := range levels {
		l := &levels[i]
		// In float, as Envoy: 49.5 % is less than a threshold of 50.
		healthy := 0.0
		if l.Total > 0 {
			healthy = 100 * float64(l.Fit) / float64(l.Total)
		}
		l.Panic = healthy < float64(threshold)
		all = all && l.Panic
	}
	return all
}

// shareByHealth gives every level its part of what is available, and what
// rounding leaves to the first that is healthy.
func shareByHealth(levels []Level, available uint64) {
	left := uint64(100)
	first := -1
	for i := range levels {
		l := &levels[i]
		if first < 0 && l.health > 0 {
			first = i
		}
		l.Load = min(left, l.health*100/available)
		left -= l.Load
	}
	levels[first].Load += left
}

// shareBySize is for when all levels panic: by the number of endpoints, healthy
// or not.
func shareBySize(levels []Level) {
	var sum uint64
	for i := range levels {
		sum += levels[i].Total
	}
	if sum == 0 {
		return
	}
	left := uint64(100)
	first := -1
	for i := range levels {
		l := &levels[i]
		if first < 0 && l.Total > 0 {
			first = i
		}
		l.Load = 100 * l.Total / sum
		left -= l.Load
	}
	levels[first].Load += left
}
