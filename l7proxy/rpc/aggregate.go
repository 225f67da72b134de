package rpc

// Buckets is the number of buckets of a Tally: those of package telemetry/histogram, the
// last one of what is above all bounds.
const Buckets = 20

// Tally is how many values fell into each bucket, and their sum.
type Tally struct {
	Counts [Buckets]uint64
	Sum    uint64
}

// StatusOK is Dubbo's status of an answer with a value or an exception.
const StatusOK = 20

// Aggregate is calls of one Call that took the lane: their provider answered with a value
// and StatusOK, and no Record of each was made.
type Aggregate struct {
	Serialization uint8
	Duration      Tally // nanoseconds, by the bounds of histogram.Durations
	Request       Tally // bytes, by those of histogram.Sizes
	Response      Tally // bytes, likewise
}

// Calls is how many there are.
func (a *Aggregate) Calls() uint64 {
	var n uint64
	for _, c := range a.Duration.Counts {
		n += c
	}
	return n
}

// Aggregator is an Observer that can be told of calls without a Record of each. Safe for
// concurrent use.
type Aggregator interface {
	// Aggregate counts calls as Observe counts their Records. It does not keep a.
	Aggregate(a *Aggregate)
	// Tells is whether Tell has anybody to tell at present.
	Tells() bool
	// Tell logs and shows a Record of a call that Aggregate counts; it counts nothing.
	Tell(r *Record)
}
