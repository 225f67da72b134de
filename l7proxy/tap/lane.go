package tap

import (
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/histogram"
)

// lane is what is known of a row's calls that took the lane: how many there were in the
// wide buckets of metrics, and how long some of them took exactly.
type lane struct {
	coarse [rpc.Buckets]atomic.Uint64
	told   latency
}

// lanes is a lane at rest.
type lanes struct {
	coarse [rpc.Buckets]uint64
	told   [numBuckets]uint64
}

// aggregate is part of watcher.
func (t *top) aggregate(call *rpc.Call, a *rpc.Aggregate) {
	r := t.row(call)
	if r == nil {
		return
	}
	for i, n := range a.Duration.Counts {
		r.lane.coarse[i].Add(n)
	}
	r.calls.Add(a.Calls())
}

// tell is part of watcher.
func (t *top) tell(rec *rpc.Record) {
	if r := t.row(rec.Call); r != nil {
		r.lane.told.add(rec.Duration)
	}
}

// since puts what came since last into now, makes that last, and returns how many calls it is.
func (l *lane) since(last, now *lanes) (calls uint64) {
	for i := range l.coarse {
		n := l.coarse[i].Load()
		now.coarse[i] = n - last.coarse[i]
		last.coarse[i] = n
		calls += now.coarse[i]
	}
	now.told, _ = l.told.since(&last.told)
	return calls
}

// spread adds so many calls to the total ones of counts: as those were distributed that were
// told of or, if none was, as wide buckets have them. Every number may be multiplied by
// one factor, which quantiles do not feel.
func (l *lanes) spread(counts *[numBuckets]uint64, total, calls uint64) (all uint64) {
	var told uint64
	for _, n := range l.told {
		told += n
	}
	switch {
	case calls == 0:
		return total
	case told == 0:
		for i, n := range l.coarse {
			counts[bucket(time.Duration(histogram.Durations.Middle(i)))] += n
		}
		return total + calls
	}
	for i, n := range l.told {
		counts[i] = counts[i]*told + n*calls
	}
	return (total + calls) * told
}
